"""Contacts erased at one destination, before anything else is sent there."""

from random import Random

import structlog
from sqlalchemy.exc import SQLAlchemyError

from adapters.destination import Destination
from adapters.errors import DeliveryError, Rejected, Transient
from connector.clock import Millis
from connector.privacy import store
from connector.storage.database import Database
from connector.sync.push import backoff

log = structlog.get_logger("privacy")

_PIECE = 20  # in one round: each is a call of its own, and pushes wait meanwhile


class Eraser:
    """The erasures of one destination. Its sender calls `step` with the adapter that it alone uses."""

    def __init__(self, database: Database, name: str, chance: Random | None = None) -> None:
        self._database = database
        self._name = name
        self._chance = chance or Random()  # noqa: S311  (jitter, no secret)

    def step(self, adapter: Destination, now: Millis) -> int:
        """The number of contacts that were dealt with. Raises what stops the whole account.

        A crash after the call repeats it, which is harmless. What the vendor refuses is told, and somebody must act;
        everything else is tried again until it is done: the law knows no dead letters.
        """
        with self._database.read() as connection:
            due = store.pending_erasures(connection, self._name, now, _PIECE)
        for row in due:
            try:
                adapter.forget(row["email"], row["remote_id"])
            except Rejected as error:
                log.error("erasure.refused", destination=self._name, erasure=row["id"], reason=error.reason)
                with self._database.tx() as tx:
                    store.settle_erasure(tx, row["id"], "dead", now, error.message)
                continue
            except Transient as error:
                wait = backoff(row["attempts"], error.retry_after, self._chance)
                with self._database.tx() as tx:
                    store.retry_erasure(tx, row["id"], now + wait, now, error.message)
                raise
            except (DeliveryError, SQLAlchemyError):
                raise  # the whole account, or our disk
            except Exception as fault:
                # A fault of ours with this one contact must not hold up the others, nor everything that is pushed.
                log.exception("erasure.failed", destination=self._name, erasure=row["id"])
                told = f"a fault of ours, see the log: {type(fault).__name__}"
                with self._database.tx() as tx:
                    store.retry_erasure(tx, row["id"], now + backoff(row["attempts"], 0, self._chance), now, told)
                continue
            with self._database.tx() as tx:
                store.settle_erasure(tx, row["id"], "done", now)
            log.info("erasure.done", destination=self._name, erasure=row["id"])
        return len(due)
