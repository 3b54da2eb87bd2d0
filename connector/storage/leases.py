"""Turns of processes that share a PostgreSQL: leases on the server's clock, whose tokens fence off who lost one.

A lease is a row that names its holder, a process; and a process is a row with an instant, until which it has what it
holds. So one statement renews all leases of a process, and meets no lock: a writer's transaction holds on to the row of
its lease until it commits (FOR SHARE), and whoever wants to take that over passes it by meanwhile. The instant only
says when others may try. What is right does not hang on it: each time somebody takes a lease its token grows, and the
transaction of whoever has an older token is refused.
"""

import os
import secrets
import socket
import threading
import time
from typing import Any, NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, Integer, Row, delete, literal_column, select, update
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import Millis
from connector.errors import Fenced
from connector.storage.database import Database
from connector.storage.phrases import upsert
from connector.storage.tables import lease, process

log = structlog.get_logger("lease")

TTL = 10.0
"""Seconds without a sign of life until others may take what a process holds."""

_REMEMBERED = 86_400_000  # ms in which it may matter when a process ended
NOW: ColumnElement[int] = literal_column("CAST(extract(epoch FROM now()) * 1000 AS bigint)", Integer)
"""Epoch milliseconds on PostgreSQL's clock. No machine's own clock says when a lease ends."""


class Process(NamedTuple):
    """A process that lives: `until` is when it counts as gone unless it says more; None when the system would know."""

    id: str
    kind: str
    since: Millis
    until: Millis | None


class Held(NamedTuple):
    """A turn that a process has: `since` when, and `until` when nobody else may take it."""

    work: str
    name: str
    process: str
    since: Millis
    until: Millis | None


class _Won(NamedTuple):
    token: int
    spent_until: float | None


class Leases:
    """The leases of one process, renewed by a thread of their own from the first one on: a call to a vendor may hang
    for longer than a lease lasts. Create it after a fork, never before."""

    def __init__(self, database: Database, ttl: float = TTL) -> None:
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
        self.ttl = ttl
        self.database = database
        # Connections of their own, which wait for no writer's turn and no pool.
        self._own = Database(database.url, pool_size=2, one_writer=False)
        self._kind = "command"
        self._until = float("-inf")
        self._held: dict[tuple[str, str], Lease] = {}
        self._lock = threading.Lock()  # of what is in memory
        self._taking = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, work: str, name: str) -> "Lease":
        return Lease(self, work, name)

    def announce(self, kind: str) -> None:
        self._kind = kind
        if self._begin():
            self.renew()

    def close(self) -> None:
        """Give back what is held, so that the next takes it at once, and go."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1)
            for held in list(self._held.values()):
                held.give_back()
            try:
                with self._own.tx() as tx:
                    tx.execute(delete(process).where(process.c.id == self.owner))
            except SQLAlchemyError as error:
                log.warning("lease.not_given_back", hint=type(error).__name__)
        self._own.close()

    def processes(self) -> list[Process]:
        """Those that live."""
        query = select(process).where(process.c.expires_at > NOW).order_by(process.c.since)
        with self.database.read() as connection:
            return [Process(row.id, row.kind, row.since, row.expires_at) for row in connection.execute(query)]

    def held(self) -> list[Held]:
        """What they hold. What a silent one held is nobody's."""
        columns = (lease.c.work, lease.c.name, lease.c.owner, lease.c.taken_at, process.c.expires_at)
        alive = (process.c.id == lease.c.owner) & (process.c.expires_at > NOW)
        query = select(*columns).select_from(lease.join(process, alive)).order_by(lease.c.work, lease.c.name)
        with self.database.read() as connection:
            return [Held(*row) for row in connection.execute(query)]

    # --- staying alive -----------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Whether we lived already."""
        with self._lock:
            if self._thread is not None:
                return True
            self._thread = threading.Thread(target=self._live, name="leases", daemon=True)
        self.renew()
        with self._own.tx() as tx:
            tx.execute(delete(process).where(process.c.expires_at < NOW - _REMEMBERED))
        self._thread.start()
        return False

    def _live(self) -> None:
        wait = self.ttl / 3
        while not self._stopping.wait(wait):
            wait = self.ttl / 3
            try:
                self.renew()
            except SQLAlchemyError as error:
                wait = min(1.0, wait)
                log.warning("lease.not_renewed", hint=type(error).__name__, left=round(self.left(), 1))
            except Exception:
                log.exception("lease.failed")

    def renew(self) -> None:
        """Say that we live, and hear which leases are still ours."""
        with self._lock:
            held = dict(self._held)
        began = time.monotonic()  # before the server's own instant, so that we never think we have longer
        ends = NOW + int(self.ttl * 1000)
        with self._own.tx() as tx:
            row = {"id": self.owner, "kind": self._kind, "since": NOW, "expires_at": ends}
            again = {"kind": self._kind, "expires_at": ends}
            tx.execute(upsert(process).values(row).on_conflict_do_update(index_elements=["id"], set_=again))
            ours = select(lease.c.work, lease.c.name, lease.c.token).where(lease.c.owner == self.owner)
            tokens = {(work, name): token for work, name, token in tx.execute(ours)}
        with self._lock:
            self._until = began + self.ttl
            for key, one in held.items():
                one.heard(tokens.get(key), self._until)

    def left(self) -> float:
        """Seconds until others may take what we hold, if we say nothing more."""
        return self._until - time.monotonic()

    # --- taking and giving -------------------------------------------------------------------------------------------

    def take(self, wanted: "Lease") -> _Won | None:
        """What we have got; None while it is another's."""
        self._begin()
        here = (lease.c.work == wanted.work, lease.c.name == wanted.name)
        with self._taking:
            if (wanted.work, wanted.name) in self._held or self.left() <= 0:
                return None
            with self._own.read() as connection:  # a look that locks nothing, because most find it held
                owner = connection.execute(select(lease.c.owner).where(*here)).first()
                if owner is not None and not self._is_free(connection, owner[0]):
                    return None
            with self._own.tx() as tx:
                if owner is None:
                    new = {"work": wanted.work, "name": wanted.name, "token": 0, "taken_at": NOW}
                    tx.execute(upsert(lease).values(new).on_conflict_do_nothing())
                # The holder is asked for in a statement of its own, after the row is ours: joined, it would be that of
                # before when somebody took the lease meanwhile.
                row = tx.execute(select(lease).where(*here).with_for_update(skip_locked=True)).first()
                if row is None or not self._is_free(tx, row.owner):
                    return None
                ago = self._idle(tx, row)
                mine = {"owner": self.owner, "last_owner": self.owner, "token": row.token + 1}
                tx.execute(update(lease).where(*here).values(**mine, taken_at=NOW, given_back_at=None))
            won = _Won(row.token + 1, None if ago is None else time.monotonic() - ago)
            with self._lock:
                self._held[wanted.work, wanted.name] = wanted
                wanted.won(won, self._until)
        log.info("lease.taken", work=wanted.work, name=wanted.name, number=won.token)
        return won

    def _is_free(self, connection: Connection, owner: str | None) -> bool:
        """Whether a lease of this owner can be taken. Our own that we know nothing of is one whose giving back, or
        whose taking, was never answered."""
        if owner is None or owner == self.owner:
            return True
        alive = select(process.c.id).where(process.c.id == owner, process.c.expires_at > NOW)
        return connection.execute(alive).first() is None

    def _idle(self, tx: Connection, row: Row[Any]) -> float | None:
        """How many seconds ago another process held it last; None when none did."""
        if row.last_owner in (None, self.owner):
            return None
        ended = row.given_back_at
        if ended is None:
            ended = tx.execute(select(process.c.expires_at).where(process.c.id == row.owner)).scalar()
        return 0.0 if ended is None else max(0.0, (tx.execute(select(NOW)).scalar_one() - ended) / 1000)

    def give_back(self, held: "Lease", token: int) -> None:
        with self._lock:
            self._held.pop((held.work, held.name), None)
        here = (lease.c.work == held.work, lease.c.name == held.name, lease.c.token == token)
        try:
            with self._own.tx() as tx:
                ours = update(lease).where(*here, lease.c.owner == self.owner)
                tx.execute(ours.values(owner=None, given_back_at=NOW))
        except SQLAlchemyError as error:  # it ends by itself
            log.warning("lease.not_given_back", work=held.work, name=held.name, hint=type(error).__name__)

    def forget(self, lost: "Lease") -> None:
        with self._lock:
            self._held.pop((lost.work, lost.name), None)


