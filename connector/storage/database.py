"""One database: engine, transactions, reads. SQLite in WAL with synchronous=FULL; one writer per process at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.pool import QueuePool

from connector.errors import ConfigurationError


class Database:
    """A handle on one database, safe to share between threads. Create it after a fork, never before."""

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        self.url = url
        self.engine = _engine(url, pool_size)
        self.dialect = self.engine.dialect.name
        self._writer = threading.Lock()

    @contextmanager
    def tx(self, kept: Connection | None = None) -> Iterator[Connection]:
        """One write transaction: commits on exit, rolls back on an exception.

        SQLite has one writer: threads of this process queue on a lock, which is fair and wakes at once, rather than on
        SQLite's busy handler, which sleeps; other processes do meet in the busy handler. `kept` is a connection that
        the caller holds on to: one that writes a thousand times a second saves its way through the pool.
        """
        with (
            self._writer if self.dialect == "sqlite" else _NO_LOCK,
            self.engine.connect() if kept is None else nullcontext(kept) as connection,
        ):
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that takes no lock."""
        with self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    def create(self, metadata: MetaData) -> None:
        """Create what is missing of `metadata`, for databases that Alembic has not made (tests, the log)."""
        metadata.create_all(self.engine)

    def close(self) -> None:
        self.engine.dispose()


class _NoLock:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_NO_LOCK = _NoLock()


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file."""
    return f"sqlite+pysqlite:///{path}"


def _engine(url: str, pool_size: int) -> Engine:
    if not url.startswith("sqlite"):
        raise ConfigurationError(f"{url.partition(':')[0]} is not supported yet: use SQLite, the default")
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
