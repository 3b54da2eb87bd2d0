"""What deliveries mean: each in the hands of its source, or among the dead letters."""

from collections import Counter
from collections.abc import Iterable, Mapping

import structlog

from connector.domain import Configuration
from connector.errors import UnprocessableEvent
from connector.inbox import deliveries
from connector.pipeline.batch import Meant
from connector.ports import Rec, Source

log = structlog.get_logger("pipeline")


def understand(
    records: Iterable[Rec], configuration: Configuration, sources: Mapping[str, Source]
) -> tuple[list[Meant], list[tuple[Rec, UnprocessableEvent]], Counter[tuple[str, str]]]:
    """Those that mean something, those that nobody understands with the reason, and (counter, label) -> how many."""
    meant, letters, counts = [], [], Counter[tuple[str, str]]()
    for record in records:
        counts[("deliveries", f"{record.source}/{record.topic}")] += 1
        delivery = deliveries.delivery(record)
        try:
            config = configuration.sources.get(record.source)
            if config is None:
                raise UnprocessableEvent(f"there is no source {record.source!r} any more", reason="no_source")
            normalised = sources[config.kind].normalise(delivery, configuration.store)
            if normalised.forget:
                # Nobody may be made of it, and it may not be passed over: the law gives 30 days.
                raise UnprocessableEvent(
                    "the shop asks to erase this person here and at every destination", reason="to_be_forgotten"
                )
        except UnprocessableEvent as error:
            letters.append((record, error))
            counts[("dead_letters", error.reason)] += 1
            log.warning("delivery.unprocessable", delivery=delivery.id, topic=delivery.topic, reason=error.reason)
            continue
        if normalised.skipped:
            counts[("skipped", f"{record.source}/{normalised.skipped}")] += 1
        meant.append(Meant(delivery, normalised))
    return meant, letters, counts
