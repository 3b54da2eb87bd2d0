"""Figures over the events in a window: count, distinct, sum, average, min, max, each able to slide with the clock.

Events enter and leave in time order, oldest first. Numbers are held in units of 1/10,000 so that sums are exact.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from connector.domain import Json, StoredEvent
from connector.segments.comparisons import NUMBERS, SCALARS, fixed

Reading = Callable[[StoredEvent], Json]


class Figure(Protocol):
    """One figure. `value` is None when there is nothing to speak of: an average of no events."""

    def enter(self, event: StoredEvent) -> None: ...

    def leave(self, event: StoredEvent) -> None: ...

    def value(self) -> float | None: ...


class Count:
    """How many events."""

    def __init__(self) -> None:
        self.count = 0

    def enter(self, event: StoredEvent) -> None:
        self.count += 1

    def leave(self, event: StoredEvent) -> None:
        self.count -= 1

    def value(self) -> float:
        return self.count


class Distinct:
    """How many different values; events without one do not count."""

    def __init__(self, read: Reading) -> None:
        self.read = read
        self.counts: dict[Hashable, int] = {}

    def enter(self, event: StoredEvent) -> None:
        value = self.read(event)
        if type(value) in SCALARS:
            self.counts[value] = self.counts.get(value, 0) + 1

    def leave(self, event: StoredEvent) -> None:
        value = self.read(event)
        if type(value) in SCALARS:
            self.counts[value] -= 1
            if not self.counts[value]:
                del self.counts[value]

    def value(self) -> float:
        return len(self.counts)


class Total:
    """The sum or average of a property; values that are not numbers do not count."""

    def __init__(self, read: Reading, *, average: bool) -> None:
        self.read = read
        self.average = average
        self.total = 0
        self.count = 0

    def enter(self, event: StoredEvent) -> None:
        value = self.read(event)
        if type(value) in NUMBERS:
            self.total += fixed(value)
            self.count += 1

    def leave(self, event: StoredEvent) -> None:
        value = self.read(event)
        if type(value) in NUMBERS:
            self.total -= fixed(value)
            self.count -= 1

    def value(self) -> float | None:
        if not self.average:
            return self.total
        return self.total / self.count if self.count else None


class Extreme:
    """The least or greatest of a property: a queue of the values that may still become it."""

    def __init__(self, read: Reading, *, greatest: bool) -> None:
        self.read = read
        self.sign = 1 if greatest else -1
        self.queue: deque[tuple[StoredEvent, int]] = deque()

    def enter(self, event: StoredEvent) -> None:
        value = self.read(event)
        if type(value) in NUMBERS:
            ranked = fixed(value) * self.sign
            while self.queue and self.queue[-1][1] <= ranked:
                self.queue.pop()
            self.queue.append((event, ranked))

    def leave(self, event: StoredEvent) -> None:
        if self.queue and self.queue[0][0] is event:
            self.queue.popleft()

    def value(self) -> float | None:
        return self.queue[0][1] * self.sign if self.queue else None
