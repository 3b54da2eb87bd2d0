"""How each source stands: what it sent, what was refused, skipped or dead, and when it was last heard."""

from collections import defaultdict

from sqlalchemy import Connection, func, select

from connector.clock import Millis
from connector.reporting.counts import counts
from connector.reporting.pages import Row
from connector.storage.tables import dead_letter

ACCEPTED, REJECTED = "accepted", "rejected"
"""Counters of the ingress: the label is the source, and `source/reason`."""

_DELIVERIES, _SKIPPED = "deliveries", "skipped"


def standing(connection: Connection) -> dict[str, Row]:
    """Source -> {processed, topics, skipped, rejected, dead, last_at}; a source never heard of is missing.

    `topics`, `skipped` and `rejected` count by topic or reason; `dead` counts open dead letters.
    """
    found: dict[str, Row] = defaultdict(unheard)
    for (name, label), (count, at) in counts(connection, _DELIVERIES, _SKIPPED, REJECTED).items():
        source, _, detail = label.partition("/")
        row = found[source]
        if name == _DELIVERIES:
            row["topics"][detail] = count
            row["processed"] += count
            row["last_at"] = _later(row["last_at"], at)
        else:
            row[name][detail] = count
    for source, count in _dead(connection).items():
        found[source]["dead"] = count
    return dict(found)


def unheard() -> Row:
    """The standing of a source that has not sent anything."""
    return {"processed": 0, "topics": {}, _SKIPPED: {}, REJECTED: {}, "dead": 0, "last_at": None}


def _later(left: Millis | None, right: Millis) -> Millis:
    return right if left is None else max(left, right)


def _dead(connection: Connection) -> dict[str, int]:
    query = (
        select(dead_letter.c.origin, func.count())
        .where(dead_letter.c.state == "open", dead_letter.c.kind == "delivery")
        .group_by(dead_letter.c.origin)
    )
    return {origin: count for origin, count in connection.execute(query)}
