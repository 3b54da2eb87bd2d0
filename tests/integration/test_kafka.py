"""Kafka, against librdkafka's mock cluster: read into a source, published to, and what happens when all breaks."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from connector.config import store as configuration_store
from connector.errors import NotDurable, StreamUnavailable
from connector.streaming import work_on
from connector.streams import outbox
from connector.streams.holder import Holder
from connector.streams.reader import Reader
from connector.streams.writer import Writer
from connector.worker import Worker
from tests.brokers import HEARTBEAT, SESSION, MockKafka
from tests.brokers import kafka as kafka
from tests.conftest import NOON, Shop

CONFIG = """
version: 1
store: {{timezone: UTC, currency: EUR}}
sources:
  site: {{kind: {kind}, secrets: [a-long-secret]{options}}}
streams:
  clicks:
    kind: kafka
    topic: site-clicks
    into: site
    credentials: {{bootstrap: "{bootstrap}"}}
    options: {{group: storecue}}
  warehouse:
    kind: kafka
    topic: storecue-facts
    publish: [events, memberships]
    credentials: {{bootstrap: "{bootstrap}"}}
segments:
  fans: {{name: Fans, when: {{event: Song Played, count: {{">=": 2}}}}}}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.streams.kafka._SESSION", SESSION)
    monkeypatch.setattr("connector.streams.kafka._HEARTBEAT", HEARTBEAT)


class Site(Shop):
    """A StoreCue with streams, whose topics are its own."""

    def __init__(self, folder: Path, kafka: MockKafka, kind: str = "segment_api", options: str = "") -> None:
        self.kafka = kafka
        self.topic, self.facts = f"clicks-{folder.name}", f"facts-{folder.name}"
        self.group = f"group-{folder.name}"
        kafka.topic(self.topic)
        kafka.topic(self.facts)
        text = CONFIG.format(kind=kind, options=options, bootstrap=kafka.bootstrap)
        text = text.replace("site-clicks", self.topic).replace("storecue-facts", self.facts)
        super().__init__(folder, text.replace("group: storecue", f"group: {self.group}"))
        self.works: list[Any] = []

    def reader(self) -> Reader:
        return self._work("clicks")

    def writer(self) -> Writer:
        return self._work("warehouse")

    def _work(self, name: str) -> Any:
        work = work_on(self.services, self.services.configuration().streams[name], self.services.database)
        self.works.append(work)
        return work

    def read(self, reader: Reader, count: int) -> None:
        """Read until `count` records are settled; it fails when they do not come."""
        until(lambda: reader.step(self.time, 0.1), count)

    def committed(self) -> int:
        return self.kafka.committed(self.topic, self.group)

    def kept(self) -> list[tuple[str, str, bytes]]:
        """(key, delivery id, body) of all deliveries in the log, in each partition's order."""
        from connector.inbox.sql import unpack

        with self.services.inbox.read() as connection:
            rows = connection.exec_driver_sql("SELECT key, delivery_id, body FROM delivery ORDER BY part, pos").all()
        return [(key, id_, unpack(body)) for key, id_, body in rows]

    def close(self) -> None:
        for work in self.works:
            work.close()
        super().close()


def until(step: Callable[[], int], count: int, most: int = 300) -> None:
    done = 0
    for _ in range(most):
        done += step()
        if done >= count:
            break
    assert done == count


@pytest.fixture
def site(tmp_path: Path, kafka: MockKafka) -> Iterator[Site]:
    site = Site(tmp_path, kafka)
    yield site
    site.close()


def played(user: str, song: str, **more: Any) -> tuple[str, bytes]:
    event = {"type": "track", "event": "Song Played", "userId": user, "properties": {"song": song}, **more}
    return (user, json.dumps(event).encode())


# --- reading ----------------------------------------------------------------------------------------------------------


def test_records_become_events_of_people_in_the_order_of_their_key(site: Site) -> None:
    site.kafka.produce(site.topic, *(played(f"u{n % 3}", f"song {n}") for n in range(30)))
    site.read(site.reader(), 30)
    kept = site.kept()
    for user in range(3):
        songs = [json.loads(body)["properties"]["song"] for key, _, body in kept if key == f"site/key:u{user}"]
        assert songs == [f"song {n}" for n in range(30) if n % 3 == user]
    assert site.committed() == 30
    site.work()
    assert site.rows("SELECT count(*), count(DISTINCT profile_id) FROM event") == [(30, 3)]
    assert site.segments(1) == {"fans"}


