"""Everything that StoreCue keeps, copied from one database to another: from SQLite to PostgreSQL, or back.

The target is one transaction for each of its databases, which commits when the sums of both sides agree: a copy that is
cut off leaves nothing. The caller holds both sides alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData, Table, select, text
from sqlalchemy.exc import SQLAlchemyError

from connector.errors import ConfigurationError, ConnectorError
from connector.storage.database import Database
from connector.storage.functions import create_functions
from connector.storage.manifest import Moved
from connector.storage.migrations import HEAD, stamp, version_of
from connector.storage.phrases import upsert
from connector.storage.rows import (
    Row,
    Sum,
    count,
    go_on_after,
    index,
    last_number,
    make,
    numbered,
    present,
    read,
    tables,
    without_nul,
    write,
)
from connector.storage.tables import SPENT, delivery, inbox_metadata, meta, metadata, profile

_NO_LIMITS = (
    "SELECT set_config('idle_in_transaction_session_timeout', '0', true), set_config('statement_timeout', '0', true),"
    " set_config('lock_timeout', '5s', true)"
)


@dataclass(frozen=True)
class Side:
    """The databases of a StoreCue: on a server the same one twice."""

    state: Database
    log: Database

    def of(self, table: Table) -> Database:
        return self.log if table.metadata is inbox_metadata else self.state


@dataclass(frozen=True)
class Copied:
    """By table what is in the copy. `altered`: rows whose texts held NUL, which PostgreSQL cannot keep."""

    sums: Mapping[str, Sum]
    altered: int

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.sums.values())


def copy(source: Side, target: Side, *, force: bool, moved: Moved) -> Copied:
    """Copies all tables into `target`, which is empty or, with `force`, is cleared first.

    Raises ConfigurationError when it is not, or when the source has another schema than this version's, and
    ConnectorError when a row is refused or the copy is not as its source.
    """
    with _reading(source) as have:
        _is_today(have[metadata])
        with _writing(target) as into:
            _cleared(into, force)
            sums, altered = {}, 0
            for table in tables():
                sums[table.name], changed = _table(have[table.metadata], into[table.metadata], table, moved)
                altered += changed
            for tx in {id(tx): tx for tx in into.values()}.values():
                create_functions(tx)
            stamp(into[metadata])
            for table in tables():
                if (found := summed(into[table.metadata], table, moved)) != sums[table.name]:
                    raise ConnectorError(
                        f"{table.name} is not the same in the copy ({found.rows:,} rows of {sums[table.name].rows:,}); "
                        "nothing was kept there: try again, and see that nobody else writes to it"
                    )
            _spend_ids(have[metadata], into[metadata])
    return Copied(sums, altered)


def summed(connection: Connection, table: Table, moved: Moved) -> Sum:
    """What to compare another copy of the table by."""
    made = Sum()
    total = count(connection, table)
    for piece in read(connection, table):
        made.add(piece)
        moved(f"{table.name}, compared", made.rows, total)
    return made


def _table(have: Connection, into: Connection, table: Table, moved: Moved) -> tuple[Sum, int]:
    """The sum of what was copied, and the number of rows that had to be altered."""
    made, altered = Sum(), 0
    total = count(have, table) if present(have, [table]) else 0
    nul_allowed = into.dialect.name == "sqlite"

    def pieces() -> Iterator[Sequence[Row]]:
        nonlocal altered
        for piece in read(have, table) if total else ():
            kept = piece if nul_allowed else without_nul(piece)
            altered += sum(before is not after and before != after for before, after in zip(piece, kept, strict=True))
            made.add(kept)
            yield kept
            moved(table.name, made.rows, total)

    make(into, [table])
    try:
        write(into, table, pieces())
    except Exception as error:
        said = str(getattr(error, "orig", error)).partition("\n")[0]
        raise ConnectorError(f"{table.name} could not be copied, and nothing was kept there: {said}") from error
    index(into, [table])
    if numbered(table):
        go_on_after(into, table, last_number(have, table) if total else 0)
    return made, altered


def _spend_ids(have: Connection, into: Connection) -> None:
    """No new profile gets the id of one that was erased: vendors and receipts know people by it. PostgreSQL's sequence
    goes on after all that were ever given, SQLite has a note of those that nobody has."""
    spent = int(have.execute(select(meta.c.value).where(meta.c.name == SPENT)).scalar() or 0)
    last = max(spent, last_number(have, profile))
    go_on_after(into, profile, last)
    row = upsert(meta).values(name=SPENT, value=str(last))
    into.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))


def _cleared(into: Mapping[MetaData, Connection], force: bool) -> None:
    there = {of: present(into[of], tables(of)) for of in into}
    if not any(there.values()):
        return
    if not force:
        raise ConfigurationError(f"the target holds {_told(into)} already; --force clears it first")
    for of, found in there.items():
        for table in found:
            table.drop(into[of])
    into[metadata].execute(text("DROP TABLE IF EXISTS alembic_version"))


def _told(have: Mapping[MetaData, Connection]) -> str:
    parts = [
        f"{count(have[table.metadata], table):,} {name}"
        for table, name in ((profile, "profiles"), (delivery, "deliveries"))
        if present(have[table.metadata], [table])
    ]
    return " and ".join(parts) or "tables of StoreCue"


def _is_today(state: Connection) -> None:
    found = version_of(state)
    if found is None:
        raise ConfigurationError("there is nothing to copy: no StoreCue has worked on the source")
    if found != HEAD:
        raise ConfigurationError(
            f"the tables of the source are of version {found}, and this StoreCue knows {HEAD}: `storecue db migrate`"
        )


@contextmanager
def _reading(side: Side) -> Iterator[Mapping[MetaData, Connection]]:
    with side.state.read() as state:
        if side.log is side.state:
            yield {metadata: state, inbox_metadata: state}
        else:
            with side.log.read() as log:
                yield {metadata: state, inbox_metadata: log}


@contextmanager
def _writing(side: Side) -> Iterator[Mapping[MetaData, Connection]]:
    """The log commits first: a state without its log is never there."""
    try:
        with side.state.tx() as state:
            if state.dialect.name == "postgresql":
                state.exec_driver_sql(_NO_LIMITS)
            if side.log is side.state:
                yield {metadata: state, inbox_metadata: state}
            else:
                with side.log.tx() as log:
                    yield {metadata: state, inbox_metadata: log}
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", error)).partition("\n")[0]
        raise ConnectorError(f"the copy failed, and nothing was kept in {side.state.place}: {said}") from error
