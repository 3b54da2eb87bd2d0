"""Profiles, identifiers, events and entities in the database: set-based reads and keyed writes of one batch."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, case, delete, func, insert, literal, select, update

from connector.clock import Millis
from connector.domain import Identifier, Json
from connector.errors import Fenced
from connector.profiles import holds
from connector.profiles.traits import Orders
from connector.storage.phrases import among, greatest, least, text_of, upsert
from connector.storage.tables import (
    SPENT,
    change,
    entity,
    event,
    identifier,
    membership,
    meta,
    profile,
    refund,
    shop_order,
)

Row = dict[str, Any]


@dataclass(slots=True)
class Person:
    """A profile as a batch works on it. `reachable`: it had an address before."""

    id: int
    traits: dict[str, Json]
    consent: dict[str, Json]
    email: str | None
    stored: bool = True
    changed: bool = False
    reachable: bool = False


# --- identifiers -----------------------------------------------------------------------------------------------------

_LOOKUP = select(identifier.c.value, identifier.c.profile_id, identifier.c.owned_at).where(
    identifier.c.kind == bindparam("kind"), among(identifier.c.value, "values")
)
_HELD = select(identifier.c.profile_id, identifier.c.kind, identifier.c.value).where(
    among(identifier.c.profile_id, "people"), identifier.c.kind.in_(("customer_id", "email"))
)
_TIE_NEW = upsert(identifier).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
_BY_KEY = itemgetter("kind", "value")
_TIE = upsert(identifier)
_TIE = _TIE.on_conflict_do_update(
    index_elements=["kind", "value"],
    set_={name: _TIE.excluded[name] for name in ("profile_id", "source", "owned_at")}
    # When it came to whoever has it: of several addresses the latest is written to.
    | {
        "seen_at": case(
            (identifier.c.profile_id == _TIE.excluded.profile_id, identifier.c.seen_at), else_=_TIE.excluded.seen_at
        )
    },
)


def holders(connection: Connection, wanted: Iterable[Identifier]) -> dict[Identifier, tuple[int, Millis]]:
    """The profile of each identifier that is known, and as of when its owner said so."""
    by_kind: dict[str, set[str]] = defaultdict(set)
    for one in wanted:
        by_kind[one.kind].add(one.value)
    return {
        Identifier(kind, value): (person, owned_at)  # type: ignore[arg-type]
        for kind, values in by_kind.items()
        for value, person, owned_at in connection.execute(_LOOKUP, {"kind": kind, "values": sorted(values)})
    }


def held(connection: Connection, people: Iterable[int]) -> dict[int, list[Identifier]]:
    """The customer ids and e-mails of each person."""
    found: dict[int, list[Identifier]] = defaultdict(list)
    for person, kind, value in connection.execute(_HELD, {"people": sorted(people)}):
        found[person].append(Identifier(kind, value))
    return found


_COUNTS = (
    select(identifier.c.profile_id, identifier.c.kind, func.count())
    .where(among(identifier.c.profile_id, "people"))
    .group_by(identifier.c.profile_id, identifier.c.kind)
)


def identifier_counts(connection: Connection, people: Iterable[int]) -> dict[tuple[int, str], int]:
    """(profile, kind) -> how many identifiers of that kind the profile has."""
    return {(person, kind): count for person, kind, count in connection.execute(_COUNTS, {"people": sorted(people)})}


def shared_devices(connection: Connection, wanted: Iterable[Identifier]) -> set[Identifier]:
    """Those of these identifiers that several known people use."""
    values = sorted({one.value for one in wanted if one.kind == "anonymous_id"})
    query = select(identifier.c.value).where(
        identifier.c.kind == "anonymous_id", identifier.c.value.in_(values), identifier.c.shared == 1
    )
    return {Identifier("anonymous_id", value) for value in connection.execute(query).scalars()} if values else set()


def free_ids(tx: Connection) -> Iterator[int]:
    """Free profile ids, for the rest of a write transaction."""
    return holds.new_ids(tx) if holds.are_needed(tx) else itertools.count(next_id(tx))


def next_id(connection: Connection) -> int:
    """The first free profile id. Only inside a write transaction, which holds everybody else off."""
    last = connection.execute(select(func.coalesce(func.max(profile.c.id), 0))).scalar_one()
    spent = connection.execute(select(meta.c.value).where(meta.c.name == SPENT)).scalar()
    return max(int(last), int(spent or 0)) + 1


def spend_ids(tx: Connection, last: int) -> None:
    """Let no profile get an id up to `last` any more: the vendors and the receipts know people by it, also those who
    were erased."""
    spent = max(last, next_id(tx) - 1)
    row = upsert(meta).values(name=SPENT, value=str(spent))
    tx.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))


_SHARE = (
    update(identifier)
    .where(identifier.c.kind == bindparam("kind_"), identifier.c.value == bindparam("value_"))
    .values(shared=1)
)


def tie(
    tx: Connection,
    ties: Mapping[Identifier, int],
    source_of: Mapping[Identifier, str],
    now: Millis,
    shared: Collection[Identifier] = (),
    owned_at: Mapping[Identifier, Millis] | None = None,
    known: Collection[Identifier] | None = None,
) -> None:
    """Write which profile has which identifier; `shared` are devices that several known people use, `owned_at` as of
    when the shop said whose it is. `known` are those that are held (see profiles.holds): Fenced when another worker has
    been faster with one that is not."""
    rows = [
        {
            "kind": one.kind,
            "value": one.value,
            "profile_id": person,
            "source": source_of.get(one, ""),
            "seen_at": now,
            "owned_at": (owned_at or {}).get(one, 0),
        }
        for one, person in ties.items()
    ]
    if rows and known is not None and holds.are_needed(tx):
        new = [row for one, row in zip(ties, rows, strict=True) if one not in known]
        rows = [row for one, row in zip(ties, rows, strict=True) if one in known]
        if new and tx.execute(_TIE_NEW, sorted(new, key=_BY_KEY)).rowcount < len(new):
            raise Fenced("another worker has met one of these people at the same time")
    if rows:
        tx.execute(_TIE, sorted(rows, key=_BY_KEY) if holds.are_needed(tx) else rows)
    if shared:
        tx.execute(_SHARE, [{"kind_": one.kind, "value_": one.value} for one in shared])


# --- people ----------------------------------------------------------------------------------------------------------

_PEOPLE = select(profile.c.id, profile.c.traits, profile.c.consent, profile.c.email).where(
    among(profile.c.id, "people"), profile.c.merged_into.is_(None)
)
_CHANGED = upsert(profile)  # all of them are there: an INSERT may be given many rows at once, see storage.at_once
_CHANGED = _CHANGED.on_conflict_do_update(
    index_elements=["id"], set_={name: _CHANGED.excluded[name] for name in ("traits", "consent", "email", "updated_at")}
)


def load(connection: Connection, people: Iterable[int]) -> dict[int, Person]:
    """These people, without those who have become part of another."""
    return {
        id_: Person(id_, orjson.loads(traits), orjson.loads(consent), email, reachable=email is not None)
        for id_, traits, consent, email in connection.execute(_PEOPLE, {"people": sorted(people)})
    }


def save(tx: Connection, people: Iterable[Person], now: Millis) -> None:
    new: list[Row] = []
    changed: list[Row] = []
    for person in people:
        if person.stored and not person.changed:
            continue
        (changed if person.stored else new).append(
            {
                "id": person.id,
                "traits": _json(person.traits),
                "consent": _json(person.consent),
                "email": person.email,
                "created_at": now,
                "updated_at": now,
            }
        )
    if new:
        tx.execute(insert(profile), new)
    if changed:
        tx.execute(_CHANGED, changed)


_EMAILS = (
    select(identifier.c.profile_id, identifier.c.value)
    .where(
        among(identifier.c.profile_id, "people"),
        # Appending nothing keeps SQLite 3.40 off the primary key: by that it would walk through everybody's addresses.
        identifier.c.kind + "" == "email",
    )
    .order_by(identifier.c.seen_at.desc(), identifier.c.value)
)


def emails(connection: Connection, people: Iterable[int]) -> dict[int, list[str]]:
    """The addresses of each person, the one that was tied last first."""
    found: dict[int, list[str]] = defaultdict(list)
    for person, value in connection.execute(_EMAILS, {"people": sorted(people)}):
        found[person].append(value)
    return found


_NEWS = ("matched", "since", "because", "recheck_at")
_INHERIT = upsert(membership).from_select(
    ["segment", "profile_id", *_NEWS],
    select(membership.c.segment, bindparam("winner"), *(membership.c[name] for name in _NEWS)).where(
        membership.c.profile_id == bindparam("loser"), membership.c.matched == 1
    ),
)
_INHERIT = _INHERIT.on_conflict_do_update(
    index_elements=["segment", "profile_id"],
    set_={name: _INHERIT.excluded[name] for name in _NEWS},
    where=membership.c.matched == 0,
)


_GIVE = [
    update(table).where(table.c.profile_id == bindparam("loser")).values(profile_id=bindparam("winner"))
    for table in (identifier, event, entity, shop_order)
]
_LEAVE = delete(membership).where(membership.c.profile_id == bindparam("loser"))
_BECOME = (
    update(profile)
    .where(profile.c.id == bindparam("loser"))
    .values(merged_into=bindparam("winner"), email=None, updated_at=bindparam("now"))
)
_FOLLOW = update(profile).where(profile.c.merged_into == bindparam("loser")).values(merged_into=bindparam("winner"))


def merge(tx: Connection, pairs: Sequence[tuple[int, int]], now: Millis) -> None:
    """Give each loser's history to their winner; `pairs` are (winner, loser). Sync moves its own rows.

    Memberships are evaluated anew, but where the loser was in, the winner does not enter once more: it is one person,
    and a flow that has started for them must not start again.
    """
    rows = [{"winner": winner, "loser": loser} for winner, loser in pairs]
    for statement in _GIVE:
        tx.execute(statement, rows)
    for row in rows:  # an upsert from a select takes one row of parameters at a time
        tx.execute(_INHERIT, row)
    tx.execute(_LEAVE, rows)
    tx.execute(_BECOME, [row | {"now": now} for row in rows])
    tx.execute(_FOLLOW, rows)


# --- events and the timeline -----------------------------------------------------------------------------------------

_EVENT = upsert(event).on_conflict_do_nothing()  # the natural key makes a repeat harmless
_CHANGE = insert(change)


def add_events(tx: Connection, rows: Sequence[Row]) -> None:
    if rows:
        tx.execute(_EVENT, rows)


def give_events(tx: Connection, source: str, order: str, giver: int, taker: int) -> None:
    """Move the events of an order from one person to another."""
    of_order = text_of(event.c.properties, "order_id") == order
    tx.execute(
        update(event).where(event.c.profile_id == giver, event.c.source == source, of_order).values(profile_id=taker)
    )


def add_changes(tx: Connection, rows: Sequence[Row]) -> None:
    if rows:
        tx.execute(_CHANGE, rows)


# --- events whose person is not known yet ----------------------------------------------------------------------------

_WAITS = "order_events"
"""The kind of entity that keeps events of an order before the order has said whose it is. Its id is the order's."""

