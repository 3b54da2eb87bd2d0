"""Instants in deliveries: read leniently, then brought between what is plausible and the moment of arrival."""

from datetime import UTC, datetime

from connector.clock import HOUR, Millis

OLDEST: Millis = 946_684_800_000
"""2000-01-01: anything older in a shop is a default value or a typing error, not a date."""

SKEW: Millis = HOUR
"""How far a version's `updated_at` may be ahead of our own clock before it is disbelieved."""


def read_instant(text: str) -> Millis:
    """Epoch milliseconds of an ISO 8601 text with Z, an offset or nanoseconds; UTC without one. Else ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def happened_at(received_at: Millis, *stated: Millis | None) -> Millis:
    """The first plausible instant of `stated`, never after `received_at`, which also stands in when none is."""
    for at in stated:
        if at is not None and at >= OLDEST:
            return min(at, received_at)
    return received_at


def version_at(received_at: Millis, *stated: Millis | None) -> Millis:
    """Like happened_at for the `updated_at` that orders versions of one thing.

    Clipping at our own clock would reverse two versions when it runs a little behind the sender's, so only what is
    more than SKEW ahead is clipped: one version from the year 2999 must not shut out all that follow.
    """
    for at in stated:
        if at is not None and at >= OLDEST:
            return at if at <= received_at + SKEW else received_at
    return received_at
