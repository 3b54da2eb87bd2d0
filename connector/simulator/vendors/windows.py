"""How vendors count calls: fixed windows (Klaviyo), a rolling window (HubSpot). Seconds; the caller gives the time."""

import math
from collections import deque


class FixedWindow:
    """At most `limit` calls in each window of `length` seconds; windows start at multiples of their length."""

    def __init__(self, limit: int, length: float) -> None:
        self.limit = limit
        self.length = length
        self._window = -1
        self._used = 0

    def left(self, now: float) -> int:
        """Calls still free in the window of `now`."""
        window = math.floor(now / self.length)
        if window != self._window:
            self._window, self._used = window, 0
        return self.limit - self._used

    def take(self) -> None:
        """Counts one call in the window last looked at."""
        self._used += 1

    def ends_in(self, now: float) -> int:
        """Whole seconds until the next window, at least 1."""
        return max(1, math.ceil((math.floor(now / self.length) + 1) * self.length - now))


class RollingWindow:
    """At most `limit` calls within any `length` seconds."""

    def __init__(self, limit: int, length: float) -> None:
        self.limit = limit
        self.length = length
        self._calls: deque[float] = deque()

    def left(self, now: float) -> int:
        """Calls still free at `now`."""
        while self._calls and self._calls[0] <= now - self.length:
            self._calls.popleft()
        return self.limit - len(self._calls)

    def take(self, now: float) -> None:
        """Counts one call at `now`."""
        self._calls.append(now)
