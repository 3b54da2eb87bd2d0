"""A copy of both databases taken while StoreCue works, with a manifest; and a copy put back in its place.

The state is copied first, the log second. So every position of the copied state lies at or before the head of the
copied log: what was acknowledged until the log was copied is either in the state or still to be worked off, and is
worked off after a restore. The other way round, what arrived and was worked off in between would be neither read again
nor kept for a replay, and what had arrived and waited would be lost. Everything else that spans both files is written
to the log first, too (replays, consent read back), or repeated until the state says that it is done (erasures).
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, make_url, text

from connector.clock import Millis, isoformat
from connector.errors import ConfigurationError, ConnectorError
from connector.storage.in_use import UNFINISHED
from connector.storage.manifest import Manifest, Moved, drafted, settle, written

STATE, LOG = "storecue.db", "inbox.db"
_TRIES = 3
_PAGES = 4096  # copied between two words about the progress
_SPARE = 64 * 1024**2  # bytes that must stay free beside a copy

Standing = tuple[dict[int, int], dict[int, int], dict[int, int]]
"""Positions of the state, heads of the log, and by partition how many deliveries between them are not there."""


class Files(NamedTuple):
    """Where the two databases lie."""

    state: Path
    log: Path


def files(database_url: str, inbox_url: str) -> Files:
    """The files of two SQLite URLs. ConfigurationError for any other database."""
    found = [make_url(url) for url in (database_url, inbox_url)]
    if any(url.get_backend_name() != "sqlite" or not url.database for url in found):
        raise ConfigurationError("these are no databases of SQLite's")
    return Files(*(Path(str(url.database)) for url in found))


def opened(path: Path) -> sqlite3.Connection:
    """A connection to a database that is there; it makes none."""
    there = f"file:{quote(str(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(there, uri=True, isolation_level=None, timeout=15)
    connection.execute("PRAGMA query_only=ON")
    return connection


# --- out -------------------------------------------------------------------------------------------------------------


def back_up(source: Files, folder: Path, *, now: Millis, storecue: str, moved: Moved) -> Manifest:
    """Copies both databases into a new folder while others write. The folder appears when it is whole.

    Raises ConfigurationError when there is nothing to copy, no room, or the folder is there.
    """
    _may_be_made(source, folder)
    with drafted(folder) as draft:
        for _ in range(_TRIES):
            made = Files(draft / STATE, draft / LOG)
            copy(source.state, made.state, moved)
            copy(source.log, made.log, moved)
            positions, heads, missing = standing(made)
            if not missing:
                break
            # Between the two copies what the first had not worked off yet was worked off and pruned, or erased.
        else:
            raise ConnectorError("deliveries were erased or pruned during each try; start the backup again")
        return written(draft, made, positions, heads, made_at=isoformat(now), storecue=storecue, database="sqlite")


def copy(source: Path, target: Path, moved: Moved) -> None:
    """One consistent copy of a database, a single file without a write-ahead log, on the disk when it returns."""
    target.unlink(missing_ok=True)
    try:
        with closing(opened(source)) as have, closing(sqlite3.connect(target)) as made:
            # An open read keeps the backup on one snapshot: without it each commit of others would start it anew, and
            # under load it would never end.
            have.execute("BEGIN")
            have.execute("SELECT count(*) FROM sqlite_master").fetchone()
            have.backup(made, pages=_PAGES, progress=lambda _, left, total: moved(source.name, total - left, total))
            made.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise ConnectorError(f"{source} could not be copied: {error}; `storecue db check` says what to do") from error
    target.chmod(0o600)
    settle(target)


def standing(files: Files) -> Standing:
    """How the two stand to each other.

    The state is read first, as in a backup: a StoreCue that works meanwhile only moves heads on.
    """
    with looking(files.state) as state, looking(files.log) as log:
        return between(state, log)


def between(state: Connection, log: Connection) -> Standing:
    """The same of two connections, which may be one. Only of the log in SQL: a topic's partitions are left out."""
    positions = {part: pos for part, pos in state.execute(_POSITIONS)}
    heads = {part: head for part, head in log.execute(_HEADS)}
    missing = {}
    for part, head in heads.items():
        pos = positions.get(part, 0)
        there = log.execute(_THERE, {"part": part, "pos": pos, "head": head}).scalar_one()
        if there < head - pos:
            missing[part] = head - pos - there
    return positions, heads, missing


