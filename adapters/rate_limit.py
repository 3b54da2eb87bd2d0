"""A vendor's limits, kept on our side, per account: sliding windows by endpoint family, a gate on calls in flight."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import NamedTuple
from weakref import WeakValueDictionary

from adapters.breaker import Breaker
from adapters.destination import Clock
from adapters.errors import Transient

PATIENCE = 2.0
"""Seconds a call may wait here. A longer wait goes back to the caller, who meanwhile folds further changes into one."""

SHARE = 0.98
"""The part of a limit that we use: the rest is for whoever else holds this account's key."""

_LOOK_AGAIN = 0.05
_AWAITED = 60.0  # seconds of the longest window that starts empty after a takeover


class Window(NamedTuple):
    """At most `calls` in any `seconds`."""

    calls: int
    seconds: float


class _Family:
    """The calls of one endpoint family: those under way, and when the finished ones ended."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.in_flight = 0
        self.blocked_until = 0.0
        self.spent_until = float("-inf")
        self.ended = [(max(1, int(w.calls * SHARE)), w.seconds, deque[float]()) for w in windows]

    def wait(self, now: float) -> float:
        """Seconds until a call may start; 0 when it may start now."""
        longest = max(0.0, self.blocked_until - now)
        for calls, seconds, ended in self.ended:
            while ended and ended[0] + seconds <= now:
                ended.popleft()
            if seconds <= _AWAITED:
                longest = max(longest, self.spent_until + seconds - now)
            surplus = len(ended) + self.in_flight + 1 - calls
            if surplus > len(ended):
                longest = max(longest, _LOOK_AGAIN)  # only the end of a call under way makes room
            elif surplus > 0:
                longest = max(longest, ended[surplus - 1] + seconds - now)
        return longest


class Limiter:
    """Lets calls pass so that no sliding window ever holds more than its share. Used by any number of threads.

    `windows` by endpoint family; a family without windows knows only the gate and what the vendor's 429 says.
    A call counts from its start until `seconds` after its end: the vendor counts it somewhere between the two, so its
    windows hold no more than ours however the network delays single calls.
    """

    def __init__(self, clock: Clock, concurrency: int, windows: Mapping[str, Sequence[Window]]) -> None:
        self.breaker = Breaker(clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._gate = threading.BoundedSemaphore(concurrency)
        self._windows = windows
        self._families: dict[str, _Family] = {}
        self._concurrency = concurrency
        self._lingering: list[float] = []
        self._spent_until = float("-inf")

    @contextmanager
    def slot(self, family: str) -> Iterator[None]:
        """Runs the body when the windows of `family` and the gate allow; raises Transient when that would take more
        than PATIENCE seconds."""
        with self._gate:
            entry = self._enter(family)
            try:
                yield
            finally:
                with self._lock:
                    now = self._clock.monotonic()
                    entry.in_flight -= 1
                    for _, _, ended in entry.ended:
                        ended.append(now)

    def block(self, family: str, seconds: float) -> None:
        """No call of `family` starts in the next `seconds`: the vendor said so (429)."""
        with self._lock:
            entry = self._family(family)
            entry.blocked_until = max(entry.blocked_until, self._clock.monotonic() + seconds)

    def exhaust(self, until: float) -> None:
        """Count every window as used up by another process at `until`, by the clock's monotonic: a process that was
        killed cannot say what it has spent. Not those longer than a minute: if they are spent, the vendor says so."""
        with self._lock:
            self._spent_until = max(self._spent_until, until)
            for family in self._families.values():
                family.spent_until = self._spent_until

    def linger(self, seconds: float) -> None:
        """One call fewer at a time for so long: one that timed out here may still be under way at the vendor."""
        with self._lock:
            self._lingering.append(self._clock.monotonic() + seconds)

    def _crowded(self, now: float) -> float:
        """Seconds until there may be room beside the calls that linger at the vendor."""
        self._lingering = [until for until in self._lingering if until > now]
        in_flight = sum(family.in_flight for family in self._families.values())
        if not self._lingering or in_flight + len(self._lingering) < self._concurrency:
            return 0.0
        return _LOOK_AGAIN if in_flight else min(self._lingering) - now

    def _family(self, name: str) -> _Family:
        if name not in self._families:
            self._families[name] = _Family(self._windows.get(name, ()))
            self._families[name].spent_until = self._spent_until
        return self._families[name]

    def _enter(self, family: str) -> _Family:
        deadline = self._clock.monotonic() + PATIENCE
        while True:
            with self._lock:
                entry = self._family(family)
                now = self._clock.monotonic()
                wait = max(entry.wait(now), self._crowded(now))
                if wait <= 0:
                    entry.in_flight += 1
                    return entry
            if now + wait > deadline:
                raise Transient(
                    f"our share of the limit on {family} is used up", retry_after=wait, reason="rate_limited"
                )
            self._clock.sleep(wait)


_shared: WeakValueDictionary[tuple[str, Clock], Limiter] = WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_limiter(account: str, clock: Clock, concurrency: int, windows: Mapping[str, Sequence[Window]]) -> Limiter:
    """The one limiter of this process for `account` (address and key, kept only as a digest) on this clock."""
    key = (sha256(account.encode()).hexdigest(), clock)
    with _shared_lock:
        limiter = _shared.get(key)
        if limiter is None:
            limiter = _shared[key] = Limiter(clock, concurrency, windows)
        return limiter
