"""What is wrong with the two databases, alone and together, and what to do about it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from connector.storage.backup import Files, opened, standing
from connector.storage.tables import event, identifier, membership, shop_order, sync_state

_MOST = 5  # faults told of one file
_OF_A_PERSON = (identifier, event, membership, sync_state, shop_order)

_DAMAGED_STATE = (
    "stop StoreCue and run `storecue db restore BACKUP --state-only --force`: the log works off again what came since"
)
_DAMAGED_LOG = (
    "stop StoreCue, move inbox.db and the files beside it with the same beginning elsewhere, and start it: a new log "
    "goes on past what was worked off; what was acknowledged and waited is in the last backup at best"
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
        yield from _between(files)
        yield from _strangers(files.state)


def _damage(path: Path) -> list[str]:
    if not path.exists():
        return ["is not there"]
    try:
        with closing(opened(path)) as database:
            found = [str(row[0]) for row in database.execute(f"PRAGMA integrity_check({_MOST})")]
    except sqlite3.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _between(files: Files) -> Iterator[Fault]:
    """What the one file says that the other contradicts."""
    positions, heads, missing = standing(files)
    if beyond := {part: pos for part, pos in positions.items() if pos > heads.get(part, 0)}:
        yield Fault(
            f"inbox.db is older than storecue.db: {_parts(beyond)} was worked off further than the log goes",
            "nothing is wrong with the state, and the next start goes on past it; what the older log lacks and had not "
            "been worked off is lost: fetch that time again from the sender",
        )
    if missing:
        lacking = f"{sum(missing.values()):,} deliveries that storecue.db has not worked off ({_parts(missing)})"
        yield Fault(
            f"inbox.db lacks {lacking}",
            "they were pruned or erased after this storecue.db was backed up, or are lost: restore a newer backup, or "
            "fetch that time again from the sender",
        )
    query = "SELECT count(*) FROM delivery LEFT JOIN log_head USING (part) WHERE head IS NULL OR pos >= head"
    with closing(opened(files.log)) as log:
        [ahead] = log.execute(query).fetchone()
    if ahead:
        yield Fault(
            f"inbox.db has {ahead:,} deliveries past its own head: the next ones cannot be kept",
            "stop StoreCue and restore both files from one backup",
        )


def _strangers(path: Path) -> Iterator[Fault]:
    """Facts about people who are not there."""
    with closing(opened(path)) as state:
        for table in _OF_A_PERSON:
            query = (
                f"SELECT count(*) FROM {table.name} AS fact WHERE fact.profile_id IS NOT NULL "  # noqa: S608 (our tables)
                "AND NOT EXISTS (SELECT 1 FROM profile WHERE profile.id = fact.profile_id)"
            )
            [count] = state.execute(query).fetchone()
            if count:
                yield Fault(f"storecue.db: {count:,} rows of {table.name} belong to no profile", _OURS)


def _parts(of: dict[int, int]) -> str:
    return f"partition{'' if len(of) == 1 else 's'} {', '.join(map(str, sorted(of)))}"
