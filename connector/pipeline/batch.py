"""What travels down the line: deliveries with their meaning, and what they touch."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from connector.domain import Delivery, Normalised
from connector.pipeline.stumbles import Stumbles
from connector.ports import Rec


@dataclass(slots=True)
class Meant:
    """A record of the log, the delivery in it and what that means. `account`: the destination whose record ids it
    speaks of; `faults`: what is wrong in it and could be left out."""

    record: Rec
    delivery: Delivery
    normalised: Normalised
    faults: Collection[str] = ()
    person: int | None = None
    account: str | None = None


@dataclass(slots=True)
class Batch:
    """What a batch touches and what must be recomputed."""

    stumbles: Stumbles = field(default_factory=Stumbles)
    touched: set[int] = field(default_factory=set)
    parts: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    loud: set[int] = field(default_factory=set)
    news: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)
    """Whom a delivery concerns that came for the first time, and whom one that somebody put in line again"""
    changes: list[dict[str, Any]] = field(default_factory=list)
    buyers: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    """Order (source, id) -> everybody who is or was said to have bought it: one, unless the shop gave it away."""
    merged: list[tuple[int, int]] = field(default_factory=list)
    """(winner, loser) of stored profiles."""
    moved: list[tuple[str, int, int]] = field(default_factory=list)
    """(e-mail, who had it, who has it now)"""
    told: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    untold: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of merged people: the segments that the part with an address was in, and those that only the other part was in"""
