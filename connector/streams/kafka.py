"""Kafka, by confluent-kafka: read in a consumer group, its position committed after the log has the records; written
with acks=all by an idempotent producer."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from adapters.destination import Option
from connector.clock import Millis
from connector.errors import StreamUnavailable
from connector.inbox.kafka.client import SECURITY, WORDS, leave, library, logger, said
from connector.storage.database import Database
from connector.streams.port import Account, Lag, Poison, Record, Row, Takes, Written

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

log = structlog.get_logger("streams")

_ANSWER = 5.0  # seconds for a broker's answer, where somebody waits for it
_STOPPING = 2.0  # seconds for what is under way when we stop
_SESSION = 10.0  # seconds until a member that has gone without a word is replaced
_HEARTBEAT = 3.0  # seconds between two words
_LARGEST = 64 * 1024 * 1024  # bytes of a record that we hand to the library: what is too large, the broker says
_DEAD = ".dlq"
_HEADERS: "dict[str, str | bytes | None]" = {"content-type": "application/cloudevents+json"}
_LONGEST_HEADER = 1000

_REASONS = {
    "_AUTHENTICATION": "unauthorized",
    "TOPIC_AUTHORIZATION_FAILED": "unauthorized",
    "GROUP_AUTHORIZATION_FAILED": "unauthorized",
    "_UNKNOWN_TOPIC": "no_topic",
    "_UNKNOWN_PARTITION": "no_topic",
    "UNKNOWN_TOPIC_OR_PART": "no_topic",
}
_TOO_LARGE = ("MSG_SIZE_TOO_LARGE", "_MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD")


class Kafka:
    """Brokers of kind `kafka`."""

    takes: ClassVar[Takes] = Takes(
        needs=("bootstrap",),
        credentials=("username", "password", "key_password"),
        options={
            "group": Option(r"\S{1,200}", "storecue"),
            "start": Option("earliest|latest", "earliest"),
            "security": Option("|".join(SECURITY), "sasl_ssl"),
            "mechanism": Option(r"PLAIN|SCRAM-SHA-256|SCRAM-SHA-512", "SCRAM-SHA-512"),
            "ca_file": Option(r"/.+", "/etc/ssl/broker-ca.pem"),
            "certificate_file": Option(r"/.+", "/etc/storecue/client.pem"),
            "key_file": Option(r"/.+", "/etc/storecue/client.key"),
        },
        topic=Option(r"[A-Za-z0-9._-]{1,245}", "site-clicks"),
    )

    def __init__(self, account: Account) -> None:
        self._account = account

    def check(self, wait: float) -> str:
        """How many partitions the topic has. Raises StreamUnavailable."""
        producer = _producer(_settings(self._account), _Trouble())
        try:
            topic = self._account.config.topic
            found = producer.list_topics(topic, timeout=wait).topics[topic]
        except library().KafkaException as error:
            raise _unavailable(error.args[0]) from None
        if found.error is not None:
            raise _unavailable(found.error)
        return f"topic {topic} has {len(found.partitions)} partitions"

    def reading(self, database: Database) -> "KafkaReading":
        return KafkaReading(self._account)

    def writing(self) -> "KafkaWriting":
        return KafkaWriting(self._account)


class _Trouble:
    """What the library's own threads complained of. It tells of an outage once, and never of its end."""

    def __init__(self) -> None:
        self._cause: KafkaError | None = None
        self._down = False

    def note(self, error: "KafkaError") -> None:
        """One broker of several that hangs up is no trouble; the cause of an outage is told before the outage."""
        if error.name() == "_ALL_BROKERS_DOWN":
            self._down = True
        elif error.name() in WORDS and error.name() != "_TRANSPORT":
            self._cause = error

    def clear(self) -> None:
        self._cause, self._down = None, False

    def look(self, client: "Consumer | Producer", topic: str) -> None:
        """Ask a broker, where there was a complaint; raises StreamUnavailable while it is right."""
        if self._cause is None and not self._down:
            return
        try:
            found = client.list_topics(topic, timeout=1.0).topics[topic]
        except library().KafkaException as error:
            raise _unavailable(self._cause or error.args[0]) from None
        if found.error is not None:
            raise _unavailable(found.error)
        self.clear()


