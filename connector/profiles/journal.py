"""The journal of merges in the database: what was found to be one, why, and how it was before; and its undoing."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, Select, Table, bindparam, delete, insert, or_, select, update

from connector.clock import Millis
from connector.domain import Json
from connector.inbox.sql import pack, unpack
from connector.profiles.identity import Merge
from connector.profiles.store import Person
from connector.storage.phrases import upsert
from connector.storage.tables import apart, entity, event, identifier, merge, profile, shop_order

_PIECE = 500  # keys in one statement


@dataclass(frozen=True, slots=True)
class _Keys:
    """A table whose rows go along in a merge, and what tells its rows apart."""

    table: Table
    names: tuple[str, ...]


_MOVED: Mapping[str, _Keys] = {
    "identifiers": _Keys(identifier, ("kind", "value")),
    "events": _Keys(event, ("id",)),
    "entities": _Keys(entity, ("source", "kind", "id")),
    "orders": _Keys(shop_order, ("source", "id")),
}


_Moved = dict[str, list[Sequence[str]]]


def moved_by(connection: Connection, people: Collection[int]) -> dict[int, _Moved]:
    """What each of these profiles has that goes along when it becomes part of another: keys by kind."""
    found: dict[int, _Moved] = {person: {name: [] for name in _MOVED} for person in people}
    for name, keys in _MOVED.items():
        columns = (keys.table.c.profile_id, *(keys.table.c[key] for key in keys.names))
        rows = connection.execute(select(*columns).where(keys.table.c.profile_id.in_(people)))
        for person, *key in rows:
            found[person][name].append(key)
    return found


def note(found: Merge, winner: Person, loser: Person, moved: _Moved, now: Millis) -> dict[str, Any]:
    """A row of the journal: both as they are before anything is moved."""
    source, delivery_id = found.told_by
    return {
        "at": now,
        "winner": winner.id,
        "loser": loser.id,
        "because": found.because,
        "source": source,
        "delivery_id": delivery_id,
        "winner_before": _before(winner),
        "loser_before": _before(loser),
        "moved": pack(orjson.dumps(moved)),
    }


def write(tx: Connection, notes: Sequence[dict[str, Any]]) -> None:
    tx.execute(insert(merge), list(notes))


def _before(person: Person) -> str:
    state = {"traits": person.traits, "consent": person.consent, "email": person.email}
    return orjson.dumps(state).decode()


def one(connection: Connection, id_: int) -> RowMapping | None:
    """A merge as it was noted."""
    return connection.execute(select(merge).where(merge.c.id == id_)).mappings().first()


def holder(connection: Connection, person: int) -> int | None:
    """The profile that a merged profile is part of now; None when it is part of none."""
    return connection.execute(select(profile.c.merged_into).where(profile.c.id == person)).scalar()


def undo(tx: Connection, noted: RowMapping, holder: int, now: Millis) -> None:
    """Give a merged profile back what it brought along, as far as its holder still has it."""
    loser = noted["loser"]
    moved: Mapping[str, Sequence[Sequence[str]]] = orjson.loads(unpack(noted["moved"]))
    for name, keys in _MOVED.items():
        back = (
            update(keys.table)
            .where(
                keys.table.c.profile_id == bindparam("holder_"),
                *(keys.table.c[key] == bindparam(f"{key}_") for key in keys.names),
            )
            .values(profile_id=bindparam("loser_"))
        )
        rows = [
            {"holder_": holder, "loser_": loser, **{f"{key}_": part for key, part in zip(keys.names, row, strict=True)}}
            for row in moved[name]
        ]
        if rows:
            tx.execute(back, rows)
    # Those who had become part of the loser before are part of it again.
    tx.execute(
        update(profile)
        .where(profile.c.merged_into == holder, profile.c.id.in_(_earlier(loser, noted["id"])))
        .values(merged_into=loser)
    )
    tx.execute(update(profile).where(profile.c.id == loser).values(merged_into=None, updated_at=now))
    tx.execute(update(merge).where(merge.c.id == noted["id"]).values(state="undone", undone_at=now))


def _earlier(loser: int, before: int) -> Select[tuple[int]]:
    """Whoever had become part of a profile before a merge, by one merge or by several."""
    of_it = (merge.c.state == "merged", merge.c.id < before)
    parts = select(merge.c.loser).where(merge.c.winner == loser, *of_it).cte("parts", recursive=True)
    deeper = select(merge.c.loser).join(parts, merge.c.winner == parts.c.loser).where(*of_it)
    return select(parts.union(deeper).c.loser)


def later(connection: Connection, noted: RowMapping) -> list[RowMapping]:
    """The merges after this one that still hold and had a part of what it made, in order: {id, at, winner, loser,
    winner_before, loser_before}."""
    columns = (merge.c.id, merge.c.at, merge.c.winner, merge.c.loser, merge.c.winner_before, merge.c.loser_before)
    found: list[RowMapping] = []
    person, after = noted["winner"], noted["id"]
    while True:
        holds = (merge.c.state == "merged", merge.c.id > after)
        left = select(*columns).where(*holds, merge.c.loser == person).order_by(merge.c.id).limit(1)
        became = connection.execute(left).mappings().first()
        joined = select(*columns).where(*holds, merge.c.winner == person).order_by(merge.c.id)
        if became is None:
            return [*found, *connection.execute(joined).mappings()]
        found += [*connection.execute(joined.where(merge.c.id < became["id"])).mappings(), became]
        person, after = became["winner"], became["id"]


def rewrite(tx: Connection, id_: int, **before: str) -> None:
    """Put right how the two of a merge were before it, after one before that was undone."""
    tx.execute(update(merge).where(merge.c.id == id_).values(**before))


def orders_moved(noted: RowMapping) -> list[tuple[str, str]]:
    """(source, id) of the orders that a merge moved."""
    moved = orjson.loads(unpack(noted["moved"]))
    return [(source, id_) for source, id_ in moved["orders"]]


def addresses_moved(noted: RowMapping) -> list[str]:
    """The e-mail addresses that a merge moved."""
    moved = orjson.loads(unpack(noted["moved"]))
    return [value for kind, value in moved["identifiers"] if kind == "email"]


# --- two people ------------------------------------------------------------------------------------------------------


def keep_apart(tx: Connection, left: int, right: int, now: Millis) -> None:
    """Let no delivery merge these two again."""
    row = upsert(apart).values(low=min(left, right), high=max(left, right), at=now)
    tx.execute(row.on_conflict_do_nothing())


def kept_apart(connection: Connection, people: Collection[int]) -> list[tuple[int, int]]:
    """The pairs with one of these people that are two, lower id first."""
    if not people or connection.execute(select(apart.c.at).limit(1)).first() is None:
        return []
    ids = sorted(people)
    query = select(apart.c.low, apart.c.high).where(or_(apart.c.low.in_(ids), apart.c.high.in_(ids)))
    return [(low, high) for low, high in connection.execute(query)]


def forget(tx: Connection, people: Iterable[int]) -> None:
    """Drop what the journal has of these people."""
    ids = sorted(people)
    tx.execute(delete(merge).where(or_(merge.c.winner.in_(ids), merge.c.loser.in_(ids))))
    tx.execute(delete(apart).where(or_(apart.c.low.in_(ids), apart.c.high.in_(ids))))


# --- for people ------------------------------------------------------------------------------------------------------


def merges(
    connection: Connection, *, profile_id: int | None = None, before: int | None = None, limit: int
) -> list[dict[str, Json]]:
    """Merges, newest first: {id, at, winner, loser, because, source, delivery_id, state, undone_at, moved}, where
    `moved` counts what went along by kind."""
    query = select(merge).order_by(merge.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(merge.c.id < before)
    if profile_id is not None:
        query = query.where(or_(merge.c.winner == profile_id, merge.c.loser == profile_id))
    shown = ("id", "at", "winner", "loser", "because", "source", "delivery_id", "state", "undone_at")
    return [
        {name: row[name] for name in shown}
        | {"moved": {kind: len(rows) for kind, rows in orjson.loads(unpack(row["moved"])).items()}}
        for row in connection.execute(query).mappings()
    ]
