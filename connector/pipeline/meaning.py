"""What deliveries mean: each in the hands of its source, or among the dead letters."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
) -> tuple[list[Meant], list[tuple[Rec, UnprocessableEvent]], dict[Rec, Exception]]:
    """Those that mean something, those that nobody understands with the reason, and those over which a source of ours
    stumbles with all later ones of the same customer."""
    meant, letters = [], []
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
            letters.append((record, error))
            log.warning("delivery.unprocessable", delivery=delivery.id, topic=delivery.topic, reason=error.reason)
            continue
        except Exception as error:
            broken[record] = stuck[record.key] = error
            continue
        account = _account(delivery, normalised, configuration)
        meant.append(Meant(record, delivery, normalised, set(faults), account=account))
    return meant, letters, broken


def counted(meant: Iterable[Meant], letters: Sequence[tuple[Rec, UnprocessableEvent]]) -> Counter[tuple[str, str]]:
    """(counter, label) -> how many, of what was worked on."""
    counts = Counter(("dead_letters", error.reason) for _, error in letters)
    counts.update(("deliveries", f"{record.source}/{record.topic}") for record, _ in letters)
    for one in meant:
        source, topic = one.record.source, one.record.topic
        counts[("deliveries", f"{source}/{topic}")] += 1
        if not topic.startswith(deliveries.FETCHED):
            counts[(GOOD, source)] += 1
        for fault in one.faults:
            counts[(FAULTS, f"{source}/{fault}")] += 1
        if one.normalised.skipped:
            counts[("skipped", f"{source}/{one.normalised.skipped}")] += 1
    return counts


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