_ANY_WAITING = select(entity.c.id).where(entity.c.source == bindparam("source_"), entity.c.kind == _WAITS).limit(1)
_WAITING = select(entity.c.id, entity.c.data).where(
    entity.c.source == bindparam("source_"),
    entity.c.kind == _WAITS,
    among(entity.c.id, "ids"),
)


def waiting_events(connection: Connection, source: str, orders: Iterable[str]) -> dict[str, list[Row]]:
    """Order id -> the events that wait for its buyer: {id, name, at, properties}."""
    if connection.execute(_ANY_WAITING, {"source_": source}).first() is None:
        return {}  # as nearly always, and then there is no need to ask for every order
    found = connection.execute(_WAITING, {"source_": source, "ids": sorted(orders)})
    return {order: orjson.loads(data) for order, data in found}


def keep_waiting(tx: Connection, source: str, events: Mapping[str, list[Row]], now: Millis) -> None:
    """Let these events wait, instead of what waited for these orders; an empty list waits no more."""
    tx.execute(
        delete(entity).where(entity.c.source == source, entity.c.kind == _WAITS, entity.c.id.in_(sorted(events)))
    )
    rows = [
        {
            "source": source,
            "kind": _WAITS,
            "id": order,
            "profile_id": None,
            "updated_at": now,
            "deleted": 0,
            "data": orjson.dumps(waiting).decode(),
        }
        for order, waiting in events.items()
        if waiting
    ]
    if rows:
        tx.execute(insert(entity), rows)