def test_a_crash_between_append_and_commit_repeats_and_changes_nothing(site: Site, monkeypatch) -> None:
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(5)))
    reader = site.reader()
    assert reader.step(site.time, 0.0) == 0
    monkeypatch.setattr(reader._reading, "settle", lambda records: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError):
        until(lambda: reader.step(site.time, 0.1), 5)
    assert site.committed() == 0
    assert len(site.kept()) == 5
    again = site.reader()
    site.read(again, 5)
    assert site.committed() == 5
    assert len(site.kept()) == 10  # in the log twice, under the same ids
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(5,)]


def test_an_id_in_a_header_or_in_the_words_makes_a_repeat_one(site: Site) -> None:
    key, body = played("u1", "a")
    told = json.dumps({**json.loads(body), "messageId": "m-1"}).encode()
    site.kafka.produce(
        site.topic,
        (key, body),
        (key, body),  # two places, two deliveries: somebody may play a song twice
        (key, body, [("Delivery-Id", b"d-1")]),
        (key, body, [("delivery-id", b"d-1")]),
        (key, told),
        (key, told),
    )
    site.read(site.reader(), 6)
    ids = [id_ for _, id_, _ in site.kept()]
    assert ids[2:] == ["d-1", "d-1", "m-1", "m-1"]
    assert [id_.split("/")[0] for id_ in ids[:2]] == [site.topic, site.topic] and ids[0] != ids[1]
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(2,)]  # this source knows a call without an id by its words


def test_poison_goes_to_the_dead_letter_topic_and_holds_up_nobody(site: Site) -> None:
    site.kafka.topic(f"{site.topic}.dlq", 1)
    good = played("u1", "a")
    site.kafka.produce(
        site.topic,
        good,
        ("u1", b"\xff not json"),
        ("u1", b"[]"),
        ("u1", json.dumps({"type": "track", "event": "x", "userId": "u1", "text": "x" * 40_000}).encode()),
        ("u1", good[1], [("content-encoding", b"br")]),
        ("u1", None),
        played("u1", "b"),
    )
    reader = site.reader()
    site.read(reader, 7)
    assert site.committed() == 7
    assert [json.loads(body)["properties"]["song"] for _, _, body in site.kept()] == ["a", "b"]
    assert dict(reader.counts) == {
        "kept": 2, "empty": 1, "not_json": 1, "not_an_object": 1, "too_large": 1, "content_encoding": 1,
    }  # fmt: skip
    dead = site.kafka.consume(f"{site.topic}.dlq", 4, 1)
    told = [dict(message.headers()) for message in dead]
    assert [one["storecue-reason"] for one in told] == [
        b"not_json",
        b"not_an_object",
        b"too_large",
        b"content_encoding",
    ]
    assert dead[0].value() == b"\xff not json" and dead[0].key() == b"u1"
    assert told[0]["storecue-place"].decode().startswith(f"{site.topic}/")
    assert told[3]["content-encoding"] == b"br"


def test_poison_that_the_dead_letter_topic_refuses_is_kept_here(site: Site) -> None:
    site.kafka.topic(f"{site.topic}.dlq", 1)
    site.kafka.refuse(f"{site.topic}.dlq", 29)  # TOPIC_AUTHORIZATION_FAILED
    site.kafka.produce(site.topic, ("u1", b"{{"), played("u1", "b"))
    site.read(site.reader(), 2)
    rows = site.rows("SELECT kind, origin, reason, state, CAST(body AS TEXT) FROM dead_letter")
    assert rows == [("stream", "clicks", "not_json", "open", "{{")]
    assert site.committed() == 2


def test_a_record_larger_than_a_delivery_may_be_is_refused(site: Site, monkeypatch) -> None:
    site.kafka.topic(f"{site.topic}.dlq", 1)
    site.kafka.produce(site.topic, ("u1", b"x" * (site.services.settings.max_body // 16)), played("u1", "b"))
    arrival = site.reader()._arrival()
    monkeypatch.setattr("connector.streaming._arrival", lambda *_: type(arrival)("site", arrival.source, "", 100_000))
    reader = site.reader()
    site.read(reader, 2)
    assert reader.counts["too_large"] == 1 and reader.counts["kept"] == 1


def test_a_log_that_refuses_stops_the_reading_and_what_was_read_is_held(site: Site, monkeypatch) -> None:
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(4)))
    reader = site.reader()
    log, refusals = site.services.log, []

    def refuse(items: Any, timeout: float) -> None:
        refusals.append(len(items))
        raise NotDurable("the disk is full")

    monkeypatch.setattr(log, "append", refuse)
    for _ in range(100):
        reader.step(site.time, 0.1)
        if len(refusals) >= 2:
            break
    assert len(refusals) == 2 and reader.resting == "the disk is full"
    assert site.committed() == 0 and site.kept() == []
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(4, 6)))
    monkeypatch.undo()
    site.read(reader, 6)
    assert [json.loads(body)["properties"]["song"] for _, _, body in site.kept()] == [f"song {n}" for n in range(6)]
    assert site.committed() == 6 and reader.resting == ""


