"""What is thrown away: raw deliveries, delivery ids and push records past their time, a piece at a time."""

import structlog
from sqlalchemy import delete, select

from connector.clock import DAY, MINUTE, Millis
from connector.inbox import deliveries
from connector.inbox.runner import positions
from connector.services import Services
from connector.storage.tables import delivery, push

log = structlog.get_logger("housekeeping")

_EVERY: Millis = 10 * MINUTE
_PIECE = 5_000  # rows in one transaction, so that nobody waits for it
_PUSHES_KEPT: Millis = 90 * DAY


class Housekeeping:
    """Prunes by age. A delivery that is not worked on yet is kept whatever its age."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._next: Millis = 0

    def step(self, now: Millis) -> None:
        """Prune one piece when it is time; come back at once while there is more."""
        if now < self._next:
            return
        before = now - self._services.settings.retention_days * DAY
        pruned = self._deliveries(before)
        with self._services.database.tx() as tx:
            pruned = max(pruned, deliveries.forget_seen(tx, before, _PIECE))
            old = select(push.c.id).where(push.c.at < now - _PUSHES_KEPT).limit(_PIECE)
            pruned = max(pruned, tx.execute(delete(push).where(push.c.id.in_(old))).rowcount)
        self._next = now if pruned == _PIECE else now + _EVERY

    def _deliveries(self, before: Millis) -> int:
        done = positions(self._services.database)
        pruned = 0
        with self._services.inbox.tx() as tx:
            oldest = tx.execute(select(delivery.c.received_at).order_by(delivery.c.id).limit(1)).scalar()
            if oldest is None or oldest >= before:
                return 0
            for part, pos in done.items():
                ids = (
                    select(delivery.c.id)
                    .where(delivery.c.part == part, delivery.c.pos < pos, delivery.c.received_at < before)
                    .limit(_PIECE)
                )
                pruned = max(pruned, tx.execute(delete(delivery).where(delivery.c.id.in_(ids))).rowcount)
        if pruned:
            log.info("housekeeping.deliveries_pruned", count=pruned)
        return pruned
