"""`{event: Order Completed, count: {">=": 3}, within: 30d}`: at least, or fewer than, so many events."""

from collections.abc import Callable

from connector.clock import Millis
from connector.domain import Facts, StoredEvent
from connector.segments.condition import NEVER, Anchors, Signed
from connector.segments.conditions.event_window import EventCondition, floor_of, meant, slide
from connector.segments.figures import Count
from connector.segments.query import Query
from connector.segments.sentences import day, done, within
from connector.segments.where import Filter, Match


class AtLeast(EventCondition):
    """At least `least` such events in the window, or, turned round, fewer. The most frequent kind, and exact."""

    def __init__(self, event: str, where: Filter, length: Millis | None, least: int, *, fewer: bool = False) -> None:
        super().__init__(event, where, length)
        self.least = least
        self.fewer = fewer
        self.signed = _at_least(event, self.match, length, least, -1 if fewer else 1)

    def because(self, facts: Facts, now: Millis) -> str:
        found = [event for event in self.found(facts, now) if event.at <= now]
        newest = f", newest {day(found[-1].day)}" if found else ""
        return f"{done(self.event, len(found))}{within(self.length)}{newest}"

    def sql(self, query: Query) -> str:
        never = query.bind(NEVER)
        if self.least == 1:
            newest = self.aggregate(query, "max({})", "e.at")
            answer = f"CASE WHEN {newest} IS NULL THEN -{never} ELSE {self.leaves(query, newest)} END"
        else:
            count = self.aggregate(query, "count({})", "e.at")
            until = never if self.length is None else self.leaves(query, self.aggregate(query, "min({})", "e.at"))
            answer = f"CASE WHEN {count} >= {query.bind(self.least)} THEN {until} ELSE -{never} END"
        return f"-({answer})" if self.fewer else answer

    def seldom(self, query: Query) -> str | None:
        if self.fewer or self.length is None or not self.where.parts:
            return None
        rows = self.rows(query)
        return f"e.name = {query.bind(rows.name)} AND e.at > {query.bind(query.now - self.length)} AND {rows.test}"

    def anchors(self, matched: bool) -> Anchors | None:
        return Anchors(events=frozenset({self.event})) if matched is self.fewer else None


def _at_least(
    name: str, match: Match | None, length: Millis | None, least: int, sign: int
) -> Callable[[Facts, Millis], Signed]:
    def check(facts: Facts, now: Millis) -> Signed:
        events = facts.events.get(name)
        if not events:
            return -sign * NEVER
        floor = floor_of(now, length)
        if events[-1].at > now:
            return sign * _with_future(meant(events, match, floor), now)
        missing = least
        for event in reversed(events):  # the least-th newest decides, and decides how long
            if event.at <= floor:
                break
            if match is None or match(event.properties):
                missing -= 1
                if not missing:
                    return sign * (NEVER if length is None else event.at + length)
        return -sign * NEVER

    def _with_future(events: list[StoredEvent], now: Millis) -> Signed:
        return slide(events, length, now, Count(), lambda value: value is not None and value >= least)

    return check