_POSITIONS = text(
    "SELECT part, pos FROM log_position WHERE part < (SELECT coalesce(min(first), 2147483647) FROM log_topic)"
)
_HEADS = text("SELECT part, head FROM log_head")
_THERE = text("SELECT count(*) FROM delivery WHERE part = :part AND pos >= :pos AND pos < :head")


@contextmanager
def looking(path: Path) -> Iterator[Connection]:
    """One snapshot of a SQLite file, which is not changed, not even by a write-ahead log."""
    engine = create_engine("sqlite+pysqlite://", creator=lambda: opened(path), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        yield connection
        connection.rollback()


def _may_be_made(source: Files, folder: Path) -> None:
    for path in source:
        if not path.exists():
            raise ConfigurationError(f"there is no {path}; name the data directory with --data or STORECUE_DATA")
    room = folder.absolute().parent
    while not room.exists():
        room = room.parent
    needed = sum(path.stat().st_size for path in source) + _SPARE
    if (free := shutil.disk_usage(room).free) < needed:
        raise ConfigurationError(
            f"the backup needs {needed / 1024**2:.0f} MiB, and {room} has {free / 1024**2:.0f}; name a folder elsewhere"
        )


# --- back ------------------------------------------------------------------------------------------------------------


def restore(
    folder: Path, target: Files, *, force: bool, state_only: bool, now: Millis, prepare: Callable[[Files], None]
) -> Path | None:
    """Puts a backup's files in their place and returns the folder with what was there before, None when nothing was.

    The caller holds the data directory alone and has looked at the manifest. `prepare` may change the copies before
    they are in their place. `state_only` keeps the present log: what it has beyond the restored state is worked again.
    A restore that is cut off leaves UNFINISHED behind, so that nothing starts before it was run again.
    """
    # Where the log is no table, what it has archived lies in the state's file, and there is one only.
    alone = state_only or target.log == target.state
    wanted = [(STATE, target.state)] if alone else [(STATE, target.state), (LOG, target.log)]
    present = [path for _, path in wanted if path.exists()]
    if present and not force:
        raise ConfigurationError(f"{present[0]} is there; --force puts it aside and the backup in its place")
    if state_only and not target.log.exists():
        raise ConfigurationError(f"there is no {target.log} to keep; leave --state-only away")
    home = target.state.parent
    marker = home / UNFINISHED
    try:
        drafts = [(_draft(folder / name, path), path) for name, path in wanted]
        there = dict(zip((path for _, path in drafts), (draft for draft, _ in drafts), strict=True))
        marker.touch(0o600)
        settle(home)
        prepare(Files(there[target.state], there.get(target.log, target.log)))
        aside = _put_aside([path for _, path in wanted], home, now)
        for draft, path in drafts:
            draft.rename(path)
        settle(home)
        marker.unlink()
        settle(home)
    except OSError as error:
        raise ConnectorError(f"the restore into {home} failed ({error.strerror}); run it again with --force") from error
    return aside


def _draft(source: Path, target: Path) -> Path:
    draft = target.with_name(f".{target.name}.restored")
    shutil.copyfile(source, draft)
    draft.chmod(0o600)
    settle(draft)
    return draft


def _put_aside(paths: list[Path], home: Path, now: Millis) -> Path | None:
    """The folder to which the databases, with their write-ahead logs, were moved."""
    files = [Path(f"{path}{end}") for path in paths for end in ("", "-wal", "-shm")]
    found = [file for file in files if file.exists()]
    if not found:
        return None
    aside = home / f"replaced-{isoformat(now).replace(':', '')}"
    aside.mkdir(mode=0o700, exist_ok=True)
    for path in found:
        path.rename(aside / path.name)
    settle(aside)
    return aside