class Lease:
    """A turn (see storage.turns) as a lease. Used by one thread; its database by any."""

    def __init__(self, leases: Leases, work: str, name: str) -> None:
        self.work = work
        self.name = name
        self.spent_until: float | None = None
        self.database = leases.database.guarded(self._check)
        self._leases = leases
        self._token: int | None = None
        self._until = float("-inf")
        self._lost = False
        self._look_at = float("-inf")

    def take(self) -> bool:
        if self._lost:
            self._leases.forget(self)
            self._token, self._lost = None, False
            log.warning("lease.lost", work=self.work, name=self.name)
            return False
        if self._token is not None:
            return self.left() > 0
        if time.monotonic() < self._look_at:
            return False
        if self._leases.take(self) is None:
            self._look_at = time.monotonic() + self._leases.ttl / 10
            return False
        return True

    def won(self, won: _Won, until: float) -> None:
        """It is ours."""
        self._token, self.spent_until, self._until = won.token, won.spent_until, until

    def heard(self, token: int | None, until: float) -> None:
        """Which token it has while it is this process's, None when it is not."""
        if self._token is None:
            return
        if token == self._token:
            self._until = until
        else:
            self._lost = True

    def left(self) -> float:
        return float("-inf") if self._token is None or self._lost else self._until - time.monotonic()

    def give_back(self) -> None:
        token, self._token, self._lost, self._look_at = self._token, None, False, float("-inf")
        if token is not None:
            self._leases.give_back(self, token)

    def _check(self, tx: Connection) -> None:
        """Raises Fenced when it is another's; else nobody takes it before this transaction has ended."""
        ours = (lease.c.work == self.work, lease.c.name == self.name, lease.c.token == self._token)
        held = select(lease.c.token).where(*ours, lease.c.owner == self._leases.owner)
        if self._token is None or tx.execute(held.with_for_update(read=True)).first() is None:
            self._lost = self._token is not None
            raise Fenced(f"{self.work} {self.name}: another process has taken this over")
