"""When a contact may be told next: further changes of fields alone wait for others, everything else goes at once."""

from collections.abc import Mapping

import orjson

from connector.clock import Millis, parse_duration
from connector.domain import DestinationConfig, Json

AT_ONCE = "0s"
"""The `at_most_every` of a destination where nothing waits."""

_AT_ONCE_FOR = ("email", "tags", "create")
"""What starts flows there, or says whom they reach."""


def due(config: DestinationConfig, want: str, pushed: str | None, pushed_at: Millis, now: Millis) -> Millis:
    """When a contact that should show `want` is to be told; `pushed_at` is the instant of its last accepted
    write. Where a cue waits for the contact, the store makes that at once."""
    every = interval(config)
    rested = now + every if config.wait_for_more else pushed_at + every
    if not every or pushed is None or rested <= now or not _fields_alone(want, pushed):
        return now
    return rested


def interval(config: DestinationConfig) -> Millis:
    """Milliseconds that a further change of fields alone waits; 0: none."""
    return 0 if config.at_most_every == AT_ONCE else parse_duration(config.at_most_every)


def _fields_alone(want: str, pushed: str) -> bool:
    wanted: Mapping[str, Json] = orjson.loads(want)
    had: Mapping[str, Json] = orjson.loads(pushed)
    return "unsure" not in had and all(wanted.get(name) == had.get(name) for name in _AT_ONCE_FOR)
