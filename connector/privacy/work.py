"""The background part of privacy requests: raw deliveries, whole sources, receipts."""

from collections.abc import Callable, Iterable

import structlog
from sqlalchemy import Connection

from connector.clock import SECOND, Millis
from connector.ports import EventLog
from connector.privacy import store, traces
from connector.privacy.requests import erase
from connector.storage.database import Database

logger = structlog.get_logger("privacy")

_PEOPLE = 50  # of a source, in one transaction
_EVERY: Millis = 5 * SECOND

Recompute = Callable[[Connection, Iterable[int], Millis], None]


class PrivacyWork:
    """What one worker does for privacy requests beside its other work. Each step is short."""

    def __init__(self, database: Database, inbox: Database, log: EventLog) -> None:
        self._database = database
        self._traces = traces.Traces(database, inbox, log)
        self._next: Millis = 0

    def step(self, destinations: Iterable[str], recompute: Recompute, now: Millis) -> bool:
        """True while there is more to do. `recompute` decides anew for people who lost a part of their history."""
        if now < self._next:
            return False
        configured = list(destinations)
        if self._traces.step(now) or self._source(configured, recompute, now):
            return True
        with self._database.read() as connection:
            closing = store.settled(connection)
        with self._database.tx() as tx:
            store.without_destination(tx, configured, now)
            store.prune_forgotten(tx, now)
            for request in closing:
                if store.close_request(tx, request, now):
                    logger.info("privacy.done", request=request)
        self._next = now + _EVERY
        return False

    def _source(self, destinations: Iterable[str], recompute: Recompute, now: Millis) -> bool:
        """Erase some of the people of a source that has left; True when there was a source to work on."""
        with self._database.tx() as tx:
            request = store.due_source(tx, now)
            if request is None:
                return False
            id_, source = request["id"], request["source"]
            people = store.people_of(tx, source, _PEOPLE)
            elsewhere = store.also_known_elsewhere(tx, source, people)
            for person in people:
                if person not in elsewhere:
                    erase(tx, id_, person, destinations, now, now)
            if elsewhere:
                store.erase_of_source(tx, source, sorted(elsewhere))
                recompute(tx, elsewhere, now)
            if not people:
                store.erase_things(tx, source)
                store.close_request(tx, id_, now)
                logger.info("privacy.source_erased", request=id_, source=source)
            return True