class KafkaReading:
    """One member of a consumer group."""

    def __init__(self, account: Account) -> None:
        self._topic = account.config.topic
        self._settings = _settings(account)
        self._trouble = _Trouble()
        self._burying: Producer | None = None
        self._ours: set[int] = set()
        self._resting = False
        options = account.config.options
        self._consumer: Consumer = library().Consumer(
            {
                **self._settings,
                "group.id": options.get("group", "storecue"),
                "auto.offset.reset": options.get("start", "earliest"),
                "session.timeout.ms": int(_SESSION * 1000),
                "heartbeat.interval.ms": int(_HEARTBEAT * 1000),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "error_cb": self._trouble.note,
            },
            logger=logger(),
        )
        self._consumer.subscribe([self._topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)

    def _given(self, consumer: "Consumer", parts: "list[TopicPartition]") -> None:
        self._ours |= {part.partition for part in parts}
        if self._resting:
            consumer.assign(parts)
            consumer.pause(parts)

    def _taken(self, _consumer: "Consumer", parts: "list[TopicPartition]") -> None:
        self._ours -= {part.partition for part in parts}

    def read(self, limit: int, wait: float, now: Millis) -> list[Record]:
        if self._resting:
            self._resting = False
            self._consumer.resume(self._consumer.assignment())
        return self._consume(limit, wait)

    def rest(self, wait: float) -> list[Record]:
        """The group must see that we live, so that it is asked on, with every partition paused."""
        if not self._resting:
            self._resting = True
            self._consumer.pause(self._consumer.assignment())
        return self._consume(500, wait)

    def _consume(self, limit: int, wait: float) -> list[Record]:
        found = []
        for message in self._consumer.consume(limit, wait):
            if (error := message.error()) is not None:
                if error.name() != "_PARTITION_EOF":
                    self._trouble.note(error)
                continue
            found.append(_record(message))
        if found:
            self._trouble.clear()
        else:
            self._trouble.look(self._consumer, self._topic)
        return found

    def is_ours(self, record: Record) -> bool:
        return int(record.shard) in self._ours

    def bury(self, poison: Sequence[Poison]) -> list[Poison]:
        """Into the topic `<topic>.dlq`, with the reason and the place in headers."""
        if self._burying is None:
            self._burying = _producer({**self._settings, "message.timeout.ms": int(_ANSWER * 1000)}, self._trouble)
        failed: list[Poison] = []
        left: list[Poison] = []
        for one in poison:
            record, error = one
            heard = partial(_heard_poison, one, failed, left)
            left.append(one)
            try:
                self._burying.produce(
                    self._topic + _DEAD,
                    key=record.key,
                    value=record.body,
                    headers=[
                        *((name, value.encode()) for name, value in record.headers.items()),
                        ("storecue-reason", error.reason.encode()),
                        ("storecue-error", error.message[:_LONGEST_HEADER].encode("utf-8", "replace")),
                        ("storecue-place", record.place.encode()),
                    ],
                    on_delivery=heard,
                )
            except (library().KafkaException, BufferError):
                left.remove(one)
                failed.append(one)
        self._burying.flush(_ANSWER + 1)
        return failed + left

    def settle(self, records: Sequence[Record]) -> None:
        """Commit the group's position, and wait for it. A partition that was taken away meanwhile is left to its new
        member, which reads these again and finds them known."""
        heads: dict[int, int] = {}
        for record in records:
            if self.is_ours(record):
                heads[int(record.shard)] = int(record.place.split("/")[2]) + 1
        parts = [library().TopicPartition(self._topic, part, offset) for part, offset in heads.items()]
        if not parts:
            return
        try:
            self._consumer.commit(offsets=parts, asynchronous=False)
        except library().KafkaException as error:
            log.warning("stream.commit_failed", topic=self._topic, reason=error.args[0].name())

    def lag(self) -> Lag:
        """Records between our position and the end, as the last answer told; no question is asked for it."""
        behind = 0
        try:
            for part in self._consumer.position(self._consumer.assignment()):
                low, high = self._consumer.get_watermark_offsets(part, cached=True)
                if high < 0:
                    continue
                behind += max(0, high - (part.offset if part.offset >= 0 else max(low, 0)))
        except library().KafkaException:
            return Lag()
        return Lag(records=behind)

    def close(self) -> None:
        if self._burying is not None:
            self._burying.flush(_STOPPING)
        leave(self._consumer)


class KafkaWriting:
    """An idempotent producer: what one instance is given arrives in order and once."""

    def __init__(self, account: Account) -> None:
        self._topic = account.config.topic
        self._trouble = _Trouble()
        # A record waits for the broker as long as it takes: one that were given up could be overtaken by the next.
        self._settings = {**_settings(account), "message.timeout.ms": 0, "linger.ms": 5}
        self._producer: Producer | None = None

    def write(self, rows: Sequence[Row], stopped: Callable[[], bool]) -> Written:
        """Waits for the delivery reports. A producer that still owes one is thrown away, so that the next begins with
        the first row that is not known to have arrived."""
        if self._producer is None:
            self._producer = _producer(self._settings, self._trouble)
        told: dict[int, KafkaError | None] = {}
        try:
            self._produce(self._producer, rows, told, stopped)
            self._wait(self._producer, len(rows), told, stopped)
        except StreamUnavailable:
            self._give_up()
            if not any(error is None for error in told.values()):
                raise
        written, failed = _sorted(rows, told)
        if len(told) < len(rows) or failed is not None:
            self._give_up()
        if failed is not None and not written.done and not written.refused:
            raise _unavailable(failed)
        return written

    def _produce(
        self,
        producer: "Producer",
        rows: Sequence[Row],
        told: "dict[int, KafkaError | None]",
        stopped: Callable[[], bool],
    ) -> None:
        patience = time.monotonic() + _ANSWER
        for row in rows:
            heard = partial(_heard_row, row.id, told)
            value = row.body.encode()
            while not stopped():
                try:
                    producer.produce(self._topic, key=row.key, value=value, headers=_HEADERS, on_delivery=heard)
                    break
                except BufferError:  # its queue is full
                    producer.poll(0.1)
                    if time.monotonic() > patience:
                        self._trouble.look(producer, self._topic)
                except library().KafkaException as error:
                    told[row.id] = error.args[0]
                    break
            producer.poll(0)

    def _wait(
        self, producer: "Producer", count: int, told: "dict[int, KafkaError | None]", stopped: Callable[[], bool]
    ) -> None:
        patience, known = time.monotonic() + _ANSWER, len(told)
        while len(told) < count and not stopped():
            producer.poll(0.1)
            if len(told) > known:
                patience, known = time.monotonic() + _ANSWER, len(told)
            elif time.monotonic() > patience:
                self._trouble.note(library().KafkaError(library().KafkaError._TIMED_OUT))
                self._trouble.look(producer, self._topic)
                patience = time.monotonic() + _ANSWER

    def _give_up(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(_STOPPING)
            self._producer = None

    def close(self) -> None:
        self._give_up()


def _sorted(rows: Sequence[Row], told: "dict[int, KafkaError | None]") -> "tuple[Written, KafkaError | None]":
    """What became of rows, and the first error that may pass. Of a key whose row must be written again, everything that
    came after it is written again too."""
    done: list[int] = []
    refused: list[tuple[Row, str]] = []
    again: set[str] = set()
    first: KafkaError | None = None
    for row in rows:
        if row.id not in told or row.key in again:
            again.add(row.key)
            continue
        error = told[row.id]
        if error is None:
            done.append(row.id)
        elif error.name() in _TOO_LARGE:
            refused.append((row, said(error)))
        else:
            first = first or error
            again.add(row.key)
    return Written(done, refused), first


def _heard_poison(one: Poison, failed: list[Poison], left: list[Poison], error: "KafkaError | None", _: Any) -> None:
    left.remove(one)
    if error is not None:
        failed.append(one)


def _heard_row(row: int, told: "dict[int, KafkaError | None]", error: "KafkaError | None", _: Any) -> None:
    told[row] = error


def _unavailable(error: "KafkaError") -> StreamUnavailable:
    return StreamUnavailable(said(error), reason=_REASONS.get(error.name(), "unreachable"))


def _record(message: "Message") -> Record:
    # A topic that is made anew counts from 0 again: the instant tells its records from those of the one before.
    _, at = message.timestamp()
    shard = str(message.partition())
    key = message.key()
    return Record(
        place=f"{message.topic()}/{shard}/{message.offset()}/{at}",
        shard=shard,
        key=None if key is None else _text(key),
        headers={name.lower(): _text(value) for name, value in _headers(message) if value is not None},
        body=message.value(),
        at=at if at > 0 else None,
    )


def _headers(message: "Message") -> list[tuple[str, bytes | None]]:
    found: Any = message.headers()  # the library says it may be a dict, and makes a list
    return list(found or ())


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def _producer(settings: dict[str, Any], trouble: _Trouble) -> "Producer":
    producer: Producer = library().Producer(
        {
            **settings,
            "acks": "all",
            "enable.idempotence": True,
            "message.max.bytes": _LARGEST,
            "compression.type": "zstd",
            "error_cb": trouble.note,
        },
        logger=logger(),
    )
    return producer


def _settings(account: Account) -> dict[str, Any]:
    options, credentials = account.config.options, account.credentials
    named = {
        "security.protocol": SECURITY[options.get("security", "plaintext")],
        "sasl.mechanism": options.get("mechanism"),
        "sasl.username": credentials.get("username"),
        "sasl.password": credentials.get("password"),
        "ssl.ca.location": options.get("ca_file"),
        "ssl.certificate.location": options.get("certificate_file"),
        "ssl.key.location": options.get("key_file"),
        "ssl.key.password": credentials.get("key_password"),
    }
    given = {name: value for name, value in named.items() if value is not None}
    return {"bootstrap.servers": credentials["bootstrap"], "client.id": "storecue", **given}
