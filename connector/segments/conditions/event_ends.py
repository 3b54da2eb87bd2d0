"""`{event: Order Completed, last: {before: 180d}}`: the first or last event, its instant or one of its properties."""

from typing import NamedTuple

from connector.clock import Millis
from connector.domain import Facts
from connector.segments.comparisons import Comparisons
from connector.segments.condition import NEVER, Anchors, Signed
from connector.segments.conditions.event_window import EventCondition
from connector.segments.figures import Reading
from connector.segments.query import Dialect, Operand, Query
from connector.segments.sentences import day, deed, done, shown, within
from connector.segments.where import Filter


class EndCondition(EventCondition):
    """The first or last event in the window: its instant, or one of its properties, compared."""

    def __init__(
        self, event: str, where: Filter, length: Millis | None, kind: str, of: str, parts: Comparisons
    ) -> None:
        super().__init__(event, where, length)
        self.kind = kind
        self.of = of
        self.parts = parts
        compare, found = parts.signed(), self.found
        first = kind == "first"
        reading: Reading = (lambda event: event.at) if of == "at" else (lambda event: event.properties.get(of))

        def check(facts: Facts, now: Millis) -> Signed:
            events = found(facts, now)
            count, oldest, newest, at = len(events), 0, 0, now
            matched: bool | None = None
            while at < NEVER:
                while newest < count and events[newest].at <= at:
                    newest += 1
                while length is not None and oldest < newest and events[oldest].at + length <= at:
                    oldest += 1
                answer, turns = -NEVER, events[newest].at if newest < count else NEVER
                if oldest < newest:
                    one = events[oldest] if first else events[newest - 1]
                    answer = compare(reading(one), at)
                    leaves = NEVER if length is None else one.at + length
                    turns = min(abs(answer), leaves if first else min(leaves, turns))
                if matched is None:
                    matched = answer > 0
                elif (answer > 0) is not matched:
                    break
                at = turns
            return at if matched else -at

        self.signed = check
        self.reading = reading

    def reads(self) -> frozenset[str]:
        return frozenset({self.event} if self.where.parts or self.of != "at" else ())

    def because(self, facts: Facts, now: Millis) -> str:
        found = [event for event in self.found(facts, now) if event.at <= now]
        if not found:
            return f"{done(self.event, 0)}{within(self.length)}"
        one = found[0] if self.kind == "first" else found[-1]
        told = "" if self.of == "at" else f", {self.of} {shown(self.reading(one))}"
        return f"{self.kind} {deed(self.event)}{within(self.length)} on {day(one.day)}{told}"

    def sql(self, query: Query) -> str:
        return self._instant_sql(query) if self.of == "at" else self._property_sql(query)

    def _instant_sql(self, query: Query) -> str:
        """The instant itself is one more figure."""
        at = self.aggregate(query, "max({})" if self.kind == "last" else "min({})", "e.at")
        never, dialect = query.bind(NEVER), query.dialect
        answer = self.parts.sql(Picked(query, at, "NULL", query.path(self.of)))
        if self.length is None:
            return f"CASE WHEN {at} IS NULL THEN -{never} ELSE {answer} END"
        leaves = self.leaves(query, at)
        return f"CASE WHEN {at} IS NULL THEN -{never} ELSE {_within(dialect, answer, leaves)} END"

    def _property_sql(self, query: Query) -> str:
        never, dialect = query.bind(NEVER), query.dialect
        rows = self.rows(query)
        self.aggregate(query, "max({})", "e.at")  # puts the events on the spine, and notices coming ones
        tests = ["e.profile_id = l.id", f"e.name = {query.bind(rows.name)}", f"e.at <= {query.bind(query.now)}"]
        if self.length is not None:
            tests.append(f"e.at > {query.bind(query.now - self.length)}")
        if rows.test:
            tests.append(rows.test)
        order = "" if self.kind == "first" else " DESC"
        path = query.path(self.of)
        one = (
            f"SELECT e.at AS at, {dialect.value.format('e.properties', path)} AS x, e.properties AS properties"
            f" FROM event e WHERE {' AND '.join(tests)} ORDER BY e.at{order}, e.id{order} LIMIT 1"
        )
        answer = self.parts.sql(Picked(query, "q.x", "q.properties", path))
        leaves = self.leaves(query, "q.at")
        return f"coalesce((SELECT {_within(dialect, answer, leaves)} FROM ({one}) AS q), -{never})"

    def anchors(self, matched: bool) -> Anchors | None:
        return None if matched else Anchors(events=frozenset({self.event}))


def _within(dialect: Dialect, answer: str, leaves: str) -> str:
    """The answer, which lasts no longer than the event is in the window."""
    return f"{dialect.greatest}(-({leaves}), {dialect.least}({answer}, {leaves}))"


class Picked(NamedTuple):
    """The value of one event that was picked beforehand: `value`, from `column` at `path`."""

    query: Query
    value: str
    column: str
    path: str

    def expression(self) -> str:
        return self.value

    def kind(self) -> str:
        return self.query.dialect.kind.format(self.column, self.path)

    def computed(self, text: str) -> str:
        return text

    def direct(self) -> Operand:
        return self
