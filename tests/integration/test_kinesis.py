"""Kinesis, against moto's server: shards and their children read, positions kept, throttling, publishing in order."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from connector.errors import NotDurable, StreamUnavailable
from connector.streaming import work_on
from connector.streams.port import Row
from tests.brokers import MockKinesis
from tests.conftest import Shop

CONFIG = """
version: 1
store: {{timezone: UTC, currency: EUR}}
sources:
  site: {{kind: segment_api, secrets: [a-long-secret]}}
streams:
  clicks:
    kind: kinesis
    topic: {topic}
    into: site
    credentials: {{access_key_id: an-access-key, secret_access_key: a-secret-key}}
    options: {{region: eu-west-1, endpoint: "{endpoint}", start: {start}}}
  warehouse:
    kind: kinesis
    topic: {facts}
    publish: [events, memberships]
    credentials: {{access_key_id: an-access-key, secret_access_key: a-secret-key}}
    options: {{region: eu-west-1, endpoint: "{endpoint}"}}
segments:
  fans: {{name: Fans, when: {{event: Song Played, count: {{">=": 2}}}}}}
"""


@pytest.fixture(scope="module")
def kinesis() -> Iterator[MockKinesis]:
    kinesis = MockKinesis()
    yield kinesis
    kinesis.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK_EVERY", "_IDLE", "_BETWEEN"):
        monkeypatch.setattr(f"connector.streams.kinesis.{name}", 0.0)


class Site(Shop):
    """A StoreCue with two streams of its own."""

    def __init__(self, folder: Path, kinesis: MockKinesis, start: str = "earliest", shards: int = 1) -> None:
        self.kinesis = kinesis
        self.topic, self.facts = f"clicks-{folder.name}", f"facts-{folder.name}"
        kinesis.stream(self.topic, shards)
        kinesis.stream(self.facts, 2)
        words = {"topic": self.topic, "facts": self.facts, "endpoint": kinesis.endpoint, "start": start}
        super().__init__(folder, CONFIG.format(**words))

    def work_on(self, name: str) -> Any:
        return work_on(self.services, self.services.configuration().streams[name], self.services.database)

    def read(self, reader: Any, count: int) -> None:
        done = 0
        for _ in range(200):
            done += reader.step(self.time, 0.0)
            if done >= count:
                break
        assert done == count

    def songs(self, user: str | None = None) -> list[str]:
        from connector.inbox.sql import unpack

        with self.services.inbox.read() as connection:
            rows = connection.exec_driver_sql("SELECT key, body FROM delivery ORDER BY part, pos").all()
        return [
            json.loads(unpack(body))["properties"]["song"]
            for key, body in rows
            if user in (None, key[-len(user or "") :])
        ]

    def positions(self) -> dict[str, tuple[str, int]]:
        rows = self.rows("SELECT shard, sequence, finished FROM stream_position WHERE stream = 'clicks'")
        return {shard.partition("/")[2]: (sequence, finished) for shard, sequence, finished in rows}


@pytest.fixture
def site(tmp_path: Path, kinesis: MockKinesis) -> Iterator[Site]:
    site = Site(tmp_path, kinesis)
    yield site
    site.close()


def played(user: str, song: str) -> tuple[str, bytes]:
    event = {"type": "track", "event": "Song Played", "userId": user, "properties": {"song": song}}
    return (user, json.dumps(event).encode())


def test_records_become_events_and_a_restart_goes_on_after_the_last(site: Site) -> None:
    site.kinesis.put(site.topic, *(played("u1", f"song {n}") for n in range(5)))
    reader = site.work_on("clicks")
    site.read(reader, 5)
    reader.close()
    site.kinesis.put(site.topic, *(played("u1", f"song {n}") for n in range(5, 8)))
    site.read(site.work_on("clicks"), 3)
    assert site.songs() == [f"song {n}" for n in range(8)]
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(8,)]
    assert reader.counts["kept"] == 5


def test_a_crash_between_append_and_checkpoint_repeats_and_changes_nothing(site: Site, monkeypatch) -> None:
    site.kinesis.put(site.topic, *(played("u1", f"song {n}") for n in range(3)))
    reader = site.work_on("clicks")
    monkeypatch.setattr(
        "connector.streams.store.set_positions", lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))
    )
    with pytest.raises(RuntimeError):
        site.read(reader, 3)
    monkeypatch.undo()
    assert site.positions() == {} and len(site.songs()) == 3
    site.read(reader, 3)
    assert len(site.songs()) == 6
    site.work()
    assert site.rows("SELECT count(*) FROM event") == [(3,)]


def test_children_are_read_after_their_parent(site: Site) -> None:
    site.kinesis.put(site.topic, *(played(f"u{n % 4}", f"song {n}") for n in range(8)))
    (shard,) = site.kinesis.open_shards(site.topic)
    site.kinesis.client.split_shard(
        StreamName=site.topic, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(2**127)
    )
    site.kinesis.put(site.topic, *(played(f"u{n % 4}", f"song {n}") for n in range(8, 16)))
    left, right = site.kinesis.open_shards(site.topic)
    site.kinesis.client.merge_shards(
        StreamName=site.topic, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
    )
    site.kinesis.put(site.topic, *(played(f"u{n % 4}", f"song {n}") for n in range(16, 24)))
    site.read(site.work_on("clicks"), 24)
    for user in range(4):
        assert site.songs(f"u{user}") == [f"song {n}" for n in range(24) if n % 4 == user]
    finished = [finished for _, finished in site.positions().values()]
    assert sorted(finished) == [0, 1, 1, 1]


def test_a_split_while_it_is_read(site: Site) -> None:
    reader = site.work_on("clicks")
    site.kinesis.put(site.topic, played("u1", "song 0"))
    site.read(reader, 1)
    (shard,) = site.kinesis.open_shards(site.topic)
    site.kinesis.client.split_shard(
        StreamName=site.topic, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(2**127)
    )
    site.kinesis.put(site.topic, *(played("u1", f"song {n}") for n in range(1, 4)))
    site.read(reader, 3)
    assert site.songs() == [f"song {n}" for n in range(4)]
    assert site.positions()[shard["ShardId"]][1] == 1


def test_latest_begins_with_what_comes_after_the_first_look(tmp_path: Path, kinesis: MockKinesis) -> None:
    site = Site(tmp_path, kinesis, start="latest")
    try:
        kinesis.put(site.topic, played("u1", "before"))
        site.time = int(kinesis.client.describe_stream_summary(StreamName=site.topic)["StreamDescriptionSummary"][
            "StreamCreationTimestamp"].timestamp() * 1000) + 3_600_000  # fmt: skip
        reader = site.work_on("clicks")
        for _ in range(5):
            assert reader.step(site.time, 0.0) == 0
        assert [sequence for sequence, _ in site.positions().values()] == [f"at:{site.time}"]
        assert site.songs() == []
    finally:
        site.close()


def test_poison_is_a_dead_letter_and_holds_up_nobody(site: Site) -> None:
    site.kinesis.put(
        site.topic, played("u1", "a"), ("u1", b"\xff"), ("u1", b"\xf3\x89\x9a\xc2 several"), played("u1", "b")
    )
    reader = site.work_on("clicks")
    site.read(reader, 4)
    assert site.songs() == ["a", "b"]
    assert site.rows("SELECT origin, reason, state FROM dead_letter ORDER BY id") == [
        ("clicks", "not_json", "open"),
        ("clicks", "content_encoding", "open"),
    ]
    assert dict(reader.counts) == {"kept": 2, "empty": 0, "not_json": 1, "content_encoding": 1}


def test_throttling_rests_the_shard_and_loses_nothing(site: Site, monkeypatch) -> None:
    monkeypatch.setattr("connector.streams.kinesis._LONGEST_REST", 0.01)
    site.kinesis.put(site.topic, played("u1", "a"))
    reader = site.work_on("clicks")
    assert reader.step(site.time, 0.0) in (0, 1)
    real, calls = reader._reading._client.get_records, []

    def throttled(**words: Any) -> Any:
        calls.append(1)
        if len(calls) <= 3:
            raise ClientError(
                {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": ""}}, "GetRecords"
            )
        if len(calls) == 5:
            raise ClientError({"Error": {"Code": "ExpiredIteratorException", "Message": ""}}, "GetRecords")
        return real(**words)

    monkeypatch.setattr(reader._reading._client, "get_records", throttled)
    site.kinesis.put(site.topic, *(played("u1", f"{n}") for n in range(3)))
    for _ in range(200):
        reader.step(site.time, 0.02)
        if len(calls) > 6 and len(site.songs()) == 4:
            break
    assert site.songs() == ["a", "0", "1", "2"]


def test_a_log_that_refuses_moves_no_position(site: Site, monkeypatch) -> None:
    site.kinesis.put(site.topic, *(played("u1", f"song {n}") for n in range(3)))
    reader = site.work_on("clicks")
    refused = []

    def refuse(items: Any, timeout: float) -> None:
        refused.append(1)
        raise NotDurable("the disk is full")

    monkeypatch.setattr(site.services.log, "append", refuse)
    for _ in range(100):
        reader.step(site.time, 0.05)
        if len(refused) == 2:
            break
    assert reader.resting == "the disk is full" and site.positions() == {}
    monkeypatch.undo()
    for _ in range(100):
        if reader.step(site.time, 0.1):
            break
    assert site.songs() == [f"song {n}" for n in range(3)] and len(site.positions()) == 1


def test_facts_are_published_in_each_persons_order(site: Site) -> None:
    site.kinesis.put(site.topic, *(played(f"u{n % 2}", f"song {n}") for n in range(8)))
    site.read(site.work_on("clicks"), 8)
    site.work()
    writer = site.work_on("warehouse")
    assert writer.step(site.time, 0) == 10
    assert site.rows("SELECT count(*) FROM outbox") == [(0,)]
    told = [(key, json.loads(data)) for key, data in site.kinesis.records(site.facts)]
    for person in ("1", "2"):
        types = [body["type"] for key, body in told if key == person]
        assert types == ["storecue.event"] * 4 + ["storecue.segment.entered"]
        songs = [body["data"]["properties"]["song"] for key, body in told if key == person and "in" not in body["data"]]
        assert songs == sorted(songs)


def test_records_that_a_call_throttles_are_written_before_what_follows_them(site: Site, monkeypatch) -> None:
    writing = site.work_on("warehouse")._broker.writing()
    real, calls = writing._client.put_records, []

    def some(StreamName: str, Records: list[dict[str, Any]]) -> Any:
        calls.append([one["PartitionKey"] for one in Records])
        if len(calls) == 1:  # the first of the call is refused, the rest is taken
            answer = real(StreamName=StreamName, Records=Records[1:])
            refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": ""}
            return {"Records": [refused, *answer["Records"]]}
        return real(StreamName=StreamName, Records=Records)

    monkeypatch.setattr(writing._client, "put_records", some)
    rows = [Row(n, f"p{n % 2}", json.dumps({"id": str(n)})) for n in range(6)]
    written = writing.write(rows, lambda: False)
    assert sorted(written.done) == list(range(6)) and not written.refused
    told = [(key, json.loads(data)["id"]) for key, data in site.kinesis.records(site.facts)]
    assert [id_ for key, id_ in told if key == "p0"] == ["0", "2", "4"]
    assert [id_ for key, id_ in told if key == "p1"] == ["1", "3", "5"]
    too_large = Row(7, "p1", "x" * 2_000_000)
    assert writing.write([too_large], lambda: False).refused == [(too_large, "the record is larger than 1048576 bytes")]
    writing.close()


def test_what_is_wrong_is_told_by_who_must_act(site: Site, tmp_path: Path) -> None:
    text = CONFIG.format(topic="not-there", facts=site.facts, endpoint=site.kinesis.endpoint, start="earliest")
    site.configure(text)
    with pytest.raises(StreamUnavailable, match="no such stream") as told:
        site.work_on("clicks").step(site.time, 0.0)
    assert told.value.reason == "no_topic"
    site.configure(text.replace(site.kinesis.endpoint, "http://127.0.0.1:9"))
    with pytest.raises(StreamUnavailable, match="no answer"):
        site.work_on("clicks").step(site.time, 0.0)
