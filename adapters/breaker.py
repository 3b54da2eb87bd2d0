"""Whether an account answers at all: after several failures in a row it gets one call in half a minute, no more."""

import random
import threading

from adapters.destination import Clock
from adapters.errors import Transient

FAILURES = 5
"""Calls in a row without a usable answer, whatever they asked for: then the account counts as out."""

PROBE_EVERY = 30.0
"""Seconds between calls to an account that is out. Its first answer ends that."""

_JITTER = 0.1


class Breaker:
    """Closed while the account answers; open after FAILURES; half open for the one call that may look. Used by any
    number of threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next = 0.0

    def enter(self) -> None:
        """Returns when a call may be made; raises Transient while the account is out and it is not yet time to look."""
        with self._lock:
            if self._failures < FAILURES:
                return
            now = self._clock.monotonic()
            if now < self._next:
                raise Transient("the account does not answer", retry_after=self._next - now, reason="out")
            self._next = now + _interval()

    def failed(self) -> float:
        """A call brought no usable answer; seconds until the next may be made, 0 when that is at any time."""
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES:
                return 0.0
            now = self._clock.monotonic()
            self._next = max(self._next, now + _interval())
            return self._next - now

    def answered(self) -> None:
        """A call was answered, be it with a refusal."""
        with self._lock:
            self._failures = 0


def _interval() -> float:
    return PROBE_EVERY * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311  spreads probes, guards nothing
