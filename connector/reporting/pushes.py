"""What was sent to the vendors and what they said, one row per item."""

from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, select

from connector.clock import Millis
from connector.reporting.filters import EQUAL, SINCE, UNTIL, conditions
from connector.reporting.pages import Page, cut, decode
from connector.storage.tables import push

KINDS = ("change", "cue", "list", "merge")
STATUSES = ("applied", "retry", "rejected", "skipped")


_COMPARED = {
    "destination": (push.c.destination, EQUAL),
    "profile_id": (push.c.profile_id, EQUAL),
    "kind": (push.c.kind, EQUAL),
    "status": (push.c.status, EQUAL),
    "since": (push.c.at, SINCE),
    "until": (push.c.at, UNTIL),
}


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
    query = select(push).where(*conditions(wanted, _COMPARED))
    if cursor is not None:
        query = query.where(push.c.id < decode(cursor, int)[0])
    rows = connection.execute(query.order_by(push.c.id.desc()).limit(limit + 1)).mappings().all()
    return cut([{**row, "data": orjson.loads(row["data"])} for row in rows], limit, lambda row: (row["id"],))