_RANKED = (
    select(
        event.c.profile_id,
        event.c.at,
        event.c.properties,
        func.row_number()
        .over(partition_by=event.c.profile_id, order_by=(event.c.at.desc(), event.c.id.desc()))
        .label("nth"),
    )
    .where(among(event.c.profile_id, "people"), event.c.name == "Product Viewed")
    .subquery()
)
_VIEWS = (
    select(_RANKED.c.profile_id, _RANKED.c.at, _RANKED.c.properties)
    .where(_RANKED.c.nth <= 20)
    .order_by(_RANKED.c.profile_id, _RANKED.c.nth)
)


def views(connection: Connection, people: Iterable[int]) -> dict[int, list[tuple[Millis, Json]]]:
    """The 20 newest product views of each person, newest first."""
    found: dict[int, list[tuple[Millis, Json]]] = defaultdict(list)
    for person, at, properties in connection.execute(_VIEWS, {"people": sorted(people)}):
        found[person].append((at, orjson.loads(properties)))
    return found


# --- entities --------------------------------------------------------------------------------------------------------

_ENTITY = upsert(entity)
_ENTITY = _ENTITY.on_conflict_do_update(
    index_elements=["source", "kind", "id"],
    set_={
        "profile_id": func.coalesce(_ENTITY.excluded.profile_id, entity.c.profile_id),
        "updated_at": _ENTITY.excluded.updated_at,
        "deleted": _ENTITY.excluded.deleted,
        "data": _ENTITY.excluded.data,
    },
    where=_ENTITY.excluded.updated_at >= entity.c.updated_at,
)
_ORDER = upsert(shop_order)
_ORDER = _ORDER.on_conflict_do_update(
    index_elements=["source", "id"],
    set_={
        "profile_id": func.coalesce(_ORDER.excluded.profile_id, shop_order.c.profile_id),
        **{name: _ORDER.excluded[name] for name in ("updated_at", "placed_at", "total", "data")},
        # Of two versions of one instant, the one in which the order is cancelled is the later one.
        "counts": case(
            (_ORDER.excluded.updated_at > shop_order.c.updated_at, _ORDER.excluded.counts),
            else_=least(_ORDER.excluded.counts, shop_order.c.counts),
        ),
    },
    where=_ORDER.excluded.updated_at >= shop_order.c.updated_at,
)
_NOBODYS = select(shop_order.c.id).where(
    shop_order.c.source == bindparam("source_"), among(shop_order.c.id, "ids"), shop_order.c.profile_id.is_(None)
)
_OWN = (
    update(shop_order)
    .where(
        shop_order.c.source == bindparam("source_"),
        shop_order.c.id == bindparam("id_"),
        shop_order.c.profile_id.is_(None),
    )
    .values(profile_id=bindparam("person"))
)
_REFUND = upsert(refund)
_REFUND = _REFUND.on_conflict_do_update(
    index_elements=["source", "id"], set_={"amount": _REFUND.excluded.amount, "at": _REFUND.excluded.at}
)
_REFUNDED = (
    update(shop_order)
    .where(shop_order.c.source == bindparam("source_"), shop_order.c.id == bindparam("id_"))
    .values(
        refunded=select(func.coalesce(func.sum(refund.c.amount), literal(0)))
        .where(refund.c.source == shop_order.c.source, refund.c.order_id == shop_order.c.id)
        .scalar_subquery()
    )
)
_DELETE = upsert(shop_order)
_DELETE = _DELETE.on_conflict_do_update(
    index_elements=["source", "id"],
    set_={"counts": 0, "updated_at": greatest(shop_order.c.updated_at, _DELETE.excluded.updated_at)},
)


