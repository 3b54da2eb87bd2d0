"""The things of the shop, by id: customers, orders, refunds, carts and checkouts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from connector.domain import Entity, StoreInfo
from connector.pipeline.batch import Batch, Meant
from connector.profiles import customer, store, traits

_PARTS = {
    "customer": ("customer",),
    "order": ("orders", "carts"),
    "refund": ("orders",),
    "cart": ("carts",),
    "checkout": ("carts",),
}


@dataclass(slots=True)
class Things:
    """Rows to store, and the orders (source, id) whose refunds may have come before them."""

    entities: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[dict[str, Any]] = field(default_factory=list)
    refunds: list[dict[str, Any]] = field(default_factory=list)
    settle: set[tuple[str, str]] = field(default_factory=set)


def things_of(tx: Connection, meant: Sequence[Meant], batch: Batch, shop: StoreInfo) -> Things:
    """The things of the batch; noted in it is whose traits must be recomputed. Nothing is written yet."""
    things = Things()
    customers: list[tuple[Meant, Entity | None]] = []
    for one in meant:
        with batch.stumbles.of(one.record):
            for entity in one.normalised.entities:
                if entity.kind == "customer":
                    customers.append((one, entity))
                else:
                    _add(things, one, entity, shop)
                if one.person is not None:
                    for name in _PARTS.get(entity.kind, ()):
                        batch.parts[name].add(one.person)
            if one.normalised.tag_changes:
                customers.append((one, None))
                if one.person is not None:
                    batch.parts["customer"].add(one.person)
    things.entities += _customer_rows(tx, customers, batch)
    return things


def store_things(tx: Connection, things: Things) -> None:
    """Put them in place of older versions."""
    store.put_entities(tx, things.entities)
    store.put_orders(tx, things.orders)
    store.delete_orders(tx, things.deleted)
    store.put_refunds(tx, things.refunds)
    store.settle_refunds(tx, store.with_refunds(tx, things.settle))


def _add(things: Things, one: Meant, entity: Entity, shop: StoreInfo) -> None:
    source = one.delivery.source
    if entity.kind == "refund":
        things.refunds.append(_refund_row(source, entity, shop))
        things.settle.add((source, entity.data["order_id"]))
    elif entity.kind != "order":
        things.entities.append(_entity_row(source, entity, one.person))
    elif entity.deleted:
        things.deleted.append({"source": source, "id": entity.id, "at": entity.updated_at})
    else:
        things.orders.append(_order_row(source, entity, one.person, shop))
        things.settle.add((source, entity.id))


def _customer_rows(
    tx: Connection, payloads: Sequence[tuple[Meant, Entity | None]], batch: Batch
) -> list[dict[str, Any]]:
    wanted: dict[str, set[str]] = defaultdict(set)
    for one, entity in payloads:
        with batch.stumbles.of(one.record):
            wanted[one.delivery.source].add(_customer_id(one, entity))
    known = {
        (source, id_): found
        for source, ids in wanted.items()
        for id_, found in store.customers(tx, source, ids).items()
    }
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one, entity in payloads:
        with batch.stumbles.of(one.record):
            key = (one.delivery.source, _customer_id(one, entity))
            record, at, deleted = known.get(key) or (customer.empty(), 0, False)
            if entity is not None:
                record = customer.update(record, entity.data, entity.updated_at)
                if entity.updated_at >= at:
                    at, deleted = entity.updated_at, entity.deleted
            record = customer.retag(record, one.normalised.tag_changes)
            known[key] = (record, at, deleted)
            rows[key] = {
                "source": key[0],
                "kind": "customer",
                "id": key[1],
                "profile_id": one.person,
                "updated_at": at,
                "deleted": int(deleted),
                "data": orjson.dumps(record).decode(),
            }
    return list(rows.values())


def _customer_id(one: Meant, entity: Entity | None) -> str:
    """The shop's id of the customer a payload is about."""
    if entity is not None:
        return entity.id
    return next(i.value for i in one.normalised.identifiers if i.kind == "customer_id").partition(":")[2]


def _entity_row(source: str, entity: Entity, person: int | None) -> dict[str, Any]:
    return {
        "source": source,
        "kind": entity.kind,
        "id": entity.id,
        "profile_id": person,
        "updated_at": entity.updated_at,
        "deleted": int(entity.deleted),
        "data": orjson.dumps(entity.data).decode(),
    }


def _order_row(source: str, entity: Entity, person: int | None, shop: StoreInfo) -> dict[str, Any]:
    data = entity.data
    counts = not data.get("test") and data.get("cancelled_at") is None
    return {
        "source": source,
        "id": entity.id,
        "profile_id": person,
        "updated_at": entity.updated_at,
        "placed_at": data["placed_at"],
        "total": traits.to_minor(data["total"], shop),
        "counts": int(counts),
        "data": orjson.dumps(data).decode(),
    }


def _refund_row(source: str, entity: Entity, shop: StoreInfo) -> dict[str, Any]:
    data = entity.data
    amount = traits.to_minor(data["amount"], shop)
    return {"source": source, "id": entity.id, "order_id": data["order_id"], "amount": amount, "at": data["at"]}