def test_a_partition_that_goes_to_another_member_loses_nothing(site: Site) -> None:
    """Two members: while one holds records that the log refuses, the other joins and is given half of the topic."""
    site.kafka.produce(site.topic, *(played(f"u{n}", "a") for n in range(40)))
    first, second = site.reader(), site.reader()
    site.read(first, 40)
    done = 0
    for n in range(2_000):  # a rebalance takes seconds, and more where the machine is busy
        if n == 3:
            site.kafka.produce(site.topic, *(played(f"u{m}", "b") for m in range(40)))
        done += first.step(site.time, 0.02) + second.step(site.time, 0.02)
        if done >= 40 and len(first._reading._ours) == len(second._reading._ours) == 1:
            break
    assert len(first._reading._ours) == len(second._reading._ours) == 1
    second.close()
    site.kafka.produce(site.topic, *(played(f"u{m}", "c") for m in range(40)))
    for _ in range(2_000):
        done += first.step(site.time, 0.02)
        if site.committed() == 120:
            break
    assert site.committed() == 120
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(120,)]


def test_a_broker_that_is_away_is_told_and_comes_back(site: Site) -> None:
    site.kafka.produce(site.topic, played("u1", "a"))
    reader = site.reader()
    site.read(reader, 1)
    site.kafka.down()
    try:
        with pytest.raises(StreamUnavailable, match="no broker answers"):
            for _ in range(100):
                reader.step(site.time, 0.1)
        with pytest.raises(StreamUnavailable, match="no broker answers"):
            reader.step(site.time, 0.1)
    finally:
        site.kafka.up()
    site.kafka.produce(site.topic, played("u1", "b"))
    for _ in range(300):
        try:
            if reader.step(site.time, 0.1):
                break
        except StreamUnavailable:
            continue
    assert site.committed() == 2


def test_cloud_events_structured_and_binary(tmp_path: Path, kafka: MockKafka) -> None:
    site = Site(tmp_path, kafka, "cloudevents")
    try:
        event = {"specversion": "1.0", "id": "e-1", "source": "/player", "type": "Song Played"}
        data = {"email": "ada@example.com", "song": "100 % yours"}
        structured = json.dumps({**event, "data": data}).encode()
        binary = [(f"ce_{name}", value.encode()) for name, value in {**event, "id": "e 2 %41"}.items()]
        kafka.produce(
            site.topic,
            ("ada", structured, [("content-type", b"application/cloudevents+json; charset=UTF-8")]),
            ("ada", structured),
            ("ada", json.dumps(data).encode(), [*binary, ("content-type", b"application/json")]),
        )
        site.read(site.reader(), 3)
        site.work()
        assert site.rows("SELECT name FROM event ORDER BY id") == [("Song Played",)] * 2
        assert site.rows("SELECT count(*) FROM dead_letter") == [(0,)]
        assert {id_.partition(":")[0] for _, id_, _ in site.kept()} == {"e-1", "e 2 %41"}
    finally:
        site.close()


def test_any_json_by_the_generic_mapping(tmp_path: Path, kafka: MockKafka) -> None:
    options = ", options: {event: Song Played, at: $.when, person: {email: $.who}, properties: {song: $.song}}"
    site = Site(tmp_path, kafka, "generic", options)
    try:
        words = {"who": "ada@example.com", "song": "a", "when": "2026-11-18T10:00:00Z"}
        kafka.produce(site.topic, (None, json.dumps(words).encode()), ("ada@example.com", json.dumps(words).encode()))
        site.read(site.reader(), 2)
        keys = [key for key, _, _ in site.kept()]
        assert not any("@" in key for key in keys)  # keys are logged
        site.work()
        assert site.rows("SELECT count(*), count(DISTINCT profile_id) FROM event") == [(2, 1)]
    finally:
        site.close()


# --- publishing -------------------------------------------------------------------------------------------------------

SCHEMA = json.loads((Path(outbox.__file__).parent / "published.schema.json").read_text())


def published(site: Site, count: int) -> list[tuple[str, dict[str, Any]]]:
    messages = site.kafka.consume(site.facts, count)
    found = [(message.key().decode(), json.loads(message.value())) for message in messages]
    for key, body in found:
        jsonschema.validate(body, SCHEMA)
        assert body["subject"] == key
    return found


