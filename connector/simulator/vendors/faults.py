"""What can go wrong at a vendor, as knobs: slowness, random 5xx, an outage, scripted answers, lost answers."""

import random
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Scripted(NamedTuple):
    """An answer to give instead of the vendor's own. `body` bytes, or a JSON value; None sends none."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


@dataclass
class _Rule:
    """Applies to the next `times` requests whose `METHOD path` the pattern finds; `answer` None means: lose it."""

    pattern: re.Pattern[str]
    answer: Scripted | None
    times: int


@dataclass
class Faults:
    """Knobs of one fake vendor; set them at any time, from any thread.

    latency: seconds of wall time before each answer. error_rate: share of requests answered with a 5xx before anything
    is applied; lost_rate: share applied and then dropped without an answer. Both shares draw from `seed`, so one
    client's sequence repeats. outage: every request is answered with 503.
    """

    latency: float = 0.0
    error_rate: float = 0.0
    lost_rate: float = 0.0
    outage: bool = False
    seed: int = 0
    _rules: list[_Rule] = field(default_factory=list, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def answer(
        self,
        status: int,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        match: str = "",
        times: int = 1,
    ) -> None:
        """The next `times` requests whose `METHOD path` holds the regex `match` get this, and nothing is applied."""
        with self._lock:
            self._rules.append(_Rule(re.compile(match), Scripted(status, body, headers or {}), times))

    def lose(self, *, match: str = "", times: int = 1) -> None:
        """The next `times` matching requests are applied, then the connection drops without an answer."""
        with self._lock:
            self._rules.append(_Rule(re.compile(match), None, times))

    def scripted(self, line: str) -> tuple[bool, Scripted | None]:
        """(True, answer or None to lose it) when a rule fits `METHOD path`, else (False, None). Uses the rule up."""
        with self._lock:
            for rule in self._rules:
                if rule.pattern.search(line):
                    rule.times -= 1
                    if rule.times == 0:
                        self._rules.remove(rule)
                    return True, rule.answer
        return False, None

    def strikes(self) -> bool:
        """True when this request is to fail with a 5xx by `error_rate`."""
        return self._drawn(self.error_rate)

    def loses(self) -> bool:
        """True when this request's answer is to be lost by `lost_rate`."""
        return self._drawn(self.lost_rate)

    def _drawn(self, share: float) -> bool:
        if share <= 0:
            return False
        with self._lock:
            return self._random.random() < share
