"""Deliveries as received, and what became of each: waiting, parked, processed or dead. Of a log that is no table, those
that wait are not among them."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, false, not_, or_, select, tuple_

from connector.clock import Millis
from connector.inbox.sql import unpack
from connector.reporting.filters import EQUAL, SINCE, UNTIL, conditions
from connector.reporting.pages import Page, Row, cut, decode
from connector.storage.tables import dead_letter, delivery, log_position, parked

QUEUED, PARKED, PROCESSED, DEAD = "queued", "parked", "processed", "dead"
STATES = (QUEUED, PARKED, PROCESSED, DEAD)

_MOST_DEAD = 10_000  # of which the newest are told apart in a filtered list

_COLUMNS = (
    delivery.c.id,
    delivery.c.part,
    delivery.c.pos,
    delivery.c.key,
    delivery.c.source,
    delivery.c.delivery_id,
    delivery.c.topic,
    delivery.c.received_at,
)


_COMPARED = {
    "source": (delivery.c.source, EQUAL),
    "topic": (delivery.c.topic, EQUAL),
    "delivery_id": (delivery.c.delivery_id, EQUAL),
    "since": (delivery.c.received_at, SINCE),
    "until": (delivery.c.received_at, UNTIL),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries. `since` is inside, `until` outside; None does not filter."""

    source: str | None = None
    topic: str | None = None
    state: str | None = None
    delivery_id: str | None = None
    since: Millis | None = None
    until: Millis | None = None


def deliveries(state: Connection, inbox: Connection, wanted: Filter, cursor: str | None, limit: int) -> Page:
    """Deliveries, newest first, without their bodies."""
    done = _positions(state)
    query = select(*_COLUMNS).where(*conditions(wanted, _COMPARED))
    if wanted.state is not None:
        query = query.where(_in_state(state, wanted.state, done))
    if cursor is not None:
        query = query.where(delivery.c.id < decode(cursor, int)[0])
    rows = inbox.execute(query.order_by(delivery.c.id.desc()).limit(limit + 1)).mappings().all()
    told = _told_of(state, [(row["source"], row["delivery_id"]) for row in rows])
    return cut([_row(row, done, told) for row in rows], limit, lambda row: (row["id"],))


def one(state: Connection, inbox: Connection, delivery_row: int) -> Row | None:
    """One delivery with its headers and its body as received."""
    done = _positions(state)
    query = select(*_COLUMNS, delivery.c.headers, delivery.c.body).where(delivery.c.id == delivery_row)
    row = inbox.execute(query).mappings().one_or_none()
    if row is None:
        return None
    told = _told_of(state, [(row["source"], row["delivery_id"])])
    return {**_row(row, done, told), "headers": orjson.loads(row["headers"]), **shown(unpack(row["body"]))}


def shown(body: bytes) -> Row:
    """A body as {body, encoding}: the text when it is UTF-8, otherwise base64."""
    try:
        return {"body": body.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "encoding": "base64"}


def _positions(state: Connection) -> dict[int, int]:
    return {part: pos for part, pos in state.execute(select(log_position.c.part, log_position.c.pos))}


def _in_state(state: Connection, wanted: str, done: Mapping[int, int]) -> ColumnElement[bool]:
    worked_off = (and_(delivery.c.part == part, delivery.c.pos < pos) for part, pos in done.items())
    queued = not_(or_(false(), *worked_off))
    if wanted == QUEUED:
        return queued
    waiting = state.execute(select(parked.c.source, parked.c.delivery_id).limit(_MOST_DEAD))
    held = tuple_(delivery.c.source, delivery.c.delivery_id).in_([tuple(one) for one in waiting])
    if wanted == PARKED:
        return held
    letters = state.execute(
        select(dead_letter.c.origin, dead_letter.c.reference)
        .where(dead_letter.c.kind == "delivery", dead_letter.c.state == "open")
        .order_by(dead_letter.c.id.desc())
        .limit(_MOST_DEAD)
    )
    dead = tuple_(delivery.c.source, delivery.c.delivery_id).in_([tuple(letter) for letter in letters])
    return dead if wanted == DEAD else and_(not_(queued), not_(held), not_(dead))


def _told_of(state: Connection, references: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(source, delivery id) -> its state, of those that are dead or parked."""
    if not references:
        return {}
    waiting = select(parked.c.source, parked.c.delivery_id).where(
        tuple_(parked.c.source, parked.c.delivery_id).in_(references)
    )
    letters = select(dead_letter.c.origin, dead_letter.c.reference).where(
        dead_letter.c.kind == "delivery",
        dead_letter.c.state == "open",
        tuple_(dead_letter.c.origin, dead_letter.c.reference).in_(references),
    )
    found = {(row[0], row[1]): PARKED for row in state.execute(waiting)}
    return found | {(row[0], row[1]): DEAD for row in state.execute(letters)}


def _row(row: RowMapping, done: Mapping[int, int], told: Mapping[tuple[str, str], str]) -> Row:
    state = PROCESSED if row["pos"] < done.get(row["part"], 0) else QUEUED
    return {**row, "state": told.get((row["source"], row["delivery_id"]), state)}