def test_events_and_memberships_are_published_in_each_persons_order(site: Site) -> None:
    site.kafka.produce(site.topic, *(played(f"u{n % 2}", f"song {n}", messageId=f"m{n}") for n in range(8)))
    site.read(site.reader(), 8)
    site.work()
    writer = site.writer()
    until(lambda: writer.step(site.time, 0), 10)
    assert site.rows("SELECT count(*) FROM outbox") == [(0,)]
    told = published(site, 10)
    for person in ("1", "2"):
        of_one = [body for key, body in told if key == person]
        songs = [body["data"]["properties"]["song"] for body in of_one if body["type"] == "storecue.event"]
        assert songs == [f"song {n}" for n in range(8) if str(n % 2 + 1) == person]
        assert of_one[-1]["type"] == "storecue.segment.entered"
        assert of_one[-1]["data"] == {
            "profile_id": int(person), "segment": "fans", "in": True, "because": of_one[-1]["data"]["because"],
        }  # fmt: skip
        assert of_one[-1]["data"]["because"]


def test_a_repeated_event_is_published_once(site: Site) -> None:
    site.kafka.produce(site.topic, *([played("u1", "a", messageId="m1")] * 3))
    site.read(site.reader(), 3)
    site.work()
    assert site.rows("SELECT count(*) FROM outbox") == [(1,)]
    with site.services.inbox.tx() as tx:
        tx.exec_driver_sql("UPDATE delivery SET delivery_id = delivery_id || '-again', pos = pos + 100")
        tx.exec_driver_sql("UPDATE log_head SET head = head + 100")
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(1,)]
    assert site.rows("SELECT count(*) FROM outbox") == [(1,)]


def test_a_crash_between_publishing_and_dropping_publishes_the_same_again(site: Site, monkeypatch) -> None:
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(3)))
    site.read(site.reader(), 3)
    site.work()
    writer = site.writer()
    monkeypatch.setattr("connector.streams.store.drop", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError):
        writer.step(site.time, 0)
    monkeypatch.undo()
    assert site.rows("SELECT count(*) FROM outbox") == [(4,)]
    until(lambda: writer.step(site.time, 0), 4)
    told = [body["id"] for _, body in published(site, 8)]
    assert told[:4] == told[4:] and len(set(told)) == 4


def test_a_broker_that_is_away_keeps_the_outbox(site: Site, monkeypatch) -> None:
    monkeypatch.setattr("connector.streams.kafka._ANSWER", 0.5)
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(3)))
    site.read(site.reader(), 3)
    site.work()
    writer = site.writer()
    site.kafka.down()
    try:
        with pytest.raises(StreamUnavailable):
            writer.step(site.time, 0)
        assert site.rows("SELECT count(*) FROM outbox") == [(4,)]
        assert writer.lag().records == 4
    finally:
        site.kafka.up()
    done = 0
    for _ in range(100):
        try:
            done += writer.step(site.time, 0)
        except StreamUnavailable:
            continue
        if done >= 4:
            break
    ids = [body["id"] for _, body in published(site, done)]
    assert done == 4 and len(set(ids)) == 4
    assert site.rows("SELECT count(*) FROM outbox") == [(0,)]


def test_what_the_broker_will_never_take_is_a_dead_letter(site: Site) -> None:
    site.kafka.produce(site.topic, played("u1", "a"))
    site.read(site.reader(), 1)
    site.work()
    site.kafka.refuse_next(10)  # MSG_SIZE_TOO_LARGE
    writer = site.writer()
    until(lambda: writer.step(site.time, 0), 1)
    assert site.rows("SELECT count(*) FROM outbox") == [(0,)]
    ((kind, origin, reason, body),) = site.rows("SELECT kind, origin, reason, CAST(body AS TEXT) FROM dead_letter")
    assert (kind, origin, reason) == ("stream", "warehouse", "refused")
    assert json.loads(body)["data"]["properties"]["song"] == "a"


def test_the_filling_of_a_segment_and_its_end_are_published(site: Site) -> None:
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(2)))
    site.read(site.reader(), 2)
    site.work()
    with site.services.database.tx() as tx:
        tx.exec_driver_sql("DELETE FROM outbox")
    config = site.services.configuration()
    assert config.streams["clicks"].options["group"] == site.group
    text = CONFIG.format(kind="segment_api", options="", bootstrap=site.kafka.bootstrap)
    text = text.replace("site-clicks", site.topic).replace("storecue-facts", site.facts)
    site.configure(text.replace("fans: {name: Fans", "listeners: {name: Listeners").replace('">=": 2', '">=": 1'))
    site.work()
    bodies = [json.loads(body) for (body,) in site.rows("SELECT body FROM outbox ORDER BY id")]
    assert {(body["data"]["segment"], body["data"]["in"]) for body in bodies} == {("fans", False), ("listeners", True)}
    for body in bodies:
        jsonschema.validate(body, SCHEMA)


