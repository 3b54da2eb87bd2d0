"""What all conditions on one kind of event share: which events they mean, and the window that moves over them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from connector.clock import Millis
from connector.domain import Facts, Json, StoredEvent
from connector.ports import Needs
from connector.segments.condition import NEVER, Condition, Signed
from connector.segments.figures import Figure
from connector.segments.query import Aggregate, Query, Rows
from connector.segments.reading import Place, duration
from connector.segments.where import Filter, Match, read_where

NO_EVENTS: Final[Sequence[StoredEvent]] = ()


class EventCondition(Condition):
    """What all conditions on one kind of event share: which events they mean, and the window."""

    def __init__(self, event: str, where: Filter, length: Millis | None) -> None:
        self.event = event
        self.where = where
        self.length = length
        self.match = where.match()

    def needs(self) -> tuple[Needs, ...]:
        return (Needs(self.event, self.length),)

    def reads(self) -> frozenset[str]:
        return frozenset({self.event} if self.where.parts else ())

    def found(self, facts: Facts, now: Millis) -> list[StoredEvent]:
        """The events meant that are or will be in the window, oldest first."""
        return meant(facts.events.get(self.event, NO_EVENTS), self.match, floor_of(now, self.length))

    def rows(self, query: Query) -> Rows:
        return self.where.rows(self.event, query)

    def aggregate(self, query: Query, function: str, value: str, *, future: bool = False) -> str:
        """The column that carries a figure over the events in the window."""
        floor = None if self.length is None else query.now - self.length
        return query.aggregate(Aggregate(function, value, self.rows(query), floor, future))

    def leaves(self, query: Query, at: str) -> str:
        """The instant at which an event at `at` leaves the window."""
        return query.bind(NEVER) if self.length is None else f"{at} + {query.bind(self.length)}"


def floor_of(now: Millis, length: Millis | None) -> Millis:
    return -NEVER if length is None else now - length


def meant(events: Sequence[StoredEvent], match: Match | None, floor: Millis) -> list[StoredEvent]:
    if match is None:
        return [event for event in events if event.at > floor]
    return [event for event in events if event.at > floor and match(event.properties)]


def slide(
    events: Sequence[StoredEvent],
    length: Millis | None,
    now: Millis,
    figure: Figure,
    test: Callable[[float | None], bool],
) -> Signed:
    """The signed answer of `test(figure)` over a window that ends now and moves on until the answer turns."""
    newest = 0
    for event in events:
        if event.at > now:
            break
        figure.enter(event)
        newest += 1
    answer = test(figure.value())
    oldest, count = 0, len(events)
    while True:
        leaves = events[oldest].at + length if length is not None and oldest < newest else NEVER
        enters = events[newest].at if newest < count else NEVER
        at = min(leaves, enters)
        if at == NEVER:
            return NEVER if answer else -NEVER
        while length is not None and oldest < newest and events[oldest].at + length <= at:
            figure.leave(events[oldest])
            oldest += 1
        while newest < count and events[newest].at <= at:
            figure.enter(events[newest])
            newest += 1
        if test(figure.value()) is not answer:
            return at if answer else -at


def event_parts(place: Place, rule: Mapping[str, Json]) -> tuple[str, Filter, Millis | None]:
    """The event's name, its filter and its window."""
    event = rule.get("event")
    if not isinstance(event, str) or not event:
        raise place.at("event").wrong("event is the name of an event, such as Order Completed")
    where = read_where(place.at("where"), rule["where"]) if "where" in rule else Filter()
    length = duration(place.at("within"), rule["within"]) if "within" in rule else None
    return event, where, length
