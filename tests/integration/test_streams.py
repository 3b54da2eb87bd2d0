"""What is around a stream whatever its broker: configuration, status, metrics, doctor, dead letters tried again."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from connector.config.export import to_yaml
from connector.config.plan import diff, render
from connector.config.schema import configuration_from
from connector.config.yaml_file import InvalidConfiguration, parse
from connector.doctor import checks
from connector.domain import Configuration
from connector.errors import RejectedDelivery
from connector.reporting.status import status
from connector.streams import store
from connector.streams.arrival import arrival_of
from connector.streams.port import Lag, Record, Row
from connector.web.metrics import Metrics
from tests.brokers import MockKafka
from tests.conftest import NOON, Shop

CONFIG = """
version: 1
sources:
  site: {kind: segment_api, secrets: [a-long-secret]}
streams:
  clicks:
    kind: kafka
    topic: site-clicks
    into: site
    credentials: {bootstrap: "127.0.0.1:9", username: reader, password: a-canary-password}
    options: {group: storecue, security: sasl_plaintext, mechanism: PLAIN}
  facts:
    kind: kinesis
    topic: storecue-facts
    publish: [events, memberships]
    options: {region: eu-west-1}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    shop = Shop(tmp_path, CONFIG)
    yield shop
    shop.close()


def test_a_file_written_back_means_the_same() -> None:
    configuration = configuration_from(parse(CONFIG))
    assert configuration_from(parse(to_yaml(configuration))) == configuration
    shown = render(diff(Configuration(), configuration))
    assert "+ stream clicks" in shown and "credentials.password: (a secret)" in shown
    assert "a-canary-password" not in shown


