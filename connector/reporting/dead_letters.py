"""Dead letters: what could not be processed or was rejected for good, kept with its reason, mended or put aside."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, func, select, update

from connector.clock import Millis
from connector.reporting.deliveries import shown
from connector.reporting.filters import EQUAL, SINCE, UNTIL, conditions
from connector.reporting.pages import Page, Row, cut, decode
from connector.storage.tables import dead_letter

KINDS = ("delivery", "push", "cue", "stream")
STATES = ("open", "replayed", "discarded")

_COLUMNS = tuple(column for column in dead_letter.c if column.name not in ("headers", "body"))


_COMPARED = {
    **{name: (dead_letter.c[name], EQUAL) for name in ("state", "kind", "origin", "reference", "topic", "reason")},
    "since": (dead_letter.c.at, SINCE),
    "until": (dead_letter.c.at, UNTIL),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters. `since` is inside, `until` outside; None does not filter."""

    state: str | None = None
    kind: str | None = None
    origin: str | None = None
    reference: str | None = None
    topic: str | None = None
    reason: str | None = None
    since: Millis | None = None
    until: Millis | None = None


def dead_letters(connection: Connection, wanted: Filter, cursor: str | None, limit: int) -> Page:
    """Dead letters, newest first, without their bodies."""
    query = select(*_COLUMNS).where(*conditions(wanted, _COMPARED))
    if cursor is not None:
        query = query.where(dead_letter.c.id < decode(cursor, int)[0])
    rows = connection.execute(query.order_by(dead_letter.c.id.desc()).limit(limit + 1)).mappings().all()
    return cut([dict(row) for row in rows], limit, lambda row: (row["id"],))


def ids(connection: Connection, wanted: Filter, among: Sequence[int] | None, limit: int) -> list[int]:
    """The ids of up to `limit` dead letters, oldest first; `among` narrows them to these."""
    query = select(dead_letter.c.id).where(*conditions(wanted, _COMPARED))
    if among is not None:
        query = query.where(dead_letter.c.id.in_(among))
    return list(connection.execute(query.order_by(dead_letter.c.id).limit(limit)).scalars())


def one(connection: Connection, letter_id: int) -> Row | None:
    """One dead letter with its headers and its body."""
    row = connection.execute(select(dead_letter).where(dead_letter.c.id == letter_id)).mappings().one_or_none()
    if row is None:
        return None
    return {**row, "headers": orjson.loads(row["headers"]), **shown(row["body"])}


def edit(tx: Connection, letter_id: int, body: bytes) -> bool:
    """True when the body of an open letter was replaced, so that its replay is understood."""
    editable = update(dead_letter).where(
        dead_letter.c.id == letter_id, dead_letter.c.state == "open", dead_letter.c.kind == "delivery"
    )
    return tx.execute(editable.values(body=body)).rowcount == 1


def discard(tx: Connection, letter_id: int) -> bool:
    """True when an open letter was put aside for good."""
    open_one = update(dead_letter).where(dead_letter.c.id == letter_id, dead_letter.c.state == "open")
    return tx.execute(open_one.values(state="discarded")).rowcount == 1


def by_reason(connection: Connection) -> dict[tuple[str, str], int]:
    """How many are open, by (kind, reason)."""
    query = (
        select(dead_letter.c.kind, dead_letter.c.reason, func.count())
        .where(dead_letter.c.state == "open")
        .group_by(dead_letter.c.kind, dead_letter.c.reason)
    )
    return {(kind, reason): count for kind, reason, count in connection.execute(query)}
