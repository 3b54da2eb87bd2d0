"""The rows of whole tables on either database: read in order, written, and summed, so that two copies are compared."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.schema import CreateTable

from connector.storage.tables import inbox_metadata, metadata

Row = tuple[Any, ...]

_PIECE = 2_000  # rows in memory at a time
_NUL, _STANDS_FOR_NUL = "\x00", "�"


def tables(*of: MetaData) -> tuple[Table, ...]:
    """Every table, in the order of the schema; by default those of the state, then those of the log."""
    return tuple(table for one in of or (metadata, inbox_metadata) for table in one.tables.values())


@dataclass(slots=True)
class Sum:
    """What two copies of a table have in common when they are equal, whatever the order of their rows."""

    rows: int = 0
    digest: int = 0

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows += 1
            self.digest += int.from_bytes(blake2b(_canonical(row), digest_size=16).digest())
        self.digest %= 1 << 128


def _canonical(row: Row) -> bytes:
    """Numbers, texts and bytes are written by Python in one way only."""
    return repr(row).encode("utf-8", "surrogatepass")


# --- reading ---------------------------------------------------------------------------------------------------------


def count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def read(connection: Connection, table: Table) -> Iterator[list[Row]]:
    """All rows, in the order of the primary key, some at a time."""
    query = select(*table.c).order_by(*table.primary_key).execution_options(stream_results=True, max_row_buffer=_PIECE)
    for piece in connection.execute(query).partitions(_PIECE):
        yield [tuple(row) for row in piece]


def without_nul(rows: Iterable[Row]) -> list[Row]:
    """The rows as PostgreSQL can keep them: no text there may hold the character NUL."""
    return [
        tuple(value.replace(_NUL, _STANDS_FOR_NUL) if type(value) is str and _NUL in value else value for value in row)
        for row in rows
    ]


# --- writing ---------------------------------------------------------------------------------------------------------


def make(tx: Connection, made: Sequence[Table]) -> None:
    """Empty tables without their indexes, which are quicker made afterwards."""
    for table in made:
        tx.execute(CreateTable(table))


def index(tx: Connection, made: Sequence[Table]) -> None:
    for table in made:
        for one in sorted(table.indexes, key=lambda index: str(index.name)):
            one.create(tx)


def write(tx: Connection, table: Table, pieces: Iterable[Sequence[Row]]) -> None:
    """Insert all of them: by COPY on PostgreSQL."""
    _WRITE[tx.dialect.name](tx, table, pieces)


def _copy(tx: Connection, table: Table, pieces: Iterable[Sequence[Row]]) -> None:
    cursor: Any = tx.connection.cursor()  # the driver's own
    with cursor, cursor.copy(f'COPY "{table.name}" ({columns(table)}) FROM STDIN') as copy:
        for piece in pieces:
            for row in piece:
                copy.write_row(row)


def _insert(tx: Connection, table: Table, pieces: Iterable[Sequence[Row]]) -> None:
    names = [column.name for column in table.c]
    for piece in pieces:
        if piece:
            tx.execute(insert(table), [dict(zip(names, row, strict=True)) for row in piece])


_WRITE: Mapping[str, Callable[[Connection, Table, Iterable[Sequence[Row]]], None]] = {
    "postgresql": _copy,
    "sqlite": _insert,
}


def columns(table: Table) -> str:
    """The names of its columns, as SQL."""
    return ", ".join(f'"{column.name}"' for column in table.c)


# --- what is there ---------------------------------------------------------------------------------------------------


def present(connection: Connection, looked_for: Sequence[Table]) -> list[Table]:
    """Those of them that are there."""
    there = set(inspect(connection).get_table_names())
    return [table for table in looked_for if table.name in there]


def numbered(table: Table) -> bool:
    """Whether its rows get their ids from the database."""
    (key, *more) = table.primary_key
    return not more and key.name == "id" and isinstance(key.type, (BigInteger, Integer))


def last_number(connection: Connection, table: Table) -> int:
    """The last id given, 0 for none. SQLite begins anew after the highest that is there, PostgreSQL never goes back."""
    if connection.dialect.name == "sqlite":
        return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one())
    sequence = connection.execute(_SEQUENCE, {"name": table.name}).scalar_one()
    last = f"SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}"  # noqa: S608
    return int(connection.exec_driver_sql(last).scalar_one())


def go_on_after(tx: Connection, table: Table, last: int) -> None:
    """The next id is `last` + 1; nothing to do on SQLite."""
    if tx.dialect.name == "postgresql":
        tx.execute(_GO_ON, {"name": table.name, "next": last + 1})


_SEQUENCE = text("SELECT pg_get_serial_sequence(:name, 'id')")
_GO_ON = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :next, false)")
