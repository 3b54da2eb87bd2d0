"""What was received before its person was erased: a delivery that came late, or one that is replayed."""

from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from connector.pipeline.batch import Meant
from connector.privacy import store

log = structlog.get_logger("pipeline")


def without_erased(tx: Connection, meant: Sequence[Meant]) -> list[Meant]:
    """The deliveries without those that would make an erased person anew. What is received after the erasure is a new
    acquaintance, and stays."""
    erased = store.erased_at(tx, (one for m in meant for one in m.normalised.identifiers))
    if not erased:
        return list(meant)
    kept = []
    for one in meant:
        if any(erased.get(who, -1) >= one.delivery.received_at for who in one.normalised.identifiers):
            log.info("delivery.erased", delivery=one.delivery.id, topic=one.delivery.topic)
        else:
            kept.append(one)
    return kept
