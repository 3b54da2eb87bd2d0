"""Brokers for tests: librdkafka's mock cluster, on loopback, and moto's Kinesis."""

import ctypes
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import confluent_kafka
import pytest
from moto.kinesis.models import Shard, Stream
from moto.server import ThreadedMotoServer

SESSION, HEARTBEAT = 1.5, 0.1
"""Seconds, for members of groups. The mock cluster waits a second less than the session for members to join again: who
has not heard of a rebalance by then is left out, and the next one begins."""


def _library() -> ctypes.CDLL:
    """The librdkafka inside confluent-kafka's wheel: its Python side has no word for the mock cluster."""
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka*.so*"))))
    pointer, whole, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, takes in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", whole, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [whole, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, whole]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", whole, [pointer, text, whole, whole]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_down", whole, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", whole, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_rtt", whole, [pointer, ctypes.c_int32, whole]),
        ("rd_kafka_mock_coordinator_set", whole, [pointer, text, text, ctypes.c_int32]),
        ("rd_kafka_mock_partition_set_leader", whole, [pointer, text, ctypes.c_int32, ctypes.c_int32]),
        ("rd_kafka_mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
        ("rd_kafka_mock_topic_set_error", None, [pointer, text, whole]),
        ("rd_kafka_mock_set_controller_id", whole, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_topic_delete", whole, [pointer, text]),
        ("rd_kafka_mock_partition_delete_records", whole, [pointer, text, ctypes.c_int32, ctypes.c_int64]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, takes
    return library


class MockKafka:
    """A cluster in this process; it keeps 5 MB of each partition, in memory. Brokers have numbers from 1."""

    def __init__(self, brokers: int = 1) -> None:
        self._library = _library()
        fault = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"3", fault, 512)
        self._handle = self._library.rd_kafka_new(0, settings, fault, 512)
        assert self._handle, fault.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        assert self._cluster
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.control(1)
        self.bootstrap = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def topic(self, name: str, partitions: int = 2) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def delete(self, name: str) -> None:
        assert self._library.rd_kafka_mock_topic_delete(self._cluster, name.encode()) == 0

    def expire(self, topic: str, part: int, before: int) -> None:
        """Let what lies below an offset pass the topic's retention."""
        assert self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), part, before) == 0

    def down(self, broker: int = 1) -> None:
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, broker) == 0

    def up(self, broker: int = 1) -> None:
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, broker) == 0

    def control(self, broker: int) -> None:
        """Let a broker be the controller, which tells a topic's id; 0: nobody knows of one."""
        assert self._library.rd_kafka_mock_set_controller_id(self._cluster, broker) == 0

    def answer_after(self, seconds: float, broker: int = 1) -> None:
        assert self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, int(seconds * 1000)) == 0

    def lead(self, topic: str, part: int, broker: int) -> None:
        """Let a broker be the leader of a partition from now on."""
        assert self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), part, broker) == 0

    def coordinate(self, group: str, broker: int) -> None:
        """Let a broker be the coordinator of a group from now on."""
        assert self._library.rd_kafka_mock_coordinator_set(self._cluster, b"group", group.encode(), broker) == 0

    def refuse(self, topic: str, error: int) -> None:
        """Let a topic be refused with this error; 0 for none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def refuse_next(self, error: int) -> None:
        """Answer the next produce request with this error."""
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, 0, 1, (ctypes.c_int * 1)(error))

    def produce(self, topic: str, *records: tuple[str | None, bytes | None] | tuple[Any, Any, Any]) -> None:
        """Write (key, value) or (key, value, headers), each durably."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.bootstrap, "message.max.bytes": 20_000_000})
        for key, value, *headers in records:
            producer.produce(topic, key=key, value=value, headers=headers[0] if headers else None)
        assert producer.flush(10) == 0

    def consume(self, topic: str, count: int, partitions: int = 2) -> list[Any]:
        """`count` messages from the beginning of a topic."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.bootstrap, "group.id": "looking"})
        consumer.assign([confluent_kafka.TopicPartition(topic, part, 0) for part in range(partitions)])
        found: list[Any] = []
        for _ in range(200):
            found += [one for one in consumer.consume(count, 0.05) if one.error() is None]
            if len(found) >= count:
                break
        consumer.close()
        return found

    def committed(self, topic: str, group: str, partitions: int = 2) -> int:
        """Records of a topic that a group has committed."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        parts = [confluent_kafka.TopicPartition(topic, part) for part in range(partitions)]
        found = sum(max(0, part.offset) for part in consumer.committed(parts, timeout=5))
        consumer.close()
        return found

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


@pytest.fixture(scope="module")
def kafka() -> Iterator[MockKafka]:
    """A cluster for the tests of one file, which imports this."""
    kafka = MockKafka()
    yield kafka
    kafka.close()


class _Resharding:
    """moto 5.2 moves the records of a shard that is split or merged, and goes on writing into it. Amazon leaves them
    where they are, and writes into the children."""

    @staticmethod
    def write_into_open_shards(stream: Stream, key: str, explicit: str) -> Shard | None:
        hashed = int(explicit) if explicit else int(hashlib.md5(key.encode()).hexdigest(), 16)
        found = (
            one for one in stream.shards.values() if one.is_open and one.starting_hash <= hashed <= one.ending_hash
        )
        return next(found, None)

    @staticmethod
    def leaving_records(reshard: Callable[..., None]) -> Callable[..., None]:
        def resharded(stream: Stream, *words: str) -> None:
            kept = {id_: shard.records for id_, shard in stream.shards.items()}
            for shard in stream.shards.values():
                shard.records = OrderedDict()
            reshard(stream, *words)
            for id_, records in kept.items():
                stream.shards[id_].records = records

        return resharded

    @classmethod
    def put_right(cls) -> None:
        if Stream.get_shard_for_key is not cls.write_into_open_shards:
            Stream.get_shard_for_key = cls.write_into_open_shards
            Stream.split_shard = cls.leaving_records(Stream.split_shard)
            Stream.merge_shards = cls.leaving_records(Stream.merge_shards)


class MockKinesis:
    """moto's Kinesis behind its server, on loopback."""

    def __init__(self) -> None:
        _Resharding.put_right()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it writes a line for each call
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.client = boto3.client(
            "kinesis",
            endpoint_url=self.endpoint,
            region_name="eu-west-1",
            aws_access_key_id="an-access-key",
            aws_secret_access_key="a-secret-key",
        )

    def stream(self, name: str, shards: int = 1) -> None:
        self.client.create_stream(StreamName=name, ShardCount=shards)

    def put(self, name: str, *records: tuple[str, bytes]) -> None:
        for key, data in records:
            self.client.put_record(StreamName=name, Data=data, PartitionKey=key)

    def open_shards(self, name: str) -> list[dict[str, Any]]:
        found = self.client.list_shards(StreamName=name)["Shards"]
        return [one for one in found if "EndingSequenceNumber" not in one["SequenceNumberRange"]]

    def records(self, name: str) -> list[tuple[str, bytes]]:
        """(key, data) of everything in a stream, shard by shard."""
        found = []
        for shard in self.client.list_shards(StreamName=name)["Shards"]:
            where = {"StreamName": name, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = self.client.get_shard_iterator(**where)["ShardIterator"]
            found += self.client.get_records(ShardIterator=iterator, Limit=10_000)["Records"]
        return [(one["PartitionKey"], one["Data"]) for one in found]

    def close(self) -> None:
        self._server.stop()
