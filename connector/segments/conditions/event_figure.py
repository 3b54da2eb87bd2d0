"""`{event: Order Completed, sum: {of: total, ">": 2000}}`: a figure over the events, compared with numbers."""

from collections.abc import Callable

from connector.clock import Millis
from connector.domain import Facts, Json, StoredEvent
from connector.segments.comparisons import Bounds
from connector.segments.condition import NEVER, Anchors, Signed
from connector.segments.conditions.event_window import EventCondition, slide
from connector.segments.figures import Count, Distinct, Extreme, Figure, Total
from connector.segments.query import Query, Value
from connector.segments.sentences import done, shown, within
from connector.segments.where import Filter


class FigureCondition(EventCondition):
    """A figure over the events in the window, compared with numbers."""

    def __init__(
        self,
        event: str,
        where: Filter,
        length: Millis | None,
        kind: str,
        of: str | None,
        limits: tuple[Bounds, ...],
        words: str,
    ) -> None:
        super().__init__(event, where, length)
        self.kind = kind
        self.of = of
        self.limits = limits
        self.words = words
        self.figure = _figure(kind, of)
        found, figure, test = self.found, self.figure, self.test

        def check(facts: Facts, now: Millis) -> Signed:
            return slide(found(facts, now), length, now, figure(), test)

        self.signed = check

    def test(self, value: float | None) -> bool:
        """Does the figure fit?"""
        if value is None:
            return False
        return all(limit.holds(value) for limit in self.limits)

    def reads(self) -> frozenset[str]:
        return frozenset({self.event} if self.where.parts or self.of not in (None, "day") else ())

    def because(self, facts: Facts, now: Millis) -> str:
        figure = self.figure()
        found = [event for event in self.found(facts, now) if event.at <= now]
        for event in found:
            figure.enter(event)
        value = figure.value()
        told = f"{done(self.event, len(found))}{within(self.length)}"
        if self.kind == "count":
            if self.of is None:
                return told
            return f"{told}, on {value:.0f} different days" if self.of == "day" else f"{told}, {value:.0f} {self.of}"
        return f"{told}, {self.kind} of {self.of} {'not known' if value is None else shown(value / 10_000)}"

    def sql(self, query: Query) -> str:
        never = query.bind(NEVER)
        figure = self._figure_sql(query)
        truth = " AND ".join(limit.sql(figure, query) for limit in self.limits)
        if self.length is None:
            return f"CASE WHEN {truth} THEN {never} ELSE -{never} END"
        oldest = self.aggregate(query, "min({})", "e.at")
        until = f"coalesce({self.leaves(query, oldest)}, {never})"
        kept = {True: until, False: until}
        shrinks = self._shrinks(query)
        if shrinks is not None:
            for outcome in (True, False):
                if self._lasting(outcome):
                    kept[outcome] = f"CASE WHEN {shrinks} THEN {never} ELSE {until} END" if shrinks else never
        return f"CASE WHEN {truth} THEN {kept[True]} ELSE -({kept[False]}) END"

    def _figure_sql(self, query: Query) -> str:
        dialect = query.dialect
        if self.of is None:
            return self.aggregate(query, "count({})", "e.at")
        if self.of == "day" and self.kind == "count":
            return self.aggregate(query, "count(DISTINCT {})", "e.day")
        value = Value(query, "e.properties", query.path(self.of))
        if self.kind == "count":
            scalar = f"CASE WHEN {value.kind()} NOT IN ('array', 'object') THEN {value.expression()} END"
            return self.aggregate(query, "count(DISTINCT {})", scalar)
        units = dialect.fixed.format(value.expression())
        if self.kind == "sum":
            return self.aggregate(query, dialect.total, units)
        if self.kind == "average":
            return f"({self.aggregate(query, 'avg({})', units)})"
        return self.aggregate(query, f"{self.kind}({{}})", units)

    def _shrinks(self, query: Query) -> str | None:
        """The SQL test that leaving events can only lessen the figure ('' always); None when nobody can tell."""
        if self.kind == "count":
            return ""
        if self.kind == "sum" and self.of is not None:
            units = query.dialect.fixed.format(Value(query, "e.properties", query.path(self.of)).expression())
            return f"coalesce({self.aggregate(query, 'min({})', units)}, 0) >= 0"
        return None

    def _lasting(self, outcome: bool) -> bool:
        """Does this outcome last while the figure lessens?"""
        if outcome:
            return all(limit.inside and limit.low == float("-inf") for limit in self.limits)
        return all(limit.inside and limit.high == float("inf") for limit in self.limits)

    def anchors(self, matched: bool) -> Anchors | None:
        return Anchors(events=frozenset({self.event})) if self.test(self.figure().value()) is matched else None


def _figure(kind: str, of: str | None) -> Callable[[], Figure]:
    if of is None:
        return Count

    def reading(event: StoredEvent) -> Json:
        return event.properties.get(of)

    if kind == "count":
        return lambda: Distinct(_day if of == "day" else reading)
    if kind in ("sum", "average"):
        return lambda: Total(reading, average=kind == "average")
    return lambda: Extreme(reading, greatest=kind == "max")


def _day(event: StoredEvent) -> Json:
    return event.day
