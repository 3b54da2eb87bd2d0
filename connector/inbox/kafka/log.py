"""The log in a topic. Its positions, what it has archived and what is too large for it are in the state's database."""

from collections.abc import Callable, Mapping, Sequence

import structlog
import zstandard
from sqlalchemy import Connection, insert

from connector.clock import Millis
from connector.errors import NotDurable
from connector.inbox.hushing import hushed, quiet
from connector.inbox.kafka import claims, numbers
from connector.inbox.kafka.cluster import Cluster
from connector.inbox.kafka.reading import Reading
from connector.inbox.kafka.records import Kept, kept
from connector.inbox.kafka.topic import Topic, Unreachable
from connector.inbox.kafka.writing import Writing
from connector.inbox.sql import unpack
from connector.inbox.waiting import Waiting
from connector.ports import New, Partition, Rec, Settled, Standing
from connector.storage.database import Database
from connector.storage.tables import delivery, inbox_metadata

log = structlog.get_logger("inbox")

_ONE_COPY = "there is one copy of it only: what was acknowledged is lost with the disk of a broker"


class KafkaLog:
    """An EventLog in one topic of Kafka.

    `part` is the partition's number in the topic plus where this topic's numbers begin (`log_topic`): positions and
    archived deliveries of one log are never taken for those of another, or of a topic of the same name made anew.
    """

    def __init__(
        self,
        cluster: Cluster,
        state: Database,
        positions: Callable[[], Mapping[int, int]],
        now: Callable[[], Millis],
        keep_days: int = 7,
    ) -> None:
        self._name = f"topic {cluster.topic} of {cluster.bootstrap}"
        self._cluster = cluster
        self._state = state
        self._positions = positions
        self._now = now
        self._keep_days = keep_days
        self._topic = Topic(cluster)
        self._writing = Writing(cluster, self._claim)
        self._reading: Reading | None = None
        self._known: int | None = None
        self._hushed: dict[int, int] = {}
        self._batch: dict[int, Kept] = {}  # by position, of the batch under way

    def create(self) -> None:
        """Make the topic when it is missing. A cluster that is away is no reason not to start."""
        self._state.create(inbox_metadata)
        try:
            self._topic.make(self._keep_days)
            self._first()
        except Unreachable as error:
            log.error("log.unreachable", log=self._name, hint=error.message)

    def close(self) -> None:
        """Sends what is queued, hears of it, and leaves the group."""
        self._writing.close()
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    # --- writing -----------------------------------------------------------------------------------------------------

    def append(self, items: Sequence[New], timeout: float = 3.0) -> None:
        """Durable on return: every record is confirmed by all brokers in sync. Raises NotDurable after `timeout`
        seconds or when they refuse; some of them may then still have been kept, and a repeat is harmless."""
        waiting = Waiting()
        self._writing.submit(items, waiting.settle, timeout)
        waiting.wait(timeout)

    def submit(self, items: Sequence[New], settled: Settled) -> None:
        self._writing.submit(items, settled)

    def _claim(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        with self._state.tx() as tx:
            claims.keep(tx, bodies, self._now())

    # --- reading -----------------------------------------------------------------------------------------------------

    def fill(self, wait: float) -> bool:
        if self._reading is None:
            self._reading = Reading(self._cluster, self._beginnings)
        return self._reading.fill(wait)

    def batch(self, limit: int) -> tuple[int, list[Rec]] | None:
        got = None if self._reading is None else self._reading.batch(limit)
        if got is None:
            return None
        number, messages = got
        part = self._first() + number
        ours = [one for message in messages if (one := kept(message))]
        if len(ours) < len(messages):
            log.error("log.foreign_records", part=part, count=len(messages) - len(ours), log=self._name)
        records, bodies = [], self._claimed(ours)
        self._batch = {}
        for one in ours:
            packed = one.packed if one.claim is None else bodies.get(one.claim, b"")
            if (body := _unpacked(packed)) is None:
                # A dead letter, because no source makes anything of an empty body. The state was restored from before
                # this one was kept; or somebody else writes to our topic.
                log.error("log.body_lost", part=part, pos=one.offset, claim=one.claim)
                body = b""
            self._batch[one.offset] = one._replace(packed=packed)
            record = one.record(body)
            if one.offset < self._hushed.get(part, 0):
                record = record._replace(headers=quiet(record.headers))
            records.append(record)
        return (part, records) if records else None

    def rewind(self, part: int, pos: int) -> None:
        if self._reading is not None:
            self._reading.rewind(part - self._first(), pos)

    def leave(self, part: int, pos: int) -> None:
        if self._reading is not None:
            self._reading.leave(part - self._first(), pos)

    def done(self, part: int, pos: int) -> None:
        """A word to the group, for its lag metric."""
        if self._reading is not None:
            self._reading.done(part - self._first(), pos)

    def archive(self, tx: Connection, part: int, records: Sequence[Rec]) -> None:
        """Keep what was worked off where it can be found, replayed and erased: Kafka can do none of these."""
        batch = [self._batch[record.pos] for record in records]
        rows = [
            {**record._asdict(), "part": part, "body": one.packed} for record, one in zip(records, batch, strict=True)
        ]
        tx.execute(insert(delivery), rows)
        claims.drop(tx, [one.claim for one in batch if one.claim is not None])

    def _claimed(self, messages: Sequence[Kept]) -> Mapping[str, bytes]:
        ids = [one.claim for one in messages if one.claim is not None]
        if not ids:
            return {}
        with self._state.read() as connection:
            return claims.bodies(connection, ids)

    def _beginnings(self) -> dict[int, int]:
        """Where to read on in each partition; what a restore has hushed is looked up on the way."""
        self._hushed = hushed(self._state)
        return self._offsets()

    def _offsets(self) -> dict[int, int]:
        first = self._first()
        return {part - first: pos for part, pos in self._positions().items() if first <= part < first + numbers.APART}

    # --- how it stands -----------------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        try:
            first, done, copies = self._first(), self._offsets(), self._topic.partitions()
            parts = [
                Partition(first + number, high, max(low, done.get(number, 0)))
                for number, (low, high) in self._topic.ends(copies).items()
            ]
        except Unreachable as error:
            return Standing(self._name, [], error.message)
        return Standing(self._name, parts, note=_ONE_COPY if min(copies.values(), default=2) < 2 else "")

    def oldest(self, standing: Standing) -> Millis | None:
        behind = {part.part - self._first(): part.position for part in standing.partitions if part.lag}
        if not behind:
            return None
        waiting = self._topic.first(behind)
        received = [int(one.told["received_at"]) for message in waiting if (one := kept(message))]
        # Where a partition did not tell in time, it is not known of all.
        return min(received, default=None) if len(waiting) == len(behind) else None

    def check(self) -> None:
        try:
            self._topic.partitions()
        except Unreachable as error:
            raise NotDurable(error.message) from error

    def prune(self, before: Millis) -> int:
        """Bodies whose record was never written. Whatever waits was claimed after the oldest of it was received."""
        standing = self.standing()
        oldest = self.oldest(standing) if standing.lag else before
        if standing.trouble or oldest is None:
            return 0
        with self._state.tx() as tx:
            return claims.drop_orphans(tx, min(before, oldest))

    def _first(self) -> int:
        """Where the numbers of this topic's partitions begin."""
        if self._known is None:
            name, id_ = self._topic.identity()
            with self._state.tx() as tx:
                self._known = numbers.first(tx, name, id_)
        return self._known


def _unpacked(packed: bytes) -> bytes | None:
    try:
        return unpack(packed)
    except zstandard.ZstdError:
        return None
