"""A changed or new rule's memberships filled again, in ranges of profiles, by SQL alone.

Progress is in the table `refill`, so that a restart goes on where it was. A segment without a rule loses its rows and
then its line in `refill`.
"""

from typing import NamedTuple

from sqlalchemy import Connection, text

from connector.clock import Millis
from connector.segments.condition import Condition
from connector.segments.evaluate import RuleSet
from connector.segments.query import DIALECTS
from connector.segments.sql import statement

BECAUSE = "the rule was applied to everyone"
"""Stands for the reason until the profile is next decided on its own."""

_START = """
INSERT INTO refill (segment, position, last, started_at, finished_at) VALUES (:segment, 0, :last, :now, NULL)
ON CONFLICT (segment) DO UPDATE SET position = 0, last = excluded.last, started_at = excluded.started_at,
finished_at = NULL
"""
_PROGRESS = "SELECT position, last FROM refill WHERE segment = :segment"
_ADVANCE = "UPDATE refill SET position = :hi, finished_at = :finished WHERE segment = :segment"
_FINISH_REMOVED = "DELETE FROM refill WHERE segment = :segment"

_RANGE = "segment = :segment AND profile_id > :lo AND profile_id <= :hi"
_ANY_ROW = f"SELECT EXISTS (SELECT 1 FROM membership WHERE {_RANGE})"
_MATCHED = f"SELECT profile_id FROM membership WHERE {_RANGE} AND matched = 1"
_DELETE = f"DELETE FROM membership WHERE {_RANGE}"

_TABLE = """
CREATE TEMPORARY TABLE IF NOT EXISTS refilled
(profile_id BIGINT PRIMARY KEY, matched INTEGER NOT NULL, recheck_at BIGINT)
"""
_EMPTY = "DELETE FROM refilled"
_COMPUTE = "INSERT INTO refilled (profile_id, matched, recheck_at) {rule}"
_NOT_REFILLED = "NOT EXISTS (SELECT 1 FROM refilled r WHERE r.profile_id = membership.profile_id)"
_FLIPPED = f"""
SELECT r.profile_id FROM refilled r LEFT JOIN membership m ON m.segment = :segment AND m.profile_id = r.profile_id
WHERE r.matched <> coalesce(m.matched, 0)
UNION ALL
SELECT profile_id FROM membership WHERE {_RANGE} AND matched = 1 AND {_NOT_REFILLED}
"""
_DELETE_GONE = f"{_DELETE} AND {_NOT_REFILLED}"
_INSERT = """
INSERT INTO membership (segment, profile_id, matched, since, because, recheck_at)
SELECT :segment, n.profile_id, n.matched, :now, :because, n.recheck_at FROM {rows} AS n WHERE true
"""
_UPSERT = (
    _INSERT.format(rows="refilled")
    + """
ON CONFLICT (segment, profile_id) DO UPDATE SET matched = excluded.matched, because = excluded.because,
since = CASE WHEN membership.matched = excluded.matched THEN membership.since ELSE excluded.since END,
recheck_at = excluded.recheck_at
WHERE membership.matched <> excluded.matched OR coalesce(membership.recheck_at, -1) <> coalesce(excluded.recheck_at, -1)
"""
)


class Progress(NamedTuple):
    """How far a refill has come: profiles up to the id `position` of `last` are done. `flipped`: profiles of this
    step that entered or left the segment."""

    position: int
    last: int
    done: bool
    flipped: list[int]


def start(tx: Connection, segment: str, last: int, now: Millis) -> None:
    """Begin the refill of a segment, again if it was under way; `last` is the greatest profile id there is."""
    tx.execute(text(_START), {"segment": segment, "last": last, "now": now})


def step(tx: Connection, ruleset: RuleSet, segment: str, now: Millis, size: int) -> Progress:
    """Fill the next `size` profile ids of a started refill. Segments that the rule refers to must be filled before.

    Without a rule (a removed segment) its rows of the range go.
    """
    found = tx.execute(text(_PROGRESS), {"segment": segment}).first()
    if found is None:
        return Progress(0, 0, True, [])  # a removed segment, and another worker has finished it
    position, last = found
    hi = min(position + size, last)
    where = {"segment": segment, "lo": position, "hi": hi}
    condition = ruleset.conditions.get(segment)
    done = hi >= last
    flipped = _clear(tx, where) if condition is None else _fill(tx, condition, where, now)
    if done and condition is None:
        tx.execute(text(_FINISH_REMOVED), {"segment": segment})
    else:
        tx.execute(text(_ADVANCE), {"segment": segment, "hi": hi, "finished": now if done else None})
    return Progress(hi, last, done, flipped)


def _clear(tx: Connection, where: dict[str, object]) -> list[int]:
    flipped = list(tx.execute(text(_MATCHED), where).scalars())
    tx.execute(text(_DELETE), where)
    return flipped


def _fill(tx: Connection, condition: Condition, where: dict[str, object], now: Millis) -> list[int]:
    rule = statement(condition, now, DIALECTS[tx.dialect.name])
    given = rule.params | where
    row = {"segment": where["segment"], "now": now, "because": BECAUSE}
    if not tx.execute(text(_ANY_ROW), where).scalar_one():
        tx.execute(text(_INSERT.format(rows=f"({rule.text})")), given | row)
        return list(tx.execute(text(_MATCHED), where).scalars())
    tx.execute(text(_TABLE))
    tx.execute(text(_EMPTY))
    tx.execute(text(_COMPUTE.format(rule=rule.text)), given)
    flipped = list(tx.execute(text(_FLIPPED), where).scalars())
    tx.execute(text(_DELETE_GONE), where)
    tx.execute(text(_UPSERT), row)
    return flipped