def put_entities(tx: Connection, rows: Sequence[Row]) -> None:
    if rows:
        tx.execute(_ENTITY, rows)


def put_orders(tx: Connection, rows: Sequence[Row]) -> None:
    """Newer versions replace older ones; an older one may still say whose order it is."""
    if rows:
        tx.execute(_ORDER, rows)
        nobodys = _without_owner(tx, rows)
        if owned := [
            {"source_": row["source"], "id_": row["id"], "person": row["profile_id"]}
            for row in rows
            if row["profile_id"] and (row["source"], row["id"]) in nobodys
        ]:
            tx.execute(_OWN, owned)


def _without_owner(connection: Connection, rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Those of these orders (source, id) that belong to nobody."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_source[row["source"]].append(row["id"])
    return {
        (source, id_)
        for source, ids in by_source.items()
        for id_ in connection.execute(_NOBODYS, {"source_": source, "ids": ids}).scalars()
    }


def delete_orders(tx: Connection, rows: Sequence[Row]) -> None:
    """Rows are {source, id, at}: the order is known from now on, but does not count, and no older version revives it,
    even one that comes for the first time."""
    if rows:
        tombs = [
            {
                "source": row["source"],
                "id": row["id"],
                "profile_id": None,
                "updated_at": row["at"],
                "placed_at": row["at"],
                "total": 0,
                "counts": 0,
                "data": "{}",
            }
            for row in rows
        ]
        tx.execute(_DELETE, tombs)


def put_refunds(tx: Connection, rows: Sequence[Row]) -> None:
    if rows:
        tx.execute(_REFUND, rows)


def settle_refunds(tx: Connection, orders: Iterable[tuple[str, str]]) -> None:
    """Set `refunded` of these orders (source, id) to the sum of their refunds, whichever came first."""
    if rows := [{"source_": source, "id_": id_} for source, id_ in sorted(orders)]:
        tx.execute(_REFUNDED, rows)


_WITH_REFUNDS = (
    select(refund.c.order_id).where(refund.c.source == bindparam("source_"), among(refund.c.order_id, "ids")).distinct()
)


def with_refunds(connection: Connection, orders: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these orders (source, id) that have a refund."""
    by_source: dict[str, set[str]] = defaultdict(set)
    for source, id_ in orders:
        by_source[source].add(id_)
    return {
        (source, id_)
        for source, ids in by_source.items()
        for (id_,) in connection.execute(_WITH_REFUNDS, {"source_": source, "ids": sorted(ids)})
    }


_OWNERS = select(shop_order.c.id, shop_order.c.profile_id).where(
    shop_order.c.source == bindparam("source_"), among(shop_order.c.id, "ids")
)
_CUSTOMERS = select(entity.c.source, entity.c.id, entity.c.data, entity.c.updated_at, entity.c.deleted).where(
    entity.c.source == bindparam("source_"),
    entity.c.kind == "customer",
    among(entity.c.id, "ids"),
)


def order_owners(connection: Connection, source: str, ids: Iterable[str]) -> dict[str, int]:
    """The profile of each stored order that has one."""
    return {
        id_: person
        for id_, person in connection.execute(_OWNERS, {"source_": source, "ids": sorted(ids)})
        if person is not None
    }


def customers(connection: Connection, source: str, ids: Iterable[str]) -> dict[str, tuple[Json, Millis, bool]]:
    """Customer id -> (record, updated_at, deleted)."""
    return {
        id_: (orjson.loads(data), at, bool(deleted))
        for _, id_, data, at, deleted in connection.execute(_CUSTOMERS, {"source_": source, "ids": sorted(ids)})
    }


_SUMS = (
    select(
        shop_order.c.profile_id,
        func.count(),
        func.sum(shop_order.c.total - shop_order.c.refunded),
        func.min(shop_order.c.placed_at),
        func.max(shop_order.c.placed_at),
    )
    .where(among(shop_order.c.profile_id, "people"), shop_order.c.counts == 1)
    .group_by(shop_order.c.profile_id)
)
_RECORDS = (
    select(entity.c.profile_id, entity.c.data)
    .where(among(entity.c.profile_id, "people"), entity.c.kind == "customer", entity.c.deleted == 0)
    .order_by(entity.c.updated_at, entity.c.source, entity.c.id)
)
_CARTS = (
    select(entity.c.profile_id, entity.c.updated_at, entity.c.data)
    .where(
        among(entity.c.profile_id, "people"),
        entity.c.kind.in_(("cart", "checkout")),
        entity.c.deleted == 0,
    )
    .order_by(entity.c.updated_at.desc(), entity.c.id)
)
_TOKENS = select(shop_order.c.profile_id, shop_order.c.data).where(among(shop_order.c.profile_id, "people"))


def order_sums(connection: Connection, people: Iterable[int]) -> dict[int, Orders]:
    """What each person's counting orders add up to; no entry for somebody without any."""
    return {person: Orders(*sums) for person, *sums in connection.execute(_SUMS, {"people": sorted(people)})}


def customer_records(connection: Connection, people: Iterable[int]) -> dict[int, list[Json]]:
    """The customer records of each person, the newest last."""
    found: dict[int, list[Json]] = defaultdict(list)
    for person, data in connection.execute(_RECORDS, {"people": sorted(people)}):
        found[person].append(orjson.loads(data))
    return found


def carts(connection: Connection, people: Iterable[int]) -> dict[int, list[tuple[Millis, Json]]]:
    """The carts and checkouts of each person, newest first."""
    found: dict[int, list[tuple[Millis, Json]]] = defaultdict(list)
    for person, at, data in connection.execute(_CARTS, {"people": sorted(people)}):
        found[person].append((at, orjson.loads(data)))
    return found


def ordered_tokens(connection: Connection, people: Iterable[int]) -> dict[int, set[str]]:
    """The checkout and cart tokens of each person's orders."""
    found: dict[int, set[str]] = defaultdict(set)
    for person, data in connection.execute(_TOKENS, {"people": sorted(people)}):
        order = orjson.loads(data)
        found[person].update(token for key in ("checkout_token", "cart_token") if (token := order.get(key)))
    return found


def _json(value: Mapping[str, Json]) -> str:
    return orjson.dumps(value).decode()
