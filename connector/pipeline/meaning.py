"""What deliveries mean: each in the hands of its source, or among the dead letters."""

from collections import Counter
from collections.abc import Iterable, Mapping

import structlog

from connector.domain import Configuration, Delivery, Normalised
from connector.errors import UnprocessableEvent
from connector.inbox import deliveries
from connector.pipeline.batch import Meant
from connector.ports import Rec, Source
from connector.quality.store import FAULTS, GOOD
from connector.sources import engagement, readback
from connector.sources.noticed import noticing

log = structlog.get_logger("pipeline")


def understand(
    records: Iterable[Rec], configuration: Configuration, sources: Mapping[str, Source]
) -> tuple[list[Meant], list[tuple[Rec, UnprocessableEvent]], dict[Rec, Exception], Counter[tuple[str, str]]]:
    """Those that mean something, those that nobody understands with the reason, those over which a source of ours
    stumbles with all later ones of the same customer, and (counter, label) -> how many."""
    meant, letters, counts = [], [], Counter[tuple[str, str]]()
    broken: dict[Rec, Exception] = {}
    stuck: dict[str, Exception] = {}
    for record in records:
        if record.key in stuck:
            broken[record] = stuck[record.key]
            continue
        try:
            delivery = deliveries.delivery(record)
            with noticing() as faults:
                normalised = _normalised(delivery, configuration, sources)
        except UnprocessableEvent as error:
            counts[("deliveries", f"{record.source}/{record.topic}")] += 1
            letters.append((record, error))
            counts[("dead_letters", error.reason)] += 1
            log.warning("delivery.unprocessable", delivery=delivery.id, topic=delivery.topic, reason=error.reason)
            continue
        except Exception as error:
            broken[record] = stuck[record.key] = error
            continue
        counts[("deliveries", f"{record.source}/{record.topic}")] += 1
        if not record.topic.startswith(deliveries.FETCHED):
            counts[(GOOD, record.source)] += 1
        for fault in set(faults):
            counts[(FAULTS, f"{record.source}/{fault}")] += 1
        if normalised.skipped:
            counts[("skipped", f"{record.source}/{normalised.skipped}")] += 1
        meant.append(Meant(delivery, normalised, account=_account(delivery, normalised, configuration)))
    return meant, letters, broken, counts


def _normalised(delivery: Delivery, configuration: Configuration, sources: Mapping[str, Source]) -> Normalised:
    if delivery.source.startswith(readback.SOURCE):
        return readback.normalise(delivery)
    if delivery.source.startswith(engagement.SOURCE):
        return engagement.normalise(delivery)
    config = configuration.sources.get(delivery.source)
    if config is None:
        raise UnprocessableEvent(f"there is no source {delivery.source!r} any more", reason="no_source")
    return sources[config.name].normalise(delivery, configuration.store)


def _account(delivery: Delivery, normalised: Normalised, configuration: Configuration) -> str | None:
    """The destination whose record ids a delivery speaks of: the one that it was asked for from, that its source names,
    or the only one of the source's kind."""
    if normalised.contact is None:
        return None
    if delivery.source.startswith(engagement.SOURCE):
        return delivery.source.removeprefix(engagement.SOURCE)
    config = configuration.sources[delivery.source]
    if (named := config.options.get("destination")) is not None:
        return str(named)
    same = [one.name for one in configuration.destinations.values() if one.kind == config.kind]
    return same[0] if len(same) == 1 else None
