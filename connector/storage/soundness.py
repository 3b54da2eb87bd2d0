"""What is wrong with what is kept, state and log, alone and together, and what to do about it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, exists, func, select
from sqlalchemy.exc import SQLAlchemyError

from connector.storage.backup import Files, between, looking, opened
from connector.storage.database import Database
from connector.storage.manifest import Manifest
from connector.storage.rows import last_number, numbered, present, tables
from connector.storage.tables import (
    delivery,
    event,
    identifier,
    log_head,
    log_topic,
    membership,
    profile,
    shop_order,
    sync_state,
)

_MOST = 5  # faults told of one file
_OF_A_PERSON = (identifier, event, membership, sync_state, shop_order)

_DAMAGED_STATE = (
    "stop StoreCue and run `storecue db restore BACKUP --state-only --force`: the log works off again what came since"
)
_DAMAGED_LOG = (
    "stop StoreCue, move inbox.db and the files beside it with the same beginning elsewhere, and start it: a new log "
    "goes on past what was worked off; what was acknowledged and waited is in the last backup at best"
)
_DAMAGED_SERVER = (
    "this is the server's disk or memory: see its own log, and restore the server's or StoreCue's last backup; of "
    "StoreCue's with --state-only where only the state is damaged"
)
_OURS = "this is a fault of StoreCue's: please report it with the version of StoreCue, and keep a backup"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `fix` says what to do."""

    message: str
    fix: str


def faults(files: Files) -> Iterator[Fault]:
    """Every fault found, of a StoreCue that may be at work. Reads all of both files."""
    broken = False
    for path, fix in ((files.state, _DAMAGED_STATE), (files.log, _DAMAGED_LOG)):
        for message in _damage(path):
            broken = True
            yield Fault(f"{path.name}: {message}", fix)
    if not broken:
        with looking(files.state) as state, looking(files.log) as log:
            yield from _between(state, log, "storecue.db", "inbox.db")
            yield from _strangers(state, "storecue.db: ")


def faults_on_server(database: Database) -> Iterator[Fault]:
    """The same of a PostgreSQL database, which holds both."""
    broken = False
    with database.read() as connection:
        missing = {table.name for table in tables()} - {table.name for table in present(connection, tables())}
    if missing:
        broken = True
        yield Fault(f"there is no table {', '.join(sorted(missing))}", "start StoreCue once, or restore a backup")
    else:
        for message in _unreadable(database):
            broken = True
            yield Fault(message, _DAMAGED_SERVER)
    if not broken:
        with database.read() as connection:
            yield from _between(connection, connection, "the state", "the log")
            yield from _strangers(connection, "")
            yield from _numbers(connection)


def _damage(path: Path) -> list[str]:
    if not path.exists():
        return ["is not there"]
    try:
        with closing(opened(path)) as database:
            found = [str(row[0]) for row in database.execute(f"PRAGMA integrity_check({_MOST})")]
    except sqlite3.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def faults_of_snapshot(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    """The same of a backup of PostgreSQL, as far as its files tell, whose sums have been compared."""
    from connector.storage.snapshot import rows_in

    for name, rows in manifest.rows.items():
        if (found := rows_in(folder, name)) != rows:
            yield Fault(f"{name} has {found:,} rows, and {rows:,} were backed up", "use another backup")
    if beyond := {int(part): pos for part, pos in manifest.positions.items() if pos > manifest.heads.get(part, 0)}:
        yield Fault(f"the log in it is older than the state: {_parts(beyond)}", "use another backup where there is one")


def _unreadable(database: Database) -> Iterator[str]:
    """What cannot be read of each table; and of each index, where the server has amcheck."""
    from psycopg import Error

    from connector.storage.snapshot import blocks

    for table in tables():
        with database.read() as connection:
            try:
                for _ in blocks(connection, table):
                    pass
            except Error as error:
                yield f"{table.name}: {str(error).partition(_LINE)[0]}"
    with database.read() as connection:
        indexes = _indexes(connection)
    for name in indexes:
        with database.read() as connection:
            try:
                connection.exec_driver_sql("SELECT bt_index_check(CAST(%s AS regclass))", (name,))
            except SQLAlchemyError as error:
                yield f"{name}: {str(getattr(error, 'orig', error)).partition(_LINE)[0]}"


_LINE = "\n"
_MAY_CHECK = (
    "SELECT count(*) FROM pg_proc WHERE proname = 'bt_index_check' AND pg_function_is_visible(oid)"
    " AND has_function_privilege(oid, 'EXECUTE')"
)
_INDEXES = (
    "SELECT quote_ident(i.relname) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
    " JOIN pg_class t ON t.oid = x.indrelid JOIN pg_am a ON a.oid = i.relam"
    " WHERE a.amname = 'btree' AND i.relkind = 'i' AND t.relnamespace = current_schema()::regnamespace"
    " AND t.relname = ANY(%s) ORDER BY 1"
)


def _indexes(connection: Connection) -> list[str]:
    """Those that can be checked: none where the server has no amcheck, or we may not use it."""
    if not connection.exec_driver_sql(_MAY_CHECK).scalar_one():
        return []
    names = [table.name for table in tables()]
    return list(connection.exec_driver_sql(_INDEXES, (names,)).scalars())


def _between(state: Connection, log: Connection, of_state: str, of_log: str) -> Iterator[Fault]:
    """What the one says that the other contradicts."""
    positions, heads, missing = between(state, log)
    if beyond := {part: pos for part, pos in positions.items() if pos > heads.get(part, 0)}:
        yield Fault(
            f"{of_log} is older than {of_state}: {_parts(beyond)} was worked off further than the log goes",
            "nothing is wrong with the state, and the next start goes on past it; what the older log lacks and had not "
            "been worked off is lost: fetch that time again from the sender",
        )
    if missing:
        lacking = f"{sum(missing.values()):,} deliveries that {of_state} has not worked off ({_parts(missing)})"
        yield Fault(
            f"{of_log} lacks {lacking}",
            f"they were pruned or erased after {of_state} was backed up, or are lost: restore a newer backup, or "
            "fetch that time again from the sender",
        )
    topics = state.execute(select(func.min(log_topic.c.first))).scalar()
    query = select(func.count()).select_from(delivery).outerjoin(log_head, log_head.c.part == delivery.c.part)
    query = query.where(log_head.c.head.is_(None) | (delivery.c.pos >= log_head.c.head))
    if topics is not None:  # what a topic brought is kept in the table, under numbers of its own
        query = query.where(delivery.c.part < topics)
    if ahead := log.execute(query).scalar_one():
        yield Fault(
            f"{of_log} has {ahead:,} deliveries past its own head: the next ones cannot be kept",
            "stop StoreCue and restore both from one backup",
        )


def _strangers(state: Connection, where: str) -> Iterator[Fault]:
    """Facts about people who are not there."""
    for table in _OF_A_PERSON:
        there = exists().where(profile.c.id == table.c.profile_id)
        query = select(func.count()).select_from(table).where(table.c.profile_id.is_not(None), ~there)
        if count := state.execute(query).scalar_one():
            yield Fault(f"{where}{count:,} rows of {table.name} belong to no profile", _OURS)


def _numbers(connection: Connection) -> Iterator[Fault]:
    """Ids that the server would give a second time."""
    for table in filter(numbered, tables()):
        highest = connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()
        if highest > last_number(connection, table):
            yield Fault(
                f"{table.name}: the next id is not past the last row's ({highest})",
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {highest})",
            )


def _parts(of: dict[int, int]) -> str:
    return f"partition{'' if len(of) == 1 else 's'} {', '.join(map(str, sorted(of)))}"
