"""Records read by one member of the group. Where it begins is told by the effects' position, not by Kafka."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from connector.errors import ConnectorError
from connector.inbox.kafka.client import leave, library, logger, said
from connector.inbox.kafka.cluster import Cluster

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

log = structlog.get_logger("inbox")

_AT_ONCE = 500  # records asked of the library in one go
_BUFFER = 16 * 1024 * 1024  # bytes that wait here; the library holds as much
_ANSWER = 5.0  # seconds for a broker's answer
_PASSING = ("_PARTITION_EOF", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE")


class _Part:
    """One partition: what waits here, and what was taken and is not done."""

    def __init__(self) -> None:
        self.waiting: deque[Message] = deque()
        self.taken: list[Message] = []


class Reading:
    """A consumer, for one thread. `positions`: the offset to begin with, by partition."""

    def __init__(self, cluster: Cluster, positions: Callable[[], Mapping[int, int]]) -> None:
        self._topic = cluster.topic
        self._positions = positions
        self._parts: dict[int, _Part] = {}
        self._bytes = 0
        self._turn = 0
        self._given: list[TopicPartition] | None = None
        self._passed: dict[int, int] = {}  # partition -> where it begins, since the retention has passed the position
        self._consumer: Consumer = library().Consumer(
            {
                **cluster.client(),
                "group.id": cluster.group,
                "partition.assignment.strategy": "range",
                "session.timeout.ms": int(cluster.session * 1000),
                "heartbeat.interval.ms": int(cluster.heartbeat * 1000),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # where we stand is not for Kafka to decide
                "queued.max.messages.kbytes": _BUFFER // 1024,
                "fetch.wait.max.ms": 100,
            },
            logger=logger(),
        )
        self._consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    @property
    def parts(self) -> set[int]:
        """The partitions that are ours."""
        return set(self._parts)

    def fill(self, wait: float) -> bool:
        """True when records wait here; waits up to `wait` seconds for the first one."""
        first = self._consumer.poll(0.0 if self._waiting() else wait)
        found = [] if first is None else [first]
        if self._bytes < _BUFFER:
            found += self._consumer.consume(_AT_ONCE, 0.0)
        # What was read of partitions that were taken away meanwhile is dropped here, before they may be ours again.
        faults = [message for message in found if not self._taken(message)]
        self._begin()
        for message in faults:
            self._judge(message)
        return self._waiting()

    def batch(self, limit: int) -> tuple[int, list["Message"]] | None:
        """Up to `limit` records of the next partition that has any: partitions take turns."""
        behind = sorted(number for number, part in self._parts.items() if part.waiting)
        if not behind:
            return None
        number = next((one for one in behind if one >= self._turn), behind[0])
        self._turn = number + 1
        part = self._parts[number]
        part.taken = [part.waiting.popleft() for _ in range(min(limit, len(part.waiting)))]
        self._bytes -= sum(map(_size, part.taken))
        return number, list(part.taken)

    def rewind(self, number: int, offset: int) -> None:
        """The next batch is one of this partition and begins at `offset`: from what is here, or fetched anew."""
        self._turn = number
        part = self._parts.get(number)
        if part is None:
            return  # it is somebody else's by now
        held = [*part.taken, *part.waiting]
        left = [message for message in held if (message.offset() or 0) >= offset]
        self._forget(part)
        if left and (held[0].offset() or 0) <= offset:
            part.waiting.extend(left)
            self._bytes += sum(map(_size, left))
        else:
            self._seek(number, offset)

    def leave(self, number: int, offset: int) -> None:
        """As `rewind`, but the others come first."""
        self.rewind(number, offset)
        self._turn = number + 1

    def done(self, number: int, offset: int) -> None:
        """Tell the group, so that its lag can be seen; nobody begins there."""
        if (part := self._parts.get(number)) is not None:
            part.taken = [message for message in part.taken if (message.offset() or 0) >= offset]
            with suppress(library().KafkaException):
                self._consumer.commit(offsets=[self._at(number, offset)], asynchronous=True)

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        leave(self._consumer)

    def _waiting(self) -> bool:
        return any(part.waiting for part in self._parts.values())

    def _taken(self, message: "Message") -> bool:
        """False for what is no record, but an error."""
        if message.error() is not None:
            return False
        if (part := self._parts.get(message.partition() or 0)) is not None:
            part.waiting.append(message)
            self._bytes += _size(message)
        return True

    def _judge(self, message: "Message") -> None:
        error = message.error()
        if error is None or error.name() in _PASSING:
            return
        if error.name() == "_AUTO_OFFSET_RESET":
            if (number := message.partition() or 0) in self._parts:
                self._out_of_range(number)
        else:
            raise ConnectorError(f"the log cannot be read: {said(error)}", reason="log_unreadable")

    def _forget(self, part: _Part) -> None:
        self._bytes -= sum(map(_size, part.waiting))
        part.waiting, part.taken = deque(), []

    # --- whose partitions are ours -----------------------------------------------------------------------------------

    def _assign(self, consumer: "Consumer", parts: "list[TopicPartition]") -> None:
        # The positions are read outside the callback: the database may fail, and then they are read again.
        self._given = parts
        consumer.assign([])

    def _revoke(self, _consumer: "Consumer", _parts: "list[TopicPartition]") -> None:
        self._given = None
        self._parts, self._bytes = {}, 0

    def _begin(self) -> None:
        if self._given is None:
            return
        positions = self._positions()
        begin = library().OFFSET_BEGINNING
        numbers = [part.partition for part in self._given]
        self._consumer.assign(
            [self._at(number, max(positions.get(number, begin), self._passed.get(number, begin))) for number in numbers]
        )
        self._parts, self._bytes, self._given = {number: _Part() for number in numbers}, 0, None
        log.info("log.assigned", partitions=len(numbers))

    def _seek(self, number: int, offset: int) -> None:
        try:
            self._consumer.seek(self._at(number, offset))
        except library().KafkaException:
            # What was fetched is gone from here, so going on would pass over it: all partitions begin anew instead.
            self._given = self._consumer.assignment()

    def _out_of_range(self, number: int) -> None:
        """What was not worked off has passed the topic's retention; or the topic has lost its end."""
        self._given = self._consumer.assignment()  # a partition that has failed is not read on without
        position = self._positions().get(number, 0)
        low, high = self._consumer.get_watermark_offsets(self._at(number, 0), timeout=_ANSWER)
        if position <= low:
            log.error("log.records_gone", partition=number, first=position, next=low, topic=self._topic)
            self._passed[number] = low
            return
        raise ConnectorError(
            f"partition {number} of the topic {self._topic} ends at {high}, and was worked off to {position}: its "
            "brokers have lost records that they had confirmed; name another topic (KAFKA_TOPIC), and let the senders "
            "repeat what they sent since",
            reason="log_shortened",
        )

    def _at(self, number: int, offset: int) -> "TopicPartition":
        place: TopicPartition = library().TopicPartition(self._topic, number, offset)
        return place


def _size(message: "Message") -> int:
    return len(message) + 200
