"""What happened: events, those that go with an order to its next owner, and those that wait for one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import structlog
from sqlalchemy import Connection

from connector.clock import DAY, Millis
from connector.domain import Event
from connector.pipeline.batch import Batch, Meant
from connector.profiles import store

log = structlog.get_logger("pipeline")


def event_rows(meant: Sequence[Meant], batch: Batch, zone: ZoneInfo) -> list[dict[str, Any]]:
    """The events of those who are known, as rows to store; `zone` is the store's, for the day on which it happened."""
    rows = []
    for one in meant:
        if one.person is None:
            continue
        with batch.stumbles.of(one.record):
            for event in one.normalised.events:
                rows.append(_event_row(one.person, one.delivery.source, event, zone))
                if event.name == "Product Viewed":
                    batch.parts["views"].add(one.person)
                log.debug("event.stored", delivery=one.delivery.id, event_id=event.id, profile=one.person)
    return rows


def give_orders(tx: Connection, batch: Batch) -> None:
    """What happened to an order goes with it when the shop gives it to another customer."""
    given = {key: people for key, people in batch.buyers.items() if len(people) > 1}
    for source, id_ in given:
        owner = store.order_owners(tx, source, [id_])[id_]
        for person in given[source, id_]:
            batch.parts["orders"].add(person)
            batch.parts["carts"].add(person)
            if person != owner:
                store.give_events(tx, source, id_, person, owner)


def place_waiting(tx: Connection, meant: Sequence[Meant], zone: ZoneInfo, now: Millis) -> list[dict[str, Any]]:
    """The events, as rows to store, that had waited for an order which says only now whose it is: a refund or an edit
    names its order alone, and may come before it. Events that still have nobody are put among those that wait."""
    buyers: dict[str, dict[str, int]] = defaultdict(dict)
    nobodys: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in meant:
        if one.person is None and one.normalised.order_ref is not None:
            nobodys[one.delivery.source][one.normalised.order_ref] += map(asdict, one.normalised.events)
        elif one.person is not None:
            orders = (entity.id for entity in one.normalised.entities if entity.kind == "order")
            buyers[one.delivery.source].update(dict.fromkeys(orders, one.person))
    rows = []
    for source in buyers.keys() | nobodys.keys():
        known = store.waiting_events(tx, source, buyers[source].keys() | nobodys[source].keys())
        rows += [
            _event_row(person, source, Event(**event), zone)
            for order, person in buyers[source].items()
            for event in known.get(order, ())
        ]
        left: dict[str, list[dict[str, Any]]] = {order: [] for order in known.keys() & buyers[source].keys()}
        for order, events in nobodys[source].items():
            left[order] = list({event["id"]: event for event in (*events, *known.get(order, ()))}.values())
        if left:
            store.keep_waiting(tx, source, left, now)
    return rows


def _event_row(person: int, source: str, event: Event, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "profile_id": person,
        "at": event.at,
        "id": event.id,
        "name": event.name,
        "day": _day(event.at, zone),
        "properties": orjson.dumps(event.properties).decode(),
        "source": source,
    }


def _day(at: Millis, zone: ZoneInfo) -> int:
    """Days since 1970-01-01 in this time zone."""
    offset = zone.utcoffset(datetime.fromtimestamp(at // 1000, UTC).astimezone(zone))
    shift = int(offset.total_seconds() * 1000) if offset is not None else 0
    return (at + shift) // DAY
