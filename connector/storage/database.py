"""One database: engine, transactions, reads. SQLite in WAL with synchronous=FULL, or PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from connector.errors import ConfigurationError, Fenced
from connector.storage.at_once import insert_at_once

_WRITERS = 0x53746F7265  # PostgreSQL's advisory lock of those who write to the state; such locks are per database
_IDLE = "10s"  # a write transaction of a process that was frozen, or whose machine is gone, is ended after that
_ALONE = f"SELECT pg_advisory_xact_lock({_WRITERS}), set_config('idle_in_transaction_session_timeout', '{_IDLE}', true)"
_BESIDE = _ALONE.replace("_xact_lock(", "_xact_lock_shared(")
_CROSSED = ("40P01", "40001")  # deadlock_detected, serialization_failure
_FREELY = f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE}'"


class Database:
    """A handle on one database, safe to share between threads. Create it after a fork, never before.

    `one_writer`: whoever writes has the database for themselves, unless they say that they may write `beside` others.
    `page`: bytes of a page of a SQLite file that is made now; one that is there keeps its own.
    """

    def __init__(self, url: str, *, pool_size: int = 20, one_writer: bool = True, page: int = 4096) -> None:
        self.url = url
        self.engine = _engine(url, pool_size, page)
        self.dialect = self.engine.dialect.name
        self._writer = threading.Lock()
        self._one_writer = one_writer
        self._check: Callable[[Connection], None] | None = None

    def guarded(self, check: Callable[[Connection], None]) -> "Database":
        """The same database for somebody who may write only as long as `check` raises nothing: every write transaction
        begins with it."""
        other = copy(self)
        other._check = check
        return other

    @contextmanager
    def tx(self, kept: Connection | None = None, *, beside: bool = False) -> Iterator[Connection]:
        """One write transaction: commits on exit, rolls back on an exception.

        SQLite has one writer: threads of this process queue on a lock, which is fair and wakes at once, rather than on
        SQLite's busy handler, which sleeps; other processes do meet in the busy handler. PostgreSQL has as many as may
        be `beside` each other, who hold the rows that they decide about; everybody else is alone, as on SQLite, by an
        advisory lock that the one kind shares and the other does not. `kept` is a connection that the caller holds on
        to: one that writes a thousand times a second saves its way through the pool.
        """
        with (
            self._writer if self.dialect == "sqlite" else _NO_LOCK,
            self.engine.connect() if kept is None else nullcontext(kept) as connection,
        ):
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql((_BESIDE if beside else _ALONE) if self._one_writer else _FREELY)
            try:
                if self._check is not None:
                    self._check(connection)
                yield connection
                connection.commit()
            except OperationalError as error:
                connection.rollback()
                if getattr(error.orig, "sqlstate", None) in _CROSSED:
                    raise Fenced("two workers have waited for each other, and this one gave way") from error
                raise
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that takes no lock."""
        with self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
            connection.rollback()

    def create(self, metadata: MetaData) -> None:
        """Create what is missing of `metadata`, for databases that Alembic has not made (tests, the log)."""
        with self.engine.begin() as connection:
            if self.dialect == "postgresql":  # two processes that start at once would both find nothing there
                connection.exec_driver_sql(_ALONE)
            metadata.create_all(connection)

    @property
    def place(self) -> str:
        """Where it is, for people: a file, or host and name without the password."""
        url = self.engine.url
        return str(url.database) if self.dialect == "sqlite" else f"{url.host or url.query.get('host')}/{url.database}"

    def close(self) -> None:
        self.engine.dispose()


def alone(tx: Connection) -> None:
    """From here on nobody else writes, until the transaction ends; one that runs beside others waits for them."""
    if tx.dialect.name != "sqlite":
        tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")


class _NoLock:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_NO_LOCK = _NoLock()


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file."""
    return f"sqlite+pysqlite:///{path}"


def _engine(url: str, pool_size: int, page: int) -> Engine:
    backend = url.partition(":")[0].partition("+")[0]
    if backend not in _ENGINES:
        raise ConfigurationError(f"DATABASE_URL begins with {backend}: use postgresql, or leave it out for SQLite")
    return _ENGINES[backend](url, pool_size, page)


def _postgresql(url: str, pool_size: int, _page: int) -> Engine:
    import psycopg  # here, because SQLite, the default, does without it (40 ms, 8 MB)
    from psycopg.adapt import Loader

    class Number(Loader):
        """A sum of whole numbers is whole, as on SQLite; PostgreSQL gives a decimal."""

        def load(self, data: "bytes | bytearray | memoryview") -> int | float:
            digits = bytes(data)
            return int(digits) if digits.lstrip(b"-").isdigit() else float(digits)

    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=-1,
        hide_parameters=True,  # an error must not carry a customer's data into the log
        connect_args={
            "application_name": "storecue",
            "connect_timeout": 10,
            # A machine that is gone answers nothing: the system notices after these, not after two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": "-c timezone=UTC",
        },
    )

    insert_at_once(engine)

    @event.listens_for(engine, "connect")
    def _numbers(connection: "psycopg.Connection[Any]", _record: object) -> None:
        connection.adapters.register_loader("numeric", Number)

    return engine


def _sqlite(url: str, pool_size: int, page: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=-1,
        hide_parameters=True,  # an error must not carry a customer's data into the log
        # Python's own transaction control guesses; with None we say BEGIN ourselves (SQLAlchemy's documented recipe).
        connect_args={"isolation_level": None, "timeout": 15, "check_same_thread": False, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for pragma in (
            f"page_size={page}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=15000",
            "cache_size=-65536",
            "temp_store=MEMORY",
            "mmap_size=268435456",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


_ENGINES: dict[str, Callable[[str, int, int], Engine]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "postgres": _postgresql,  # as hosting providers write it
}
