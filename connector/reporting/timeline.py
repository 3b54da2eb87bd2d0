"""One person's timeline: events, changes and pushes, newest first."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Column, Connection, Table, and_, or_, select

from connector.clock import Millis
from connector.reporting.pages import BadCursor, Page, Row, cut, decode
from connector.storage.tables import change, event, push


@dataclass(frozen=True, slots=True)
class _Strand:
    """One table of the timeline; `key` orders its rows of one instant."""

    type: str
    table: Table
    key: "Column[Any]"
    key_type: Callable[[str], int | str]
    entry: Callable[[Row], Row]


# Of one instant the effect stands above its cause, because the list reads downwards into the past.
_STRANDS = (
    _Strand(
        "push",
        push,
        push.c.id,
        int,
        lambda row: {
            "name": row["kind"],
            "source": row["destination"],
            "data": {"status": row["status"], "reason": row["reason"], "message": row["message"]}
            | orjson.loads(row["data"]),
        },
    ),
    _Strand(
        "change",
        change,
        change.c.seq,
        int,
        lambda row: {"name": row["kind"], "source": None, "data": orjson.loads(row["data"])},
    ),
    _Strand(
        "event",
        event,
        event.c.id,
        str,
        lambda row: {"name": row["name"], "source": row["source"], "data": orjson.loads(row["properties"])},
    ),
)


def timeline(connection: Connection, profile_id: int, cursor: str | None, limit: int) -> Page:
    """Entries {type, at, name, source, data, id}, newest first."""
    after = None if cursor is None else _after(cursor)
    strands = [_read(connection, rank, profile_id, after, limit + 1) for rank in range(len(_STRANDS))]
    merged = heapq.merge(*strands, key=lambda entry: (-entry["at"], entry["rank"]))
    return cut(list(islice(merged, limit + 1)), limit, lambda entry: (entry["at"], entry["rank"], entry["id"]))


def _after(cursor: str) -> tuple[Millis, int, int | str]:
    at, rank, key = decode(cursor, int, int, str)
    try:
        return int(at), int(rank), _STRANDS[int(rank)].key_type(str(key))
    except (ValueError, IndexError):
        raise BadCursor("this cursor belongs to another list") from None


def _read(
    connection: Connection, rank: int, profile_id: int, after: tuple[Millis, int, int | str] | None, limit: int
) -> list[Row]:
    strand = _STRANDS[rank]
    at = strand.table.c.at
    query = select(strand.table).where(strand.table.c.profile_id == profile_id)
    if after is not None:
        last_at, last_rank, last_key = after
        if rank == last_rank:
            query = query.where(or_(at < last_at, and_(at == last_at, strand.key < last_key)))
        else:
            query = query.where(at < last_at if rank < last_rank else at <= last_at)
    rows = connection.execute(query.order_by(at.desc(), strand.key.desc()).limit(limit)).mappings()
    return [
        {"type": strand.type, "rank": rank, "at": row["at"], "id": str(row[strand.key]), **strand.entry(dict(row))}
        for row in rows
    ]