def test_without_a_stream_that_publishes_nothing_is_put_in_the_outbox(site: Site) -> None:
    text = CONFIG.format(kind="segment_api", options="", bootstrap=site.kafka.bootstrap)
    text = text.replace("site-clicks", site.topic)
    before, _, after = text.partition("  warehouse:")
    site.kafka.produce(site.topic, played("u1", "a"))
    site.read(site.reader(), 1)
    site.work()
    assert site.rows("SELECT count(*) FROM outbox") == [(1,)]
    site.configure(before + after.partition("storecue-facts")[2].partition("\n")[2].partition("segments:")[1]
                   + after.partition("segments:")[2])  # fmt: skip
    assert site.rows("SELECT count(*) FROM outbox") == [(0,)]
    site.kafka.produce(site.topic, played("u1", "b"))
    reader = site.reader()
    until(lambda: reader.step(site.time, 0.1), 2)  # the group is another one now
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(2,)]
    assert site.rows("SELECT count(*) FROM outbox") == [(0,)]


# --- the thread -------------------------------------------------------------------------------------------------------


def test_a_holder_tells_how_it_stands_and_stops_at_once(site: Site, tmp_path: Path) -> None:
    site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(3)))
    config = site.services.configuration().streams["clicks"]
    turns = [site.services.turns.of("stream", "clicks") for _ in range(2)]
    holder = Holder("clicks", lambda: work_on(site.services, config, turns[0].database), turns[0])
    stop = threading.Event()
    thread = threading.Thread(target=holder.run, args=(stop, lambda: NOON))
    thread.start()
    for _ in range(200):
        if site.committed() == 3:
            break
    assert not turns[1].take()
    stop.set()
    holder.wake.set()
    thread.join(5)
    assert not thread.is_alive() and turns[1].take()
    turns[1].give_back()
    assert site.rows("SELECT stream, state, message, at FROM stream_standing") == [("clicks", "active", "", NOON)]
    assert site.rows("SELECT label, count FROM counter WHERE name = 'stream_read'") == [("clicks/kept", 3)]


def test_the_worker_reads_works_off_and_publishes_and_stops_within_seconds(site: Site) -> None:
    worker = Worker(site.services, lambda: NOON)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        site.kafka.produce(site.topic, *(played("u1", f"song {n}") for n in range(3)))
        told = published(site, 4)
    finally:
        worker.stop()
        thread.join(10)
    assert not thread.is_alive()
    assert [body["type"] for _, body in told] == ["storecue.event"] * 3 + ["storecue.segment.entered"]
    assert site.committed() == 3


def test_a_worker_stops_within_seconds_while_the_broker_is_away(site: Site) -> None:
    site.kafka.down()
    worker = Worker(site.services, lambda: NOON)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for _ in range(100):
            if site.rows("SELECT state FROM stream_standing WHERE stream = 'clicks' AND state = 'failing'"):
                break
            thread.join(0.1)
        assert site.rows("SELECT state FROM stream_standing WHERE stream = 'clicks'") == [("failing",)]
    finally:
        worker.stop()
        thread.join(10)
        site.kafka.up()
    assert not thread.is_alive()


def test_a_holder_tells_what_is_wrong_and_goes_on(site: Site, tmp_path: Path) -> None:
    attempts = []

    def open_() -> Any:
        attempts.append(1)
        raise StreamUnavailable("the broker refuses the login", reason="unauthorized")

    holder = Holder("clicks", open_, site.services.turns.of("stream", "clicks"))
    assert [holder.step(lambda: NOON) for _ in range(3)] == [0.5, 1.0, 2.0]
    assert site.rows("SELECT state, message FROM stream_standing") == [("failing", "the broker refuses the login")]
    assert site.rows("SELECT label, count FROM counter WHERE name = 'stream_errors'") == [("clicks/unauthorized", 3)]
    holder.close(NOON)


def test_credentials_are_kept_encrypted(site: Site) -> None:
    (definition,) = site.rows("SELECT definition FROM config_object WHERE kind = 'stream' AND name = 'clicks'")
    assert site.kafka.bootstrap not in definition[0] and "enc:" in definition[0]
    with site.services.database.read() as connection:
        assert configuration_store.load(connection).streams["clicks"].topic == site.topic
