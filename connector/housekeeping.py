"""What is thrown away, a piece at a time: raw deliveries, delivery ids, push records, told cues and closed dead letters
past their time, and events where the operator wants that. Profiles and their timelines are kept."""

import structlog
from sqlalchemy import ColumnElement, Table, delete, select, true

from connector.clock import DAY, MINUTE, Millis
from connector.inbox import deliveries
from connector.inbox.runner import positions
from connector.old_events import OldEvents
from connector.services import Services
from connector.storage.tables import cue, dead_letter, delivery, push, verification

log = structlog.get_logger("housekeeping")

_EVERY: Millis = 10 * MINUTE
_PIECE = 5_000  # rows in one transaction, so that nobody waits for it
_RECORDS_KEPT: Millis = 90 * DAY  # of what was sent, told and settled
_RECORDS: tuple[tuple[Table, ColumnElement[bool]], ...] = (
    (push, true()),
    (cue, cue.c.state.in_(("sent", "skipped"))),
    (verification, verification.c.state != "wanted"),
    (dead_letter, dead_letter.c.state.in_(("replayed", "discarded"))),
)


class Housekeeping:
    """Prunes by age. A delivery that is not worked on yet is kept whatever its age."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._old_events = OldEvents(services)
        self._next: Millis = 0

    def step(self, now: Millis) -> None:
        """Prune one piece when it is time; come back at once while there is more."""
        self._old_events.step(now)
        if now < self._next:
            return
        before = now - self._services.settings.retention_days * DAY
        pruned = max(self._deliveries(before), self._services.log.prune(before))
        with self._services.database.tx(beside=True) as tx:
            pruned = max(pruned, deliveries.forget_seen(tx, before, _PIECE))
            for table, closed in _RECORDS:
                old = select(table.c.id).where(table.c.at < now - _RECORDS_KEPT, closed).limit(_PIECE)
                pruned = max(pruned, tx.execute(delete(table).where(table.c.id.in_(old))).rowcount)
        self._next = now if pruned == _PIECE else now + _EVERY

    def _deliveries(self, before: Millis) -> int:
        done = positions(self._services.database)
        with self._services.inbox.read() as connection:
            oldest = connection.execute(select(delivery.c.received_at).order_by(delivery.c.id).limit(1)).scalar()
        if oldest is None or oldest >= before:
            return 0
        pruned = [self._partition(part, pos, before) for part, pos in done.items()]
        if any(pruned):
            log.info("housekeeping.deliveries_pruned", count=sum(pruned))
        return max(pruned, default=0)

    def _partition(self, part: int, pos: int, before: Millis) -> int:
        """One partition in a transaction of its own: senders wait for it."""
        old = (
            select(delivery.c.id)
            .where(delivery.c.part == part, delivery.c.pos < pos, delivery.c.received_at < before)
            .limit(_PIECE)
        )
        with self._services.inbox.tx() as tx:
            return int(tx.execute(delete(delivery).where(delivery.c.id.in_(old))).rowcount)
