"""The topic itself: made when it is missing, known again by its id, and how far it goes."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from connector.clock import DAY
from connector.errors import ConfigurationError, ConnectorError
from connector.inbox.kafka.client import library, logger, said
from connector.inbox.kafka.cluster import Cluster

if TYPE_CHECKING:
    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

log = structlog.get_logger("inbox")

PARTITIONS = 64
_COPIES = 3
_ANSWER = 5.0  # seconds for a broker's answer
_LOOK = 2.0  # seconds where somebody waits to be told how things stand


class Unreachable(ConnectorError):
    """Whoever runs the cluster, or the network to it, must act."""

    reason = "log_unreachable"


class Topic:
    """Questions to the cluster about the log's topic. For any thread; each raises Unreachable."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: AdminClient | None = None
        self._starting = threading.Lock()

    def make(self, keep_days: int) -> None:
        """Makes the topic where there is none. Raises ConfigurationError when we may not."""
        found = self._ask(lambda client: client.list_topics(timeout=_ANSWER))
        if self._cluster.topic in found.topics:
            return
        copies = min(_COPIES, len(found.brokers))
        wanted = _admin().NewTopic(
            self._cluster.topic,
            num_partitions=PARTITIONS,
            replication_factor=copies,
            config={
                "min.insync.replicas": str(max(1, copies - 1)),
                "retention.ms": str(keep_days * DAY),
                "cleanup.policy": "delete",
            },
        )
        try:
            self._ask(lambda client: client.create_topics([wanted])[self._cluster.topic].result(2 * _ANSWER))
        except Unreachable as error:
            cause = error.__cause__
            name = cause.args[0].name() if isinstance(cause, library().KafkaException) else ""
            if name == "TOPIC_ALREADY_EXISTS":  # another process was faster
                return
            raise ConfigurationError(
                f"there is no topic {self._cluster.topic}, and it could not be made ({error.message}): make it, with "
                f"{PARTITIONS} partitions, a replication factor of {_COPIES} and min.insync.replicas=2, or let this "
                "user make it",
                reason="no_topic",
            ) from error
        log.info("log.topic_made", topic=self._cluster.topic, partitions=PARTITIONS, copies=copies)

    def identity(self) -> tuple[str, str | None]:
        """cluster/topic, and what tells it from one of the same name that was there before; None when nobody can say:
        an older broker, or no controller at the moment."""
        found = self._ask(lambda client: client.list_topics(timeout=_ANSWER))
        name = f"{found.cluster_id}/{self._cluster.topic}"
        if found.controller_id not in found.brokers:
            return name, None
        wanted = library().TopicCollection([self._cluster.topic])
        about = self._ask(
            lambda client: client.describe_topics(wanted, request_timeout=_ANSWER)[self._cluster.topic].result(_ANSWER)
        )
        return name, None if about.topic_id is None else str(about.topic_id)

    def partitions(self) -> dict[int, int]:
        """Copies of each partition. Raises Unreachable when one of them has no leader."""
        # All topics: to ask for one by its name makes it, where the brokers make what is asked for.
        topic = self._ask(lambda client: client.list_topics(timeout=_LOOK)).topics.get(self._cluster.topic)
        if topic is None:
            raise Unreachable(f"there is no topic {self._cluster.topic}: make it, or correct KAFKA_TOPIC")
        if topic.error is not None:
            raise Unreachable(said(topic.error))
        for number, part in topic.partitions.items():
            if part.leader < 0:
                raise Unreachable(f"partition {number} has no leader: see which broker is away")
        return {number: len(part.replicas) for number, part in topic.partitions.items()}

    def ends(self, numbers: Iterable[int]) -> dict[int, tuple[int, int]]:
        """The first offset that is there and the next to be written, by partition."""
        places = [library().TopicPartition(self._cluster.topic, number) for number in numbers]
        spec = _admin().OffsetSpec
        return {
            low.partition: (low.offset, high.offset)
            for low, high in zip(
                self._offsets(places, spec.earliest()), self._offsets(places, spec.latest()), strict=True
            )
        }

    def _offsets(self, places: list[Any], which: Any) -> list[Any]:
        def asked(client: "AdminClient") -> list[Any]:
            answers = client.list_offsets(dict.fromkeys(places, which), request_timeout=_ANSWER)
            return [
                library().TopicPartition(place.topic, place.partition, answer.result(_ANSWER).offset)
                for place, answer in sorted(answers.items(), key=lambda one: one[0].partition)
            ]

        found: list[Any] = self._ask(asked)
        return found

    def first(self, offsets: Mapping[int, int]) -> "list[Message]":
        """The first record of each of these partitions at its offset or later, as far as they come in time."""
        client = library().Consumer(
            {
                **self._cluster.client(),
                "group.id": self._cluster.group,  # of which it is no member, because it is not subscribed
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "fetch.message.max.bytes": 1000,  # at least one record comes nevertheless
            },
            logger=logger(),
        )
        place = library().TopicPartition
        found: dict[int, Message] = {}
        try:
            client.assign([place(self._cluster.topic, number, offset) for number, offset in offsets.items()])
            deadline = time.monotonic() + _LOOK
            while len(found) < len(offsets) and time.monotonic() < deadline:
                message = client.poll(0.05)
                if message is not None and message.error() is None:
                    found.setdefault(message.partition(), message)
        finally:
            client.close()
        return list(found.values())

    def _ask(self, question: "Callable[[AdminClient], Any]") -> Any:
        with self._starting:
            if self._client is None:
                self._client = _admin().AdminClient(self._cluster.client(), logger=logger())
        try:
            return question(self._client)
        except library().KafkaException as error:
            raise Unreachable(said(error.args[0])) from error
        except TimeoutError as error:
            raise Unreachable("the broker does not answer in time: see that it runs") from error


def _admin() -> Any:
    library()
    import confluent_kafka.admin

    return confluent_kafka.admin
