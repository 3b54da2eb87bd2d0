"""A PostgreSQL database as it was at one instant, and its way back: a file for each table, as COPY gives it, in zstd.

State and log are in one database, so one snapshot holds both. None of PostgreSQL's programs is needed, and what was
backed up on one version of the server goes into another.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard
from psycopg import Error
from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import Millis, isoformat
from connector.errors import ConfigurationError, ConnectorError
from connector.storage.backup import between
from connector.storage.database import Database
from connector.storage.functions import create_functions
from connector.storage.in_use import database_alone, share_database
from connector.storage.manifest import Manifest, Moved, drafted, settle, written
from connector.storage.migrations import HEAD, known, stamp, upgrade, version_of
from connector.storage.rows import (
    columns,
    count,
    go_on_after,
    index,
    last_number,
    make,
    numbered,
    present,
    tables,
)
from connector.storage.tables import inbox_metadata, metadata

END = ".copy.zst"
_CHUNK = 1024 * 1024
_NO_LIMITS = text(
    "SELECT set_config('idle_in_transaction_session_timeout', '0', true), set_config('statement_timeout', '0', true)"
)


# --- out -------------------------------------------------------------------------------------------------------------


def back_up(database: Database, folder: Path, *, now: Millis, storecue: str, moved: Moved) -> Manifest:
    """Copies all tables into a new folder while others write. The folder appears when it is whole.

    Raises ConfigurationError when there is nothing to copy, or the folder is there.
    """
    held = share_database(database)
    try:
        with drafted(folder) as draft, database.read() as connection:
            connection.execute(_NO_LIMITS)
            found = present(connection, tables())
            schema = version_of(connection)
            if schema is None or not found:
                raise ConfigurationError(f"there is nothing to back up in {database.place}")
            rows = {table.name: _out(connection, table, draft / f"{table.name}{END}", moved) for table in found}
            positions, heads, _ = between(connection, connection)
            return written(
                draft,
                [draft / f"{table.name}{END}" for table in found],
                positions,
                heads,
                made_at=isoformat(now),
                storecue=storecue,
                database="postgresql",
                schema=schema,
                columns={table.name: [column.name for column in table.c] for table in found},
                rows=rows,
                numbers={table.name: last_number(connection, table) for table in found if numbered(table)},
            )
    except (Error, SQLAlchemyError) as error:
        raise ConnectorError(f"{database.place} could not be copied: {_said(error)}") from error
    finally:
        held.give_back()


def _out(connection: Connection, table: Table, path: Path, moved: Moved) -> int:
    """The number of rows written to a file."""
    total, rows = count(connection, table), 0
    with path.open("xb") as file:
        path.chmod(0o600)
        with zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as packed:
            for block in blocks(connection, table):
                packed.write(block)
                rows += bytes(block).count(b"\n")  # one ends each row; those in texts are escaped
                moved(table.name, rows, total)
    settle(path)
    return rows


def blocks(connection: Connection, table: Table) -> Iterator[bytes]:
    """A table as COPY gives it."""
    cursor: Any = connection.connection.cursor()
    query = f'COPY (SELECT {columns(table)} FROM "{table.name}") TO STDOUT'  # noqa: S608 (our own names)
    with cursor, cursor.copy(query) as copy:
        yield from copy


# --- back ------------------------------------------------------------------------------------------------------------


def restore(
    folder: Path,
    manifest: Manifest,
    database: Database,
    *,
    force: bool,
    state_only: bool,
    prepare: Callable[[Connection], None],
    moved: Moved,
) -> None:
    """Puts a backup into a database that is empty or, with `force`, is cleared first: in one transaction.

    `manifest` has been looked at. `prepare` may change what was put there before it counts. `state_only` keeps the
    present log: what it has beyond the restored state is worked again. Raises ConfigurationError for a database that
    somebody works on or that holds something, or for a backup of tables that this version does not know.
    """
    if manifest.database != "postgresql":
        raise ConfigurationError(
            f"{folder} is a backup of SQLite: unset DATABASE_URL and restore it, then `storecue db copy` it to here"
        )
    held = database_alone(database)
    try:
        with database.tx() as tx:
            tx.execute(_NO_LIMITS)
            wanted = tables(metadata) if state_only else tables()
            _clear(tx, wanted, force=force, state_only=state_only)
            _fill(tx, folder, manifest, [table for table in wanted if table.name in manifest.rows], moved)
            prepare(tx)
    except (Error, SQLAlchemyError) as error:
        raise ConnectorError(f"nothing was restored into {database.place}: {_said(error)}") from error
    finally:
        held.give_back()


def _clear(tx: Connection, wanted: Sequence[Table], *, force: bool, state_only: bool) -> None:
    if state_only and not present(tx, tables(inbox_metadata)):
        raise ConfigurationError("there is no log to keep; leave --state-only away")
    there = present(tx, wanted)
    if there and not force:
        held = ", ".join(f"{count(tx, table):,} {table.name}" for table in there if table.name in _TELLING)
        raise ConfigurationError(f"the database holds rows already ({held}); --force drops them first")
    for table in there:
        table.drop(tx)
    tx.execute(text("DROP TABLE IF EXISTS alembic_version"))


_TELLING = ("profile", "delivery")


def _fill(tx: Connection, folder: Path, manifest: Manifest, wanted: Sequence[Table], moved: Moved) -> None:
    if manifest.schema not in known():
        raise ConfigurationError(
            f"{folder} was made by a newer StoreCue ({manifest.storecue}): its tables are of version "
            f"{manifest.schema}, and this one knows {HEAD} at most; restore it with that one"
        )
    if manifest.schema == HEAD:
        made = [table for table in tables() if not present(tx, [table])]
        make(tx, made)
        stamp(tx)
    else:  # as they were; the next start brings them up to date
        upgrade(tx, manifest.schema)
        made = [table for table in tables(inbox_metadata) if not present(tx, [table])]
        make(tx, made)
    create_functions(tx)
    for table in wanted:
        name = table.name
        rows = _in(tx, name, manifest.columns[name], folder / f"{name}{END}", manifest.rows[name], moved)
        if rows != manifest.rows[name]:
            raise ConnectorError(f"{name}: {rows:,} rows of {manifest.rows[name]:,}; use another backup")
        if name in manifest.numbers:
            go_on_after(tx, table, manifest.numbers[name])
    index(tx, made)


def _in(tx: Connection, name: str, names: Sequence[str], path: Path, total: int, moved: Moved) -> int:
    """The number of rows that a file's content became."""
    cursor: Any = tx.connection.cursor()
    into, rows = ", ".join(f'"{column}"' for column in names), 0
    with cursor:
        with path.open("rb") as file, cursor.copy(f'COPY "{name}" ({into}) FROM STDIN') as copy:
            for block in zstandard.ZstdDecompressor().read_to_iter(file, write_size=_CHUNK):
                copy.write(block)
                rows += block.count(b"\n")
                moved(name, rows, total)
        return int(cursor.rowcount)


def rows_in(folder: Path, name: str) -> int:
    """The number of rows in a table's file."""
    with (folder / f"{name}{END}").open("rb") as file:
        return sum(block.count(b"\n") for block in zstandard.ZstdDecompressor().read_to_iter(file))


def _said(error: Exception) -> str:
    """The driver's own first line, which has no value of a row in it."""
    return str(getattr(error, "orig", error)).partition("\n")[0]