@pytest.mark.parametrize(
    ("written", "instead", "pointer", "words"),
    [
        ("into: site", "into: sites", "/streams/clicks/into", 'did you mean "site"?'),
        ("into: site", "publish: [orders]", "/streams/clicks/publish/0", "is not known"),
        ("into: site", "publish: [events]\n    into: site", "/streams/clicks", "one of the two"),
        ("    into: site\n", "", "/streams/clicks", "one of the two"),
        ("kind: kafka", "kind: kafca", "/streams/clicks/kind", 'did you mean "kafka"?'),
        ("bootstrap:", "bootstrp:", "/streams/clicks/credentials/bootstrap", "is missing"),
        ("topic: site-clicks", 'topic: "site clicks"', "/streams/clicks/topic", "must look like"),
        ("mechanism: PLAIN", "mechanism: MAGIC", "/streams/clicks/options/mechanism", "must look like"),
        ("region: eu-west-1", "regoin: eu-west-1", "/streams/facts/options/regoin", 'did you mean "region"?'),
        ("bootstrap: \"127", "bootstrap: \"$KAFKA\", x: \"127", "/streams/clicks/credentials/bootstrap", "env:"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_told_at_its_place(written: str, instead: str, pointer: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as told:
        configuration_from(parse(CONFIG.replace(written, instead)))
    assert any(pointer in line and words in line for line in told.value.message.split("\n")), told.value.message


def test_status_and_metrics_show_lag_and_errors(shop: Shop) -> None:
    configuration = shop.services.configuration()

    def read() -> list[dict[str, Any]]:
        with shop.services.database.read() as state:
            return status(state, shop.services.log, shop.services.turns, [], configuration.streams, shop.time)[
                "streams"
            ]

    clicks, facts = read()
    assert (clicks["state"], clicks["lag"], clicks["direction"]) == ("unknown", None, "read")
    assert (facts["state"], facts["lag"], facts["direction"]) == ("unknown", 0, "publish")
    with shop.services.database.tx() as tx:
        store.tell(tx, "clicks", "failing", "no broker answers", Lag(records=1_207), NOON)
        store.put(tx, [{"stream": "facts", "profile_id": 1, "at": NOON, "body": "{}"}])
        tx.exec_driver_sql("INSERT INTO counter VALUES ('stream_read', 'clicks/not_json', 2, 0)")
        tx.exec_driver_sql("INSERT INTO counter VALUES ('stream_errors', 'clicks/unreachable', 3, 0)")
    clicks, facts = read()
    assert (clicks["state"], clicks["message"], clicks["lag"]) == ("failing", "no broker answers", 1_207)
    assert (clicks["counts"], clicks["errors"], clicks["told_at"]) == ({"not_json": 2}, {"unreachable": 3}, NOON)
    assert facts["lag"] == 1
    shown = Metrics(shop.services, lambda: shop.time).exposition().decode()
    assert 'storecue_stream_lag{stream="clicks"} 1207.0' in shown
    assert 'storecue_stream_lag{stream="facts"} 1.0' in shown
    assert 'storecue_stream_active{stream="clicks"} 0.0' in shown
    assert 'storecue_stream_read_total{outcome="not_json",stream="clicks"} 2.0' in shown
    assert 'storecue_stream_errors_total{reason="unreachable",stream="clicks"} 3.0' in shown


def test_a_stream_that_is_removed_is_forgotten(shop: Shop) -> None:
    with shop.services.database.tx() as tx:
        store.tell(tx, "facts", "active", "", Lag(), NOON)
        store.put(tx, [{"stream": "facts", "profile_id": 1, "at": NOON, "body": "{}"}])
        store.set_positions(tx, "clicks", "site-clicks", {"0": ("12", False)})
    before, _, _ = CONFIG.partition("  facts:")
    shop.configure(before)
    assert shop.rows("SELECT count(*) FROM outbox") == shop.rows("SELECT count(*) FROM stream_standing") == [(0,)]
    assert shop.rows("SELECT shard FROM stream_position") == [("site-clicks/0",)]


def test_an_erased_person_is_taken_out_of_the_outbox() -> None:
    from connector.privacy.store import PERSONAL

    assert "outbox" in {table.name for table in PERSONAL}


def test_dead_letters_of_streams_are_tried_again(shop: Shop) -> None:
    def record(place: str, body: bytes) -> Record:
        return Record(place, "0", "ada@example.com", {"x": "y"}, body, NOON)

    event = {"type": "track", "event": "Song Played", "userId": "u1"}
    error = RejectedDelivery("no", reason="not_json")
    with shop.services.database.tx() as tx:
        poison = [(record("a/0/1/1", json.dumps(event).encode()), error), (record("a/0/2/1", b"{"), error)]
        store.bury_records(tx, "clicks", poison, NOON)
        store.bury_records(tx, "clicks", poison, NOON)  # a crash before the commit buries them once more
        store.bury_records(tx, "gone", poison[:1], NOON)
        row = Row(1, "7", json.dumps({"id": "e1", "subject": "7"}))
        store.bury_rows(tx, "facts", [(row, "too large")], NOON)
    letters = [id_ for (id_,) in shop.rows("SELECT id FROM dead_letter ORDER BY id")]
    assert len(letters) == 4
    assert shop.services.replay_dead_letters(letters, now=NOON) == 2
    assert shop.rows("SELECT origin, reference, state FROM dead_letter ORDER BY id") == [
        ("clicks", "a/0/1/1", "replayed"),
        ("clicks", "a/0/2/1", "open"),
        ("gone", "a/0/1/1", "open"),
        ("facts", "e1", "replayed"),
    ]
    assert shop.rows("SELECT stream, profile_id FROM outbox") == [("facts", 7)]
    shop.work()
    assert shop.rows("SELECT name FROM event") == [("Song Played",)]
    with shop.services.inbox.read() as connection:
        (key,) = connection.exec_driver_sql("SELECT key FROM delivery").scalars()
    assert key.startswith("site/email:") and "@" not in key


def doctor(shop: Shop) -> dict[str, Any]:
    return {check.name: check for check in checks(shop.services.settings, now=NOON, environ={})}


def test_the_doctor_tries_the_broker(shop: Shop, monkeypatch) -> None:
    monkeypatch.setattr("connector.doctor._ANSWER_S", 1.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    told = doctor(shop)
    assert not told["stream clicks"].ok and "no broker answers" in told["stream clicks"].message
    assert "this machine reaches it" in told["stream clicks"].fix
    assert not told["stream facts"].ok and "no credentials" in told["stream facts"].message
    assert "a-canary-password" not in "".join(check.message + check.fix for check in told.values())
    kafka = MockKafka()
    try:
        kafka.topic("site-clicks", 3)
        open_ = CONFIG.replace("127.0.0.1:9", kafka.bootstrap)
        shop.configure(open_.replace("{group: storecue, security: sasl_plaintext, mechanism: PLAIN}", "{}"))
        told = doctor(shop)
        assert told["stream clicks"].ok and told["stream clicks"].message == "topic site-clicks has 3 partitions"
        assert "1 source" in told["configuration"].message and "2 streams" in told["configuration"].message
    finally:
        kafka.close()


@pytest.mark.parametrize(
    ("library", "stream", "extra"), [("confluent_kafka", "clicks", "kafka"), ("boto3", "facts", "kinesis")]
)
def test_a_library_that_is_not_installed_is_named(
    shop: Shop, monkeypatch, library: str, stream: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    found = doctor(shop)[f"stream {stream}"]
    assert not found.ok and "is not installed" in found.message
    assert f"pip install 'storecue[{extra}]'" in found.fix


def test_two_profiles_that_become_one_are_told(shop: Shop) -> None:
    for user, anonymous in (("u1", "a-1"), ("u2", "a-2")):
        event = {"type": "track", "event": "Song Played", "userId": user, "anonymousId": anonymous}
        record = Record(f"a/0/{user}/1", "0", user, {}, json.dumps(event).encode(), NOON)
        arrival = arrival_of(shop.services.configuration(), "site", shop.services.sources()["site"][0], 1_000_000)
        shop.services.log.append(arrival.deliveries(record, NOON))
    shop.work()
    with shop.services.database.tx() as tx:
        assert shop.worker.pipeline.merge(tx, 1, 2, "a person said so", NOON) == 1
    bodies = [json.loads(body) for (body,) in shop.rows("SELECT body FROM outbox ORDER BY id")]
    assert [body["type"] for body in bodies] == ["storecue.event", "storecue.event", "storecue.profile.merged"]
    assert bodies[2]["data"] == {"profile_id": 1, "merged": 2, "because": "a person said so"}
    schema = json.loads((Path(store.__file__).parent / "published.schema.json").read_text())
    for body in bodies:
        jsonschema.validate(body, schema)
