"""Records sent: acks=all by an idempotent producer, and heard of before anybody is told that they are kept."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from connector.errors import NotDurable
from connector.inbox.kafka.client import library, logger, said
from connector.inbox.kafka.cluster import Cluster
from connector.inbox.kafka.records import headers_of
from connector.inbox.sql import pack
from connector.ports import New, Settled

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

_CONFIRMED_WITHIN_MS = 3000  # then a record is given up, and whoever sent it is asked to repeat
_QUEUE_KB = 64 * 1024  # of records that wait for a broker
_LARGE_AT_ONCE = 16  # submissions with a body that is claimed, waiting for the database
_POLL = 0.2
_FULL = 0.005  # seconds until a queue that was full is tried again
_STOPPING = 5.0

_Record = tuple[New, bytes, str | None]
"""A delivery, the value of its record, and the claim that has its body instead."""

Claim = Callable[[Sequence[tuple[str, bytes]]], None]
"""Keeps (id, packed body) in the state's database; durable on return."""


class _Group:
    """One submission, until each of its records has been heard of."""

    __slots__ = ("_fault", "_left", "_lock", "_settled")

    def __init__(self, count: int, settled: Settled) -> None:
        self._left = count
        self._fault: str | None = None
        self._settled = settled
        self._lock = threading.Lock()

    def heard(self, error: "KafkaError | None", _message: Any = None) -> None:
        self.count(1, None if error is None else said(error))

    def count(self, number: int, fault: str | None) -> None:
        with self._lock:
            self._fault = self._fault or fault
            self._left -= number
            if self._left:
                return
        self._settled(None if self._fault is None else NotDurable(self._fault))


class Writing:
    """A producer and the thread that hears its reports. Both begin with the first submission, so after any fork."""

    def __init__(self, cluster: Cluster, claim: Claim) -> None:
        self._cluster = cluster
        self._claim = claim
        self._producer: Producer | None = None
        self._ended = threading.Event()
        self._listener: threading.Thread | None = None
        self._starting = threading.Lock()
        self._claiming: ThreadPoolExecutor | None = None
        self._large = threading.BoundedSemaphore(_LARGE_AT_ONCE)

    def submit(self, items: Sequence[New], settled: Settled, patience: float = 0.0) -> None:
        """Raises nothing, and returns at once but for `patience` seconds in which the queue may make room for more than
        it takes; `settled` is called by the listener, or by this thread when it is plain that they cannot be sent."""
        if not items:
            settled(None)
            return
        group = _Group(len(items), settled)
        try:
            packed = [pack(item.body) for item in items]
            if all(len(body) <= self._cluster.body_limit for body in packed):
                self._send(group, [(item, body, None) for item, body in zip(items, packed, strict=True)], patience)
            else:
                self._later(group, items, packed)
        except Exception as error:  # whatever it is, the sender must hear of it, and the caller must live on
            group.count(len(items), f"the log could not be written ({type(error).__name__})")

    def close(self) -> None:
        """Sends what is queued, and hears what became of it."""
        if self._claiming is not None:
            self._claiming.shutdown(wait=True)
            self._claiming = None
        with self._starting:
            self._end(_STOPPING)

    def _later(self, group: _Group, items: Sequence[New], packed: Sequence[bytes]) -> None:
        """A whole submission with a large body takes the way of the claim, so that it stays in its order."""
        if not self._large.acquire(blocking=False):
            group.count(len(items), "too many large deliveries wait for the database")
            return
        with self._starting:
            if self._claiming is None:
                self._claiming = ThreadPoolExecutor(1, "inbox-claims")
            self._claiming.submit(self._claimed, group, items, packed)

    def _claimed(self, group: _Group, items: Sequence[New], packed: Sequence[bytes]) -> None:
        try:
            ids = [uuid.uuid4().hex if len(body) > self._cluster.body_limit else None for body in packed]
            self._claim([(id_, body) for id_, body in zip(ids, packed, strict=True) if id_ is not None])
        except Exception:
            group.count(len(items), "a body too large for a record could not be kept in the state's database")
        else:
            values = [body if id_ is None else b"" for id_, body in zip(ids, packed, strict=True)]
            self._send(group, list(zip(items, values, ids, strict=True)), _CONFIRMED_WITHIN_MS / 1000)
        finally:
            self._large.release()

    def _send(self, group: _Group, records: Sequence[_Record], patience: float) -> None:
        """Hands the records to the library, and counts those that it does not take. Raises nothing."""
        sent, deadline = 0, time.monotonic() + patience
        producer: Producer | None = None
        try:
            producer = self._running()
            while sent < len(records):
                try:
                    self._produce(producer, group, *records[sent])
                    sent += 1
                except BufferError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_FULL)
            return
        except BufferError:
            fault = "the brokers do not take what waits for them already"
        except library().KafkaException as error:
            fault = said(error.args[0])
            if error.args[0].fatal():
                with self._starting:
                    if self._producer is producer:
                        self._end(0.0)
        except Exception as error:
            fault = f"the log could not be written ({type(error).__name__})"
        # What comes after must not overtake what could not be sent, which its sender will repeat.
        group.count(len(records) - sent, fault)

    def _produce(self, producer: "Producer", group: _Group, item: New, value: bytes, claim: str | None) -> None:
        producer.produce(
            self._cluster.topic,
            key=item.key.encode("utf-8", "replace"),
            value=value,
            headers=headers_of(item, claim),  # type: ignore[arg-type]  # invariant lists
            on_delivery=group.heard,
        )

    def _running(self) -> "Producer":
        with self._starting:
            if self._producer is None:
                self._ended = threading.Event()
                self._producer = _producer(self._cluster)
                self._listener = threading.Thread(
                    target=_listen, args=(self._producer, self._ended), name="inbox-reports", daemon=True
                )
                self._listener.start()
            return self._producer

    def _end(self, patience: float) -> None:
        """Under the lock."""
        if self._producer is not None and self._listener is not None:
            if patience:
                self._producer.flush(patience)
            else:
                self._producer.purge()
            self._ended.set()
            if patience:
                self._listener.join(_STOPPING)
            self._producer = self._listener = None


def _listen(producer: "Producer", ended: threading.Event) -> None:
    while not ended.is_set():
        producer.poll(_POLL)
    producer.flush(1.0)


def _producer(cluster: Cluster) -> "Producer":
    producer: Producer = library().Producer(
        {
            **cluster.client(),
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": _CONFIRMED_WITHIN_MS,
            "request.timeout.ms": _CONFIRMED_WITHIN_MS,
            "retry.backoff.ms": 50,
            # Waiting for company costs a lone sender most of its time; while a request is under way, others gather.
            "linger.ms": 0,
            "message.max.bytes": cluster.record_limit,
            "queue.buffering.max.kbytes": _QUEUE_KB,
            "compression.type": "none",  # bodies are packed
            "partitioner": "murmur2_random",  # as clients in other languages choose for a key
        },
        logger=logger(),
    )
    return producer
