"""The log in SQL, on SQLite or PostgreSQL. Positions are gapless and in commit order."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b

import zstandard
from sqlalchemy import Connection, bindparam, func, insert, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import Millis
from connector.errors import NotDurable, Overloaded
from connector.inbox import keeping
from connector.inbox.waiting import Waiting
from connector.ports import New, Partition, Rec, Settled, Standing
from connector.storage.database import Database
from connector.storage.tables import delivery, inbox_metadata, log_head

PAGE = 8192
"""Bytes of a page in a SQLite file of deliveries. Of 4096, the default, each has one: packed they take 2 KB. On these a
delivery costs a fifth less CPU to write, and the file is 40 % smaller (2026-11)."""

_COLUMNS = (
    delivery.c.pos,
    delivery.c.key,
    delivery.c.source,
    delivery.c.delivery_id,
    delivery.c.topic,
    delivery.c.received_at,
    delivery.c.headers,
    delivery.c.body,
)
_HEADS = select(log_head.c.part, log_head.c.head)
_BATCH = (
    select(*_COLUMNS)
    .where(delivery.c.part == bindparam("part_"), delivery.c.pos >= bindparam("pos_"))
    .order_by(delivery.c.pos)
    .limit(bindparam("limit_"))
)
_GROUP = 500  # deliveries in one commit: beyond it the fsync is no longer what costs
_CROWD = 3  # senders in one commit from which the next one is waited for
_LINGER = 0.001
_QUEUED = 1_000  # groups that wait for the writer; more come only where a disk hangs and callers give up and try again
_LOOK_EVERY = 0.004  # seconds between looks for another process's commit; a look costs about 5 us
_ASK_EVERY = 0.01  # the same on a server, where a look is a question: about 0.3 ms
_LEFT_FOR = 0.05  # seconds until a partition at which another worker is at work is tried again

_Submitted = tuple[Sequence[New], Settled]

_threads = threading.local()


def pack(body: bytes) -> bytes:
    """A body as the log keeps it: zstd. A webhook of 7 KB takes 2 KB and, in all, half the time to write."""
    try:
        compressor = _threads.compressor
    except AttributeError:
        compressor = _threads.compressor = zstandard.ZstdCompressor(level=1)
    packed: bytes = compressor.compress(body)
    return packed


def unpack(packed: bytes) -> bytes:
    """The exact bytes that were packed."""
    try:
        decompressor = _threads.decompressor
    except AttributeError:
        decompressor = _threads.decompressor = zstandard.ZstdDecompressor()
    body: bytes = decompressor.decompress(packed)
    return body


class SqlLog:
    """An EventLog in two tables. `positions` gives where processing stands; it is asked once, then we follow on."""

    def __init__(self, database: Database, partitions: int, positions: Callable[[], Mapping[int, int]]) -> None:
        self.database = database
        self.partitions = partitions
        self._positions = positions
        self._next: dict[int, int] | None = None
        self._turn = 0
        self._heads: dict[int, int] = {}
        self._left: dict[int, float] = {}  # partition -> when to come back (monotonic)
        # PRAGMA data_version counts the commits of others as one connection sees them: it needs one of its own.
        self._watch: Connection | None = None
        self._version = -1
        self._queue: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing: Connection | None = None
        self._server = database.dialect != "sqlite"
        self._starting = threading.Lock()

    def create(self) -> None:
        """Create the tables and one head row per partition; the number of partitions is fixed from then on. A log that
        was lost or restored from an older copy goes on past what was worked on, where nothing is passed over."""
        self.database.create(inbox_metadata)
        with self.database.tx() as tx:
            if self._server:
                tx.exec_driver_sql("LOCK TABLE log_head IN SHARE ROW EXCLUSIVE MODE")
            made = tx.execute(select(func.count()).select_from(log_head)).scalar_one()
            if made:
                self.partitions = made
            else:
                tx.execute(insert(log_head), [{"part": part, "head": 0} for part in range(self.partitions)])
            for part, pos in self._positions().items():
                tx.execute(update(log_head).where(log_head.c.part == part, log_head.c.head < pos).values(head=pos))

    # --- writing: group commit by one thread -------------------------------------------------------------------------

    def append(self, items: Sequence[New], timeout: float = 3.0) -> None:
        """Durable on return (SQLite: WAL with synchronous=FULL). Raises NotDurable after `timeout` seconds or when the
        disk refuses; the deliveries may then still have been kept, and a repeat of them is harmless."""
        waiting = Waiting()
        self.submit(items, waiting.settle)
        waiting.wait(timeout)

    def submit(self, items: Sequence[New], settled: Settled) -> None:
        """Hands the items to the writer thread, which calls `settled`: with None once they are durable, else with what
        went wrong. It must return at once and raise nothing."""
        if self._writer is None:
            self._start()
        if self._queue.qsize() >= _QUEUED:
            settled(Overloaded("too much waits for the disk; send it again"))
        else:
            self._queue.put((items, settled))

    def close(self) -> None:
        """Writes what is queued and stops the writer thread."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join(timeout=10)
            self._writer = None

    def _start(self) -> None:
        with self._starting:
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_groups, name="inbox-writer", daemon=True)
                self._writer.start()

    def _write_groups(self) -> None:
        crowd = 1
        while (first := self._queue.get()) is not None:
            if crowd >= _CROWD:
                # Several senders waited last time, so more are on their way: with them in the same commit each costs
                # less than half. A lone delivery never waits.
                time.sleep(_LINGER)
            group, last = [first], False
            while len(group) < _GROUP:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                group.append(more)
            self._write(group)
            crowd = len(group)
            if last:
                break
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _write(self, group: list[_Submitted]) -> None:
        items = [item for given, _ in group for item in given]
        failed: NotDurable | None = None
        try:
            if items:
                self._keep_in_time(items)
        except Exception as error:  # the senders must hear of it, and the writer must live on
            failed = NotDurable("the log could not be written")
            failed.__cause__ = error
        for _, settled in group:
            settled(failed)

    def _keep_in_time(self, items: list[New]) -> None:
        try:
            self._keep(items)
        except BaseException:
            gone = self._server and self._writing is not None and self._is_gone(self._writing)
            self._disconnect()
            if not gone:
                raise
            # The server was started anew since the last write. If that was just as this one was committed, it is kept
            # twice, which is harmless.
            self._keep(items)

    @staticmethod
    def _is_gone(connection: Connection) -> bool:
        return connection.invalidated or bool(getattr(connection.connection.dbapi_connection, "closed", True))

    def _disconnect(self) -> None:
        if self._writing is not None:
            self._writing.invalidate()
            self._writing.close()
            self._writing = None

    def _keep(self, items: list[New]) -> None:
        """One commit."""
        rows = [(self._part(item.key), *item[:-1], pack(item.body)) for item in items]
        if self._writing is None:
            isolation = {"isolation_level": "AUTOCOMMIT"} if self._server else {}
            self._writing = self.database.engine.connect().execution_options(**isolation)
        if self._server:
            with closing(self._writing.connection.cursor()) as cursor:
                keeping.on_server(cursor, rows)
        else:
            with self.database.tx(self._writing) as tx:
                keeping.in_file(tx.connection.cursor(), rows)

    def _part(self, key: str) -> int:
        return int.from_bytes(blake2b(key.encode("utf-8", "replace"), digest_size=4).digest()) % self.partitions

    # --- reading -----------------------------------------------------------------------------------------------------

    def fill(self, wait: float) -> bool:
        """True when a partition has records past our position. Looks with plain reads and takes no lock."""
        if self._next is None:
            self._next = dict(self._positions())
        if self._behind():
            return True
        deadline = time.monotonic() + wait
        while True:
            if self._look() and self._behind():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_ASK_EVERY if self._server else _LOOK_EVERY)

    def _look(self) -> bool:
        """Reads the heads, and returns False when they cannot have moved."""
        if self._server:
            with self.database.read() as connection:
                self._heads = {part: head for part, head in connection.execute(_HEADS)}
            # What other workers have done meanwhile.
            self._next = {**(self._next or {}), **self._positions()}
            return True
        if self._watch is None:
            self._watch = self.database.engine.connect()
        version = self._watch.exec_driver_sql("PRAGMA data_version").scalar_one()
        if version == self._version:
            return bool(self._left)
        self._version = version
        self._heads = {part: head for part, head in self._watch.execute(_HEADS)}
        return True

    def batch(self, limit: int) -> tuple[int, list[Rec]] | None:
        """Records of the next partition that has any: partitions take turns, so that none starves."""
        behind = self._behind()
        if not behind or self._next is None:
            return None
        part = next((part for part in behind if part >= self._turn), behind[0])
        self._turn = part + 1
        with self.database.read() as connection:
            rows = connection.execute(_BATCH, {"part_": part, "pos_": self._next.get(part, 0), "limit_": limit})
            records = [Rec(*row[:-1], unpack(row[-1])) for row in rows]
        if records:
            self._next[part] = records[-1].pos + 1
        return (part, records) if records else None

    def rewind(self, part: int, pos: int) -> None:
        """The next batch is one of `part` and starts at `pos`: what failed there is looked at before anything else."""
        if self._next is not None:
            self._next[part] = pos
        self._turn = part
        self._version = -1

    def leave(self, part: int, pos: int) -> None:
        """The partition is passed over for a moment."""
        self.rewind(part, pos)
        self._turn = part + 1
        self._left[part] = time.monotonic() + _LEFT_FOR

    def done(self, part: int, pos: int) -> None:
        """Nothing to do: SQL retention works by age, and lag is read from the two tables."""

    def archive(self, tx: Connection, part: int, records: Sequence[Rec]) -> None:
        """Nothing to do: the log itself is the archive."""

    # --- how it stands -----------------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        done = self._positions()
        with self.database.read() as connection:
            heads = connection.execute(_HEADS.order_by(log_head.c.part))
            return Standing("database", [Partition(part, head, done.get(part, 0)) for part, head in heads])

    def oldest(self, standing: Standing) -> Millis | None:
        firsts = [(part.part, part.position) for part in standing.partitions if part.lag]
        if not firsts:
            return None
        query = select(func.min(delivery.c.received_at)).where(tuple_(delivery.c.part, delivery.c.pos).in_(firsts))
        with self.database.read() as connection:
            at: Millis | None = connection.execute(query).scalar()
            return at

    def check(self) -> None:
        """A real write that adds nothing, because a full disk lets a transaction begin."""
        try:
            with self.database.tx() as tx:
                tx.execute(_HEADS.order_by(log_head.c.part).with_for_update())  # in the order of those who keep
                if tx.execute(update(log_head).values(head=log_head.c.head)).rowcount == 0:
                    raise NotDurable("the log has no partitions")
        except SQLAlchemyError as error:
            raise NotDurable("the log cannot be written") from error

    def prune(self, before: Millis) -> int:
        """Nothing to do: there is nothing but the deliveries."""
        return 0

    def _behind(self) -> list[int]:
        known = self._next or {}
        if self._left:
            now = time.monotonic()
            self._left = {part: until for part, until in self._left.items() if until > now}
        return sorted(
            part for part, head in self._heads.items() if head > known.get(part, 0) and part not in self._left
        )
