"""A copy of both databases taken while StoreCue works, with a manifest; and a copy put back in its place.

The state is copied first, the log second. So every position of the copied state lies at or before the head of the
copied log: what was acknowledged until the log was copied is either in the state or still to be worked off, and is
worked off after a restore. The other way round, what arrived and was worked off in between would be neither read again
nor kept for a replay, and what had arrived and waited would be lost. Everything else that spans both files is written
to the log first, too (replays, consent read back), or repeated until the state says that it is done (erasures).
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import make_url

from connector.clock import Millis, isoformat
from connector.errors import ConfigurationError, ConnectorError
from connector.storage.in_use import UNFINISHED

STATE, LOG, MANIFEST = "storecue.db", "inbox.db", "manifest.json"
_FORM = 1  # of the manifest
_TRIES = 3
_PAGES = 4096  # copied between two words about the progress
_CHUNK = 1024 * 1024
_SPARE = 64 * 1024**2  # bytes that must stay free beside a copy

Moved = Callable[[str, int, int], None]
"""Hears the file that is worked on, how much of it is done and how much it is: pages or bytes."""


class Files(NamedTuple):
    """Where the two databases lie."""

    state: Path
    log: Path


@dataclass(frozen=True)
class Manifest:
    """What a backup holds: sha256 and bytes by file, positions worked off and heads of the log by partition."""

    made_at: str
    storecue: str
    sha256: Mapping[str, str]
    bytes: Mapping[str, int]
    positions: Mapping[str, int]
    heads: Mapping[str, int]
    form: int = _FORM

    @property
    def waiting(self) -> int:
        """Deliveries that a restore works off."""
        return sum(max(0, head - self.positions.get(part, 0)) for part, head in self.heads.items())


def files(database_url: str, inbox_url: str) -> Files:
    """The files of two SQLite URLs. ConfigurationError for any other database."""
    found = [make_url(url) for url in (database_url, inbox_url)]
    if any(url.get_backend_name() != "sqlite" or not url.database for url in found):
        raise ConfigurationError("only SQLite is backed up here; unset DATABASE_URL, or use that database's own tools")
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
    draft = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
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
        manifest = Manifest(
            made_at=isoformat(now),
            storecue=storecue,
            sha256={path.name: _digest(path) for path in made},
            bytes={path.name: path.stat().st_size for path in made},
            positions={str(part): pos for part, pos in positions.items()},
            heads={str(part): head for part, head in heads.items()},
        )
        (draft / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        _settle(draft / MANIFEST)
        _settle(draft)
        draft.rename(folder)
        _settle(folder.absolute().parent)
    except OSError as error:
        raise ConnectorError(f"the backup could not be written to {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


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
    _settle(target)


def standing(files: Files) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Positions of the state, heads of the log, and by partition how many deliveries between them are not there.

    The state is read first, as in a backup: a StoreCue that works meanwhile only moves heads on.
    """
    with closing(opened(files.state)) as state:
        positions = dict(state.execute("SELECT part, pos FROM log_position").fetchall())
    count = "SELECT count(*) FROM delivery WHERE part = ? AND pos >= ? AND pos < ?"
    with closing(opened(files.log)) as log:
        log.execute("BEGIN")
        heads = dict(log.execute("SELECT part, head FROM log_head").fetchall())
        missing = {}
        for part, head in heads.items():
            pos = positions.get(part, 0)
            [there] = log.execute(count, (part, pos, head)).fetchone()
            if there < head - pos:
                missing[part] = head - pos - there
    return positions, heads, missing


def _may_be_made(source: Files, folder: Path) -> None:
    for path in source:
        if not path.exists():
            raise ConfigurationError(f"there is no {path}; name the data directory with --data or STORECUE_DATA")
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already; name a new folder for the backup")
    room = folder.absolute().parent
    while not room.exists():
        room = room.parent
    needed = sum(path.stat().st_size for path in source) + _SPARE
    if (free := shutil.disk_usage(room).free) < needed:
        raise ConfigurationError(
            f"the backup needs {needed / 1024**2:.0f} MiB, and {room} has {free / 1024**2:.0f}; name a folder elsewhere"
        )


# --- back ------------------------------------------------------------------------------------------------------------


def manifest_of(folder: Path, moved: Moved) -> Manifest:
    """The manifest of a backup whose files are as it says. ConfigurationError otherwise."""
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if told.get("form") != _FORM:
            raise ConfigurationError(f"{folder} was made by another version of StoreCue ({told.get('storecue')})")
        manifest = Manifest(**told)
    except (OSError, ValueError, TypeError):
        raise ConfigurationError(f"{folder} is no backup: it has no {MANIFEST} that can be read") from None
    for name in (STATE, LOG):
        path = folder / name
        if not path.is_file() or path.stat().st_size != manifest.bytes.get(name):
            raise ConfigurationError(f"{path} is not as it was backed up: use another backup")
        if _digest(path, moved) != manifest.sha256.get(name):
            raise ConfigurationError(f"{path} has changed since it was backed up (sha256): use another backup")
    return manifest


def restore(
    folder: Path, target: Files, *, force: bool, state_only: bool, now: Millis, prepare: Callable[[Files], None]
) -> Path | None:
    """Puts a backup's files in their place and returns the folder with what was there before, None when nothing was.

    The caller holds the data directory alone and has looked at the manifest. `prepare` may change the copies before
    they are in their place. `state_only` keeps the present log: what it has beyond the restored state is worked again.
    A restore that is cut off leaves UNFINISHED behind, so that nothing starts before it was run again.
    """
    wanted = [(STATE, target.state)] if state_only else [(STATE, target.state), (LOG, target.log)]
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
        _settle(home)
        prepare(Files(there[target.state], there.get(target.log, target.log)))
        aside = _put_aside([path for _, path in wanted], home, now)
        for draft, path in drafts:
            draft.rename(path)
        _settle(home)
        marker.unlink()
        _settle(home)
    except OSError as error:
        raise ConnectorError(f"the restore into {home} failed ({error.strerror}); run it again with --force") from error
    return aside


def _draft(source: Path, target: Path) -> Path:
    draft = target.with_name(f".{target.name}.restored")
    shutil.copyfile(source, draft)
    draft.chmod(0o600)
    _settle(draft)
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
    _settle(aside)
    return aside


def _digest(path: Path, moved: Moved | None = None) -> str:
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if moved is not None:
                moved(path.name, done, total)
    return digest.hexdigest()


def _settle(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
