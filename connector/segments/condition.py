"""One compiled condition, and how its answer is carried: as one signed number.

Positive: it holds; negative: it does not. The magnitude is the first instant at which that can change with no new
event, NEVER when none can. In this form `all` is min, `any` is max and `not` is minus, in Python and in SQL alike, and
the rule for combining instants comes by itself: a matched `all` lasts until its first part turns, an unmatched one at
least until the last of its unmatched parts does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple

from connector.clock import Millis
from connector.domain import Facts, Verdict
from connector.ports import Needs
from connector.segments.query import Query

NEVER: Final = 1 << 62

Signed = int
Check = Callable[[Facts, Millis], Signed]
"""A condition's answer for one person at an instant, as a signed number."""


class Anchors(NamedTuple):
    """Whoever has none of these events and no row in any of these segments cannot be concerned by a rule."""

    events: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()

    def __or__(self, other: "Anchors") -> "Anchors":
        return Anchors(self.events | other.events, self.segments | other.segments)


class Condition(ABC):
    """A compiled condition. `signed` is the check as a closure; the rest is asked less often."""

    signed: Check

    def check(self, facts: Facts, now: Millis) -> Verdict:
        """The verdict with its reason; `recheck_at` is None when no passing of time can change it."""
        signed = self.signed(facts, now)
        return Verdict(signed > 0, self.because(facts, now), recheck_at(signed))

    @abstractmethod
    def because(self, facts: Facts, now: Millis) -> str:
        """The plain fact behind the answer, in words a marketer reads."""

    @abstractmethod
    def sql(self, query: Query) -> str:
        """The SQL expression of the signed answer. Its instant may be earlier than the exact one, never later."""

    def demands(self, query: Query) -> tuple[str, ...]:
        """SQL tests of a profile `s` without which the answer is no for good: they narrow the spine."""
        return ()

    def seldom(self, query: Query) -> str | None:
        """A SQL test of an event `e` that few people meet and without which the answer is no for good, or None."""
        return None

    def needs(self) -> tuple[Needs, ...]:
        """The events it reads and how far back."""
        return ()

    def reads(self) -> frozenset[str]:
        """Names of events whose properties it reads."""
        return frozenset()

    def segments(self) -> tuple[str, ...]:
        """Segments it refers to."""
        return ()

    def anchors(self, matched: bool) -> Anchors | None:
        """What a person must have for the answer to be other than `matched` for good; None when anyone may be."""
        return None


def recheck_at(signed: Signed) -> Millis | None:
    """The instant of a signed answer, None for NEVER."""
    instant = abs(signed)
    return None if instant >= NEVER else instant


def signed(verdict: Verdict) -> Signed:
    """A verdict as a signed answer."""
    instant = NEVER if verdict.recheck_at is None else verdict.recheck_at
    return instant if verdict.matched else -instant
