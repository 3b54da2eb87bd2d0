"""Segments with their counts, their members, and how far a refill has come."""

from sqlalchemy import Connection, func, select

from connector.clock import Millis
from connector.reporting.pages import Page, Row, cut, decode
from connector.storage.tables import membership, profile, refill


def counts(connection: Connection, segment: str | None = None) -> dict[str, int]:
    """How many people are in each segment (or in this one); a segment without any is missing."""
    query = select(membership.c.segment, func.count()).where(membership.c.matched == 1)
    if segment is not None:
        query = query.where(membership.c.segment == segment)
    return {name: count for name, count in connection.execute(query.group_by(membership.c.segment))}


def refills(connection: Connection, now: Millis) -> dict[str, Row]:
    """The last refill of each segment: {position, last, progress (0 to 1), started_at, finished_at, expected_at}."""
    return {row["segment"]: _refill(dict(row), now) for row in connection.execute(select(refill)).mappings()}


def members(connection: Connection, segment: str, cursor: str | None, limit: int) -> Page:
    """Who is in a segment, by profile id, with why and since when."""
    query = (
        select(
            membership.c.profile_id, profile.c.email, membership.c.since, membership.c.because, membership.c.recheck_at
        )
        .join_from(membership, profile, profile.c.id == membership.c.profile_id)
        .where(membership.c.segment == segment, membership.c.matched == 1)
    )
    if cursor is not None:
        query = query.where(membership.c.profile_id > decode(cursor, int)[0])
    rows = connection.execute(query.order_by(membership.c.profile_id).limit(limit + 1)).mappings().all()
    return cut([dict(row) for row in rows], limit, lambda row: (row["profile_id"],))


def _refill(row: Row, now: Millis) -> Row:
    done, last, started = row["position"], row["last"], row["started_at"]
    finished = row["finished_at"]
    expected = None
    if finished is None and done > 0:
        expected = now + max(0, last - done) * max(0, now - started) // done
    progress = 1.0 if finished is not None or last <= 0 else min(1.0, done / last)
    return {**row, "progress": round(progress, 4), "expected_at": expected}
