"""Profiles as people look at them: found by any identifier, and one with all that is known of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, func, or_, select

from connector.reporting.pages import Page, Row, cut, decode
from connector.storage.tables import identifier, membership, profile, push, sync_state

KINDS: tuple[str, ...] = (
    "customer_id",
    "email",
    "phone",
    "checkout_token",
    "cart_token",
    "anonymous_id",
)

_SHOWN = ("first_name", "last_name", "orders_count", "total_spent", "last_order_at")
_LAST_CHARACTER = "\U0010ffff"


def search(
    connection: Connection,
    identifiers: Mapping[str, Sequence[str]],
    q: str | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """Profiles, newest first, that have for each kind in `identifiers` one of its values, and an identifier that
    starts with `q` (or `q` as id)."""
    query = select(profile.c.id, profile.c.email, profile.c.traits, profile.c.created_at, profile.c.updated_at).where(
        profile.c.merged_into.is_(None)
    )
    for kind, values in identifiers.items():
        query = query.where(profile.c.id.in_(_holders(and_(identifier.c.kind == kind, identifier.c.value.in_(values)))))
    if q:
        query = query.where(or_(profile.c.id.in_(_starting_with(q)), profile.c.id == _as_id(q)))
    if cursor is not None:
        query = query.where(profile.c.id < decode(cursor, int)[0])
    rows = connection.execute(query.order_by(profile.c.id.desc()).limit(limit + 1)).mappings().all()
    people = [_summary(row) for row in rows]
    inside = _segments(connection, [row["id"] for row in people])
    return cut([{**row, "segments": inside[row["id"]]} for row in people], limit, lambda row: (row["id"],))


def survivor(connection: Connection, profile_id: int) -> int | None:
    """The profile that `profile_id` is, or has been merged into; None when it never existed."""
    for _ in range(1000):  # merges form a chain; its length is the number of times a person was found twice
        row = connection.execute(select(profile.c.merged_into).where(profile.c.id == profile_id)).first()
        if row is None:
            return None
        if row.merged_into is None:
            return profile_id
        profile_id = row.merged_into
    return None


def one(connection: Connection, profile_id: int) -> Row | None:
    """All that is known of a person; asked with the id of a merged profile, the one it went into."""
    found = survivor(connection, profile_id)
    if found is None:
        return None
    row = connection.execute(select(profile).where(profile.c.id == found)).mappings().one()
    return {
        **row,
        "traits": orjson.loads(row["traits"]),
        "consent": orjson.loads(row["consent"]),
        "merged_from": _merged_from(connection, found),
        "identifiers": _identifiers(connection, found),
        "segments": memberships(connection, found),
        "destinations": destinations(connection, found),
    }


def memberships(connection: Connection, profile_id: int) -> list[Row]:
    """The stored verdicts on a person, by segment: in, or out with a reason to look again."""
    columns = (
        membership.c.segment,
        membership.c.matched,
        membership.c.since,
        membership.c.because,
        membership.c.recheck_at,
    )
    rows = connection.execute(
        select(*columns).where(membership.c.profile_id == profile_id).order_by(membership.c.segment)
    ).mappings()
    return [{**row, "matched": bool(row["matched"])} for row in rows]


def destinations(connection: Connection, profile_id: int) -> list[Row]:
    """What each destination should show of a person, what it last accepted and when."""
    pushed_at = (
        select(push.c.destination, func.max(push.c.at).label("at"))
        .where(push.c.profile_id == profile_id, push.c.kind == "change", push.c.status == "applied")
        .group_by(push.c.destination)
        .subquery()
    )
    rows = connection.execute(
        select(*(column for column in sync_state.c if column.name != "pushed_at"), pushed_at.c.at.label("pushed_at"))
        .outerjoin(pushed_at, pushed_at.c.destination == sync_state.c.destination)
        .where(sync_state.c.profile_id == profile_id)
        .order_by(sync_state.c.destination)
    ).mappings()
    return [
        {
            **row,
            "desired": orjson.loads(row["desired"]),
            "pushed": orjson.loads(row["pushed"]) if row["pushed"] else None,
            "pending": bool(row["pending"]),
        }
        for row in rows
    ]


def _holders(condition: ColumnElement[bool]) -> Select[tuple[int]]:
    return select(identifier.c.profile_id).where(condition)


def _starting_with(text: str) -> Select[tuple[int]]:
    """A range per kind, because the key starts with the kind: each is one seek in the index."""
    starts = {kind: {text} for kind in KINDS}
    starts["email"].add(text.lower())
    return _holders(
        or_(
            *(
                and_(
                    identifier.c.kind == kind, identifier.c.value >= start, identifier.c.value < start + _LAST_CHARACTER
                )
                for kind, texts in starts.items()
                for start in sorted(texts)
            )
        )
    )


def _as_id(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _summary(row: RowMapping) -> Row:
    traits = orjson.loads(row["traits"])
    return {**row, "traits": {name: traits[name] for name in _SHOWN if traits.get(name) is not None}}


def _segments(connection: Connection, people: Iterable[int]) -> dict[int, list[str]]:
    inside: dict[int, list[str]] = defaultdict(list)
    rows = connection.execute(
        select(membership.c.profile_id, membership.c.segment)
        .where(membership.c.profile_id.in_(list(people)), membership.c.matched == 1)
        .order_by(membership.c.segment)
    )
    for person, segment in rows:
        inside[person].append(segment)
    return inside


def _identifiers(connection: Connection, profile_id: int) -> list[Row]:
    columns = (identifier.c.kind, identifier.c.value, identifier.c.source, identifier.c.seen_at)
    rows = connection.execute(
        select(*columns).where(identifier.c.profile_id == profile_id).order_by(identifier.c.kind, identifier.c.value)
    ).mappings()
    return [dict(row) for row in rows]


def _merged_from(connection: Connection, profile_id: int) -> list[int]:
    found = select(profile.c.id).where(profile.c.merged_into == profile_id).cte("gone", recursive=True)
    found = found.union(select(profile.c.id).where(profile.c.merged_into == found.c.id))
    return list(connection.execute(select(found.c.id).order_by(found.c.id)).scalars())
