"""Deliveries written into the log's two tables, in the driver's own words: SQLAlchemy's handling of parameters would
cost as much as the rest of the write."""

from collections.abc import Sequence
from typing import Any

Row = tuple[int, str, str, str, str, int, str, bytes]
"""The partition, then a New with its body packed."""

# One statement of many rows, heads in one JSON text, no index, fewer partitions: none of these took a share off a
# delivery on SQLite that could be measured (2026-11).
_NOW = "SELECT part, head FROM log_head"
_ADVANCE = "UPDATE log_head SET head = ? WHERE part = ?"
_INSERT = (
    "INSERT INTO delivery (part, pos, key, source, delivery_id, topic, received_at, headers, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

# PostgreSQL lets many write: a row lock keeps a head true until commit. Always in one order, or two would wait for each
# other. (A sequence gives no order of commits: whoever reads past a slow one would pass over it for ever.) Who has
# waited for a lock sees the head as it is by then, in `held` and so in all of the statement (READ COMMITTED). Ids
# ascend with positions: all heads are held before the first row, and a row's place is looked up and not joined.
_KEEP = """
WITH held AS MATERIALIZED (
    SELECT part, head, more.count FROM log_head JOIN unnest(%b::int[], %b::int[]) AS more (part, count) USING (part)
    ORDER BY part FOR UPDATE OF log_head
), advanced AS (
    UPDATE log_head SET head = held.head + held.count FROM held WHERE log_head.part = held.part
)
INSERT INTO delivery (part, pos, key, source, delivery_id, topic, received_at, headers, body)
SELECT part, (SELECT head FROM held WHERE held.part = given.part) + nth,
    key, source, delivery_id, topic, received_at, headers, body
FROM unnest(
    %b::int[], %b::int[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::bytea[]
) AS given (part, nth, key, source, delivery_id, topic, received_at, headers, body)
WHERE (SELECT count(*) FROM held) > 0
"""


def in_file(cursor: Any, rows: Sequence[Row]) -> None:
    """Written on SQLite, in a write transaction: it holds every other writer off, so that a head read in it stays
    true."""
    heads: dict[int, int] = dict(cursor.execute(_NOW).fetchall())
    placed = []
    for part, *delivery in rows:
        placed.append((part, heads[part], *delivery))
        heads[part] += 1
    cursor.executemany(_ADVANCE, [(heads[part], part) for part in {row[0] for row in rows}])
    cursor.executemany(_INSERT, placed)


def on_server(cursor: Any, rows: Sequence[Row]) -> None:
    """Written on PostgreSQL and committed, by a connection that commits by itself: one question, and half the CPU of
    five (2026-11)."""
    counts: dict[int, int] = {}
    nths = []
    for row in rows:
        nths.append(counts.get(row[0], 0))
        counts[row[0]] = nths[-1] + 1
    parts, *columns = (list(column) for column in zip(*rows, strict=True))
    cursor.execute(_KEEP, (list(counts), list(counts.values()), parts, nths, *columns), prepare=True)
