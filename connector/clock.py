"""Instants and durations. Instants are integers, epoch milliseconds UTC, everywhere inside StoreCue."""

import re
import time
from datetime import UTC, datetime

Millis = int
"""An instant (epoch milliseconds UTC) or a length of time (milliseconds)."""

SECOND: Millis = 1_000
MINUTE: Millis = 60 * SECOND
HOUR: Millis = 60 * MINUTE
DAY: Millis = 24 * HOUR

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"([1-9]\d{0,5})([smhdw])")


def now() -> Millis:
    """The present instant. Only `app`, `worker` and `cli` may ask; everything else is told."""
    return time.time_ns() // 1_000_000


def parse_duration(text: str) -> Millis:
    """Milliseconds of `90s`, `30m`, `48h`, `7d` or `2w`; ValueError for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 30m, 48h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def parse_instant(text: str) -> Millis:
    """Epoch milliseconds of an ISO 8601 date or date-time; UTC when without an offset. ValueError otherwise."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def isoformat(at: Millis) -> str:
    """RFC 3339 in UTC with milliseconds, such as `2026-11-21T10:00:00.000Z`."""
    seconds, millis = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
