"""SQLite as tests use it: what every process pays once is paid once for all tests, and no test waits for a disk.

Three things are other than in production, and none of them changes what a statement means. A commit is not forced to
the disk: a test that ends, or an exception in it, loses nothing that way, only a power failure does, which processes of
their own are tested for (tests/e2e). Compiled statements are shared between databases, as they are shared between the
connections of one. A new state database starts as a copy of an empty one. A test marked `durable` has it
as it is, and so have those of tests/chaos."""

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.util import LRUCache

from connector import services
from connector.storage import database
from connector.storage.migrations import migrate

_make, _statements = database._engine, LRUCache(5_000)
_shared = create_engine("sqlite+pysqlite://")
_shared.connect().close()  # a dialect learns what it speaks to when it first connects
as_in_production = False
"""For the test that runs."""


def install() -> None:
    """Every Database of this process is made here from now on."""
    database._engine = _engine
    services.migrate = _migrate  # type: ignore[attr-defined]


def _engine(url: str, *arguments: Any, **more: Any) -> Engine:
    engine = _make(url, *arguments, **more)
    if engine.dialect.name == "sqlite" and not as_in_production:
        engine.dialect, engine._compiled_cache = _shared.dialect, _statements
        event.listen(engine, "connect", _not_waiting_for_the_disk)  # after the one that says FULL
    return engine


def _not_waiting_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF").close()


_empty: bytes | None = None


def _migrate(made: database.Database) -> None:
    """`migrate`, and for a state that does not exist yet a copy of what it once made."""
    global _empty
    path = Path(made.engine.url.database or "")
    if as_in_production or made.dialect != "sqlite" or path.exists():
        return migrate(made)
    if _empty is None:
        _empty = _migrated()
    path.write_bytes(_empty)
    return None


def _migrated() -> bytes:
    """The file of an empty state."""
    folder = Path(tempfile.mkdtemp())
    made = database.Database(database.sqlite_url(folder / "empty.db"))
    migrate(made)
    made.close()  # the last connection moves the write-ahead log into the file
    content = (folder / "empty.db").read_bytes()
    shutil.rmtree(folder)
    return content
