"""Raw deliveries, parked and dead ones searched for people who were erased, a piece at a time."""

import re
from collections.abc import Sequence
from itertools import takewhile

import orjson
from sqlalchemy import delete, select

from connector.clock import Millis
from connector.inbox import parking
from connector.inbox.sql import unpack
from connector.privacy import store
from connector.storage.database import Database
from connector.storage.tables import delivery, log_position

_PIECE = 500  # bodies in one step: some 20 ms


def pattern(needles: Sequence[str]) -> re.Pattern[bytes]:
    """Matches a raw body in which one of these texts stands, and not only as part of a longer word or number."""
    words = b"|".join(re.escape(needle.encode()) for needle in needles)
    return re.compile(rb"(?<![0-9A-Za-z])(?:" + words + rb")(?![0-9A-Za-z])", re.IGNORECASE)


def step(database: Database, inbox: Database, now: Millis) -> bool:
    """Look through one piece; True while there is more to look at. A crash in between repeats the piece.

    A delivery goes when it names the person, although an order or a merge may name somebody else too: it was worked
    on, and cannot be replayed any more. One that waits to be worked on is waited for. What was received after the
    erasure stays.
    """
    with database.read() as connection:
        trace = store.next_trace(connection)
        positions = {part: pos for part, pos in connection.execute(select(log_position.c.part, log_position.c.pos))}
    if trace is None:
        return False
    found = pattern(orjson.loads(trace["needles"]))
    query = (
        select(delivery.c.id, delivery.c.part, delivery.c.pos, delivery.c.key, delivery.c.body)
        .where(delivery.c.id > trace["position"], delivery.c.received_at <= trace["until"])
        .order_by(delivery.c.id)
        .limit(_PIECE)
    )
    with inbox.read() as connection:
        rows = connection.execute(query).all()
    done = list(takewhile(lambda row: row.pos < positions.get(row.part, 0), rows))
    hits = [row.id for row in done if _names(found, row.key, unpack(row.body))]
    if hits:
        with inbox.tx() as tx:
            tx.execute(delete(delivery).where(delivery.c.id.in_(hits)))
    if len(done) < len(rows) or len(rows) == _PIECE:
        if done:
            with database.tx() as tx:
                store.count(tx, trace["request_id"], deliveries=len(hits))
                store.move_trace(tx, trace["request_id"], done[-1].id)
        return bool(done)
    # What is parked may become a dead letter, and never the other way.
    with database.tx() as tx:
        waiting = parking.forget(tx, lambda one: _names(found, one.key, one.body), trace["until"])
    letters = waiting + _dead_letters(database, found, trace["until"])
    with database.tx() as tx:
        store.count(tx, trace["request_id"], deliveries=len(hits) + letters)
        store.end_trace(tx, trace["request_id"])
    return True


def _names(found: re.Pattern[bytes], key: str, body: bytes) -> bool:
    return bool(found.search(key.encode()) or found.search(body))


def _dead_letters(database: Database, found: re.Pattern[bytes], until: Millis) -> int:
    """The number of dead deliveries that named the person and are gone."""
    gone, last = 0, 0
    while True:
        with database.read() as connection:
            rows = store.dead_deliveries(connection, until, last, _PIECE)
        if not rows:
            return gone
        last = rows[-1][0]
        hits = [id_ for id_, body in rows if found.search(body)]
        if hits:
            with database.tx() as tx:
                store.drop_dead_deliveries(tx, hits)
            gone += len(hits)
