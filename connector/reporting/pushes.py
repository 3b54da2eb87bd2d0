"""What was sent to the vendors and what they said, one row per item."""

from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, select

from connector.clock import Millis
from connector.reporting.pages import Page, cut, decode
from connector.storage.tables import push

KINDS = ("change", "cue", "list")
STATUSES = ("applied", "retry", "rejected", "skipped")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which pushes. `since` is inside, `until` outside; None does not filter."""

    destination: str | None = None
    profile_id: int | None = None
    kind: str | None = None
    status: str | None = None
    since: Millis | None = None
    until: Millis | None = None


def pushes(connection: Connection, wanted: Filter, cursor: str | None, limit: int) -> Page:
    """Pushes, newest first."""
    conditions = {
        "destination": push.c.destination == wanted.destination,
        "profile_id": push.c.profile_id == wanted.profile_id,
        "kind": push.c.kind == wanted.kind,
        "status": push.c.status == wanted.status,
        "since": push.c.at >= wanted.since,
        "until": push.c.at < wanted.until,
    }
    query = select(push).where(
        *(condition for name, condition in conditions.items() if getattr(wanted, name) is not None)
    )
    if cursor is not None:
        query = query.where(push.c.id < decode(cursor, int)[0])
    rows = connection.execute(query.order_by(push.c.id.desc()).limit(limit + 1)).mappings().all()
    return cut([{**row, "data": orjson.loads(row["data"])} for row in rows], limit, lambda row: (row["id"],))
