"""Memberships and the facts behind them, in the database. The folder's only file with statements of its own."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, TextClause, text

from connector.clock import Millis
from connector.domain import Facts, Json, StoredEvent
from connector.segments.evaluate import RuleSet
from connector.segments.membership import MembershipChange, Row
from connector.segments.query import DIALECTS

_PROFILES = "SELECT id, traits, consent FROM profile WHERE {people} AND merged_into IS NULL"
_MEMBERSHIPS = "SELECT profile_id, segment, matched, since, because, recheck_at FROM membership WHERE {people}"
_SAVE = """
INSERT INTO membership (segment, profile_id, matched, since, because, recheck_at) VALUES ({})
ON CONFLICT (segment, profile_id) DO UPDATE SET matched = excluded.matched, since = excluded.since,
because = excluded.because, recheck_at = excluded.recheck_at
"""
_DELETE = "DELETE FROM membership WHERE segment = {0} AND profile_id = {0}"
_DUE = "SELECT profile_id FROM membership WHERE recheck_at <= :now ORDER BY recheck_at LIMIT :limit"
_POSTPONE = "UPDATE membership SET recheck_at = :until WHERE profile_id = :profile_id AND recheck_at <= :now"
_NEXT_DUE = "SELECT min(recheck_at) FROM membership WHERE recheck_at IS NOT NULL"
_MEMBERS = """
SELECT profile_id, since, because, recheck_at FROM membership
WHERE segment = :segment AND matched = 1 AND profile_id > :after ORDER BY profile_id LIMIT :limit
"""
_COUNTS = "SELECT segment, count(*) FROM membership WHERE matched = 1 GROUP BY segment"
# These two go to the driver as they are: half the time of the rest.
_VALUES = {
    "sqlite": "?, ?, ?, ?, ?, ?",
    "postgresql": "%s::VARCHAR, %s::BIGINT, %s::INTEGER, %s::BIGINT, %s::VARCHAR, %s::BIGINT",  # see storage.at_once
}
_MARKS = {"sqlite": "?", "postgresql": "%s"}
_NOTHING: Mapping[str, Json] = {}


class Member(NamedTuple):
    """One profile in a segment."""

    profile_id: int
    since: Millis
    because: str
    recheck_at: Millis | None


def load_facts(connection: Connection, profile_ids: Sequence[int], ruleset: RuleSet, now: Millis) -> dict[int, Facts]:
    """What the rules need to know about each of these profiles, in two statements. Unknown and merged ones are left
    out. Events that no rule could count any more are not read, nor properties that no rule looks at."""
    ids = orjson.dumps(list(profile_ids)).decode()
    facts: dict[int, Facts] = {}
    events: dict[int, dict[str, list[StoredEvent]]] = {}
    loads = orjson.loads
    for id, traits, consent in connection.execute(_about(connection, _PROFILES, "id"), {"ids": ids}):
        events[id] = {}
        states = {channel: given.get("state") for channel, given in loads(consent).items()} if consent != "{}" else {}
        facts[id] = Facts(loads(traits), states, events[id])
    if ruleset.needs and facts:
        statement, params = _events_statement(ruleset, now)
        rows = connection.execute(_about(connection, statement), params | {"ids": ids})
        for profile_id, name, at, day, properties in rows:
            of_profile = events.get(profile_id)
            if of_profile is not None:
                stored = StoredEvent(at, day, _NOTHING if properties is None else loads(properties))
                of_profile.setdefault(name, []).append(stored)
    return facts


def _about(connection: Connection, statement: str, column: str = "profile_id") -> TextClause:
    """The statement about the people in `:ids`."""
    return _text(statement.replace("{people}", DIALECTS[connection.dialect.name].people.format(column)))


_text = lru_cache(256)(text)  # the rules of a configuration give few statements, again and again


def _events_statement(ruleset: RuleSet, now: Millis) -> tuple[str, dict[str, Any]]:
    """Events of the needed names within their reach, oldest first."""
    params: dict[str, Any] = {}
    reaches, read = [], []
    for i, (name, reach) in enumerate(ruleset.needs.items()):
        params[f"n{i}"] = name
        params[f"f{i}"] = -(1 << 62) if reach is None else now - reach
        reaches.append(f"WHEN :n{i} THEN :f{i}")
        if name in ruleset.reads:
            read.append(f":n{i}")
    properties = f"CASE WHEN name IN ({', '.join(read)}) THEN properties END" if read else "NULL"
    statement = (
        f"SELECT profile_id, name, at, day, {properties}"
        " FROM event WHERE {people}"
        f" AND at > :floor AND at > CASE name {' '.join(reaches)} END ORDER BY profile_id, at, id"
    )
    params["floor"] = min(value for key, value in params.items() if key.startswith("f"))
    return statement, params


def load_memberships(connection: Connection, profile_ids: Sequence[int]) -> dict[int, dict[str, Row]]:
    """The stored memberships of each of these profiles, by segment."""
    found: dict[int, dict[str, Row]] = {id: {} for id in profile_ids}
    rows = connection.execute(_about(connection, _MEMBERSHIPS), {"ids": orjson.dumps(list(profile_ids)).decode()})
    for profile_id, segment, matched, since, because, recheck_at in rows:
        found[profile_id][segment] = Row(matched == 1, since, because, recheck_at)
    return found


def save_memberships(connection: Connection, changes: Iterable[tuple[int, MembershipChange]]) -> None:
    """Store what `membership.changes` found, given as (profile id, change)."""
    saved, deleted = [], []
    for profile_id, (segment, _, row) in changes:
        if row is None:
            deleted.append((segment, profile_id))
        else:
            saved.append((segment, profile_id, int(row.matched), row.since, row.because, row.recheck_at))
    if saved:
        connection.exec_driver_sql(_SAVE.format(_VALUES[connection.dialect.name]), saved)
    if deleted:
        connection.exec_driver_sql(_DELETE.format(_MARKS[connection.dialect.name]), deleted)


def due(connection: Connection, now: Millis, limit: int) -> list[int]:
    """Profiles with a membership to look at again, the longest overdue first, each once. At most `limit`."""
    rows = connection.execute(text(_DUE), {"now": now, "limit": limit})
    return list(dict.fromkeys(row[0] for row in rows))


def postpone(tx: Connection, profile_id: int, now: Millis, until: Millis) -> None:
    """Look at a profile's memberships that are due only at `until` again."""
    where = {"profile_id": profile_id, "now": now, "until": until}
    tx.execute(text(_POSTPONE), where)


def next_due(connection: Connection) -> Millis | None:
    """The first instant at which a membership wants looking at, None when none does."""
    found: Millis | None = connection.execute(text(_NEXT_DUE)).scalar()
    return found


def members(connection: Connection, segment: str, *, after: int = 0, limit: int = 100) -> list[Member]:
    """A page of a segment's members by profile id; `after` is the last id of the page before."""
    rows = connection.execute(text(_MEMBERS), {"segment": segment, "after": after, "limit": limit})
    return [Member(*row) for row in rows]


def counts(connection: Connection) -> dict[str, int]:
    """How many members each segment has; segments without any are left out."""
    return {segment: count for segment, count in connection.execute(text(_COUNTS))}
