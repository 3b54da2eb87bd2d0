"""The conditions there are. A new one is a file in this folder and a line in CONDITIONS."""

from collections.abc import Callable, Mapping
from typing import Final

from connector.domain import Json
from connector.segments.condition import Condition
from connector.segments.conditions import consent, event, logic, not_followed_by, segment, trait
from connector.segments.reading import Place

CONDITIONS: Final[dict[str, Callable[[Place, Mapping[str, Json]], Condition]]] = {
    "not_followed_by": not_followed_by.read,
    "event": event.read,
    "trait": trait.read,
    "segment": segment.read,
    "consent": consent.read,
}
"""By the key that marks a rule; the first that is present decides, so the more special stands first."""

COMBINATIONS: Final[dict[str, Callable[[Place, Mapping[str, Json], logic.Read], Condition]]] = {
    "all": logic.read_all,
    "any": logic.read_any,
    "not": logic.read_not,
}
"""Likewise, for rules made of other rules."""
