"""Likenesses and suspected pairs in the database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, func, or_, select, tuple_, update

from connector.clock import Millis
from connector.profiles.duplicates.likeness import Key, Likeness
from connector.storage.phrases import upsert
from connector.storage.tables import apart, likeness, meta, profile, suspect

Pair = tuple[int, int]
"""Two profile ids, the lower first."""

_POSITION = "duplicates_position"
_MEMBERS = (
    select(likeness.c.profile_id)
    .where(likeness.c.kind == bindparam("kind_"), likeness.c.value == bindparam("value_"))
    .limit(bindparam("limit_"))
)


def position(connection: Connection) -> tuple[int, Millis]:
    """(the last profile that was looked at in this pass, when the next pass may begin)."""
    known = connection.execute(select(meta.c.value).where(meta.c.name == _POSITION)).scalar()
    last, begins = orjson.loads(known) if known else (0, 0)
    return last, begins


def set_position(tx: Connection, last: int, begins: Millis) -> None:
    row = upsert(meta).values(name=_POSITION, value=orjson.dumps([last, begins]).decode())
    tx.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))


def piece(connection: Connection, after: int, limit: int) -> list[Likeness]:
    """The next profiles by id, without those that have become part of another."""
    query = (
        select(profile.c.id, profile.c.email, profile.c.traits)
        .where(profile.c.id > after, profile.c.merged_into.is_(None))
        .order_by(profile.c.id)
        .limit(limit)
    )
    return [Likeness(id_, email, orjson.loads(traits)) for id_, email, traits in connection.execute(query)]


def addresses(connection: Connection, people: Collection[int]) -> dict[int, str | None]:
    """The address of each of these profiles that still is one."""
    query = select(profile.c.id, profile.c.email).where(profile.c.id.in_(people), profile.c.merged_into.is_(None))
    return {id_: email for id_, email in connection.execute(query)}


def keys_of(connection: Connection, people: Collection[int]) -> dict[int, set[Key]]:
    """The keys that are stored of these profiles."""
    found: dict[int, set[Key]] = {person: set() for person in people}
    query = select(likeness.c.profile_id, likeness.c.kind, likeness.c.value).where(likeness.c.profile_id.in_(people))
    for person, kind, value in connection.execute(query):
        found[person].add((kind, value))
    return found


def members(connection: Connection, key: Key, limit: int) -> list[int]:
    """Up to `limit` profiles that have a key."""
    return list(connection.execute(_MEMBERS, {"kind_": key[0], "value_": key[1], "limit_": limit}).scalars())


def add_keys(tx: Connection, rows: Iterable[tuple[int, Key]]) -> None:
    values = [{"profile_id": person, "kind": kind, "value": value} for person, (kind, value) in rows]
    if values:
        tx.execute(upsert(likeness).on_conflict_do_nothing(), values)


def drop_keys(tx: Connection, rows: Iterable[tuple[int, Key]]) -> None:
    for person, (kind, value) in rows:
        tx.execute(
            delete(likeness).where(likeness.c.kind == kind, likeness.c.value == value, likeness.c.profile_id == person)
        )


def replace_pairs(
    tx: Connection, people: Collection[int], pairs: Mapping[Pair, tuple[float, Sequence[str]]], now: Millis
) -> None:
    """Write the pairs of these profiles: {pair: (score, kinds of likeness)}. Open ones that hold no more go; what was
    dismissed, or is known to be two people, stays away."""
    ids = sorted(people)
    concerned = or_(suspect.c.low.in_(ids), suspect.c.high.in_(ids))
    stale = {
        (low, high)
        for low, high in tx.execute(select(suspect.c.low, suspect.c.high).where(concerned, suspect.c.state == "open"))
    } - pairs.keys()
    if stale:
        tx.execute(delete(suspect).where(tuple_(suspect.c.low, suspect.c.high).in_(sorted(stale))))
    two = set()
    if pairs:
        query = select(apart.c.low, apart.c.high).where(tuple_(apart.c.low, apart.c.high).in_(sorted(pairs)))
        two = {(low, high) for low, high in tx.execute(query)}
    row = upsert(suspect)
    row = row.on_conflict_do_update(
        index_elements=["low", "high"], set_={"score": row.excluded.score, "because": row.excluded.because}
    )
    values = [
        {
            "low": low,
            "high": high,
            "score": score,
            "because": orjson.dumps(list(kinds)).decode(),
            "at": now,
            "state": "open",
        }
        for (low, high), (score, kinds) in pairs.items()
        if (low, high) not in two
    ]
    if values:
        tx.execute(row, values)


def suspects(connection: Connection, *, after: tuple[float, int, int] | None = None, limit: int) -> list[Any]:
    """Open pairs, the likeliest first: {low, high, score, because (kinds), at}."""
    query = (
        select(suspect)
        .where(suspect.c.state == "open")
        .order_by(suspect.c.score.desc(), suspect.c.low, suspect.c.high)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(-suspect.c.score, suspect.c.low, suspect.c.high) > tuple_(-after[0], *after[1:]))
    rows = connection.execute(query).mappings()
    return [{**row, "because": orjson.loads(row["because"])} for row in rows]


def count(connection: Connection) -> int:
    """How many open pairs there are."""
    query = select(func.count()).select_from(suspect).where(suspect.c.state == "open")
    return int(connection.execute(query).scalar_one())


def dismiss(tx: Connection, low: int, high: int) -> bool:
    """True when an open pair is known to be two people from now on."""
    seen = (
        update(suspect)
        .where(suspect.c.low == low, suspect.c.high == high, suspect.c.state == "open")
        .values(state="dismissed")
    )
    return tx.execute(seen).rowcount == 1


def forget(tx: Connection, people: Iterable[int]) -> None:
    """Drop the pairs of these profiles."""
    ids = sorted(people)
    tx.execute(delete(suspect).where(or_(suspect.c.low.in_(ids), suspect.c.high.in_(ids))))
