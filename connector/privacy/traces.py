"""Raw deliveries, parked and dead ones searched for people who were erased, a piece at a time."""

import re
from collections.abc import Sequence
from itertools import takewhile

import orjson
from sqlalchemy import delete, select

from connector.clock import Millis
from connector.inbox import parking
from connector.inbox.runner import positions as log_positions
from connector.inbox.sql import unpack
from connector.ports import EventLog
from connector.privacy import store
from connector.storage.database import Database
from connector.storage.tables import delivery

_PIECE = 500  # bodies in one step: some 20 ms


def pattern(needles: Sequence[str]) -> re.Pattern[bytes]:
    """Matches a raw body in which one of these texts stands, and not only as part of a longer word or number."""
    words = b"|".join(re.escape(needle.encode()) for needle in needles)
    return re.compile(rb"(?<![0-9A-Za-z])(?:" + words + rb")(?![0-9A-Za-z])", re.IGNORECASE)


class Traces:
    """The search of one worker."""

    def __init__(self, database: Database, inbox: Database, log: EventLog) -> None:
        self._database = database
        self._inbox = inbox
        self._log = log
        self._ahead: dict[int, dict[int, int]] = {}  # request -> the heads of what waited when we came to it

    def step(self, now: Millis) -> bool:
        """Look through one piece; True while there is more to look at. A crash in between repeats the piece.

        A delivery goes when it names the person, although an order or a merge may name somebody else too: it was worked
        on, and cannot be replayed any more. One that waits to be worked on is waited for. What was received after the
        erasure stays.
        """
        with self._database.read() as connection:
            trace = store.next_trace(connection)
        if trace is None:
            return False
        request, found = trace["request_id"], pattern(orjson.loads(trace["needles"]))
        waits = self._waits(request)
        positions = log_positions(self._database)
        query = (
            select(delivery.c.id, delivery.c.part, delivery.c.pos, delivery.c.key, delivery.c.body)
            .where(delivery.c.id > trace["position"], delivery.c.received_at <= trace["until"])
            .order_by(delivery.c.id)
            .limit(_PIECE)
        )
        with self._inbox.read() as connection:
            rows = connection.execute(query).all()
        done = list(takewhile(lambda row: row.pos < positions.get(row.part, 0), rows))
        hits = [row.id for row in done if _names(found, row.key, unpack(row.body))]
        if hits:
            with self._inbox.tx() as tx:
                tx.execute(delete(delivery).where(delivery.c.id.in_(hits)))
        if waits or len(done) < len(rows) or len(rows) == _PIECE:
            if done:
                with self._database.tx() as tx:
                    store.count(tx, request, deliveries=len(hits))
                    store.move_trace(tx, request, done[-1].id)
            return bool(done)
        if self._ahead[request]:
            # Once more from the beginning: SQLite gives the ids of deleted rows again, so what came into the table
            # meanwhile may lie before where we are.
            self._ahead[request] = {}
            with self._database.tx() as tx:
                store.count(tx, request, deliveries=len(hits))
                store.move_trace(tx, request, 0)
            return True
        # What is parked may become a dead letter, and never the other way.
        with self._database.tx() as tx:
            waiting = parking.forget(tx, lambda one: _names(found, one.key, one.body), trace["until"])
        letters = waiting + _dead_letters(self._database, found, trace["until"])
        with self._database.tx() as tx:
            store.count(tx, request, deliveries=len(hits) + letters)
            store.end_trace(tx, request)
        del self._ahead[request]
        return True

    def _waits(self, request: int) -> bool:
        """Whether something is still in the log, and in no table, that was there when we came to this request."""
        if request not in self._ahead:
            standing = self._log.standing()
            if standing.trouble:
                return True
            self._ahead[request] = {part.part: part.head for part in standing.partitions if part.lag}
        positions = log_positions(self._database)
        return any(positions.get(part, 0) < head for part, head in self._ahead[request].items())


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
