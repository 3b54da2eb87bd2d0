"""`{event: Order Completed, within: 30d, count: {">=": 3}}`: what a person did, how often, how much, first and last.

An event counts from its instant until `within` has passed: windows are half open, (now - within, now].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from connector.clock import Millis
from connector.domain import Facts, Json, StoredEvent
from connector.ports import Needs
from connector.segments.comparisons import OPERATORS, Bounds, Comparisons, bounds, comparisons
from connector.segments.condition import NEVER, Anchors, Condition, Signed
from connector.segments.figures import Count, Distinct, Extreme, Figure, Reading, Total
from connector.segments.query import Aggregate, Operand, Query, Rows, Value
from connector.segments.reading import Place, duration, mapping, name, number
from connector.segments.sentences import day, deed, done, shown, within
from connector.segments.where import Filter, Match, read_where

FIGURES: Final = ("count", "sum", "average", "min", "max", "first", "last")
KEYS: Final = ("event", "where", "within", *FIGURES)
_NUMERIC: Final = ("=", "!=", "<", "<=", ">", ">=")
_NO_EVENTS: Final[Sequence[StoredEvent]] = ()


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
        return _meant(facts.events.get(self.event, _NO_EVENTS), self.match, _floor(now, self.length))

    def rows(self, query: Query) -> Rows:
        return self.where.rows(self.event, query)

    def aggregate(self, query: Query, function: str, value: str, *, future: bool = False) -> str:
        """The column that carries a figure over the events in the window."""
        floor = None if self.length is None else query.now - self.length
        return query.aggregate(Aggregate(function, value, self.rows(query), floor, future))

    def leaves(self, query: Query, at: str) -> str:
        """The instant at which an event at `at` leaves the window."""
        return query.bind(NEVER) if self.length is None else f"{at} + {query.bind(self.length)}"


def _floor(now: Millis, length: Millis | None) -> Millis:
    return -NEVER if length is None else now - length


def _meant(events: Sequence[StoredEvent], match: Match | None, floor: Millis) -> list[StoredEvent]:
    if match is None:
        return [event for event in events if event.at > floor]
    return [event for event in events if event.at > floor and match(event.properties)]


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
        floor = -NEVER if length is None else now - length
        if events[-1].at > now:
            return sign * _with_future(_meant(events, match, floor), now)
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
            return self.aggregate(query, "total({})", units)
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
    if kind == "count":
        reading: Reading = (lambda event: event.day) if of == "day" else (lambda event: event.properties.get(of))
        return lambda: Distinct(reading)
    reading = lambda event: event.properties.get(of)  # noqa: E731  (mypy cannot infer it inline three times)
    if kind in ("sum", "average"):
        return lambda: Total(reading, average=kind == "average")
    return lambda: Extreme(reading, greatest=kind == "max")


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

        def look(events: list[StoredEvent], at: Millis) -> tuple[Signed, Millis]:
            """The answer at an instant, and when another event becomes the one looked at."""
            here = [event for event in events if (length is None or event.at + length > at) and event.at <= at]
            coming = next((event.at for event in events if event.at > at), NEVER)
            if not here:
                return -NEVER, coming
            one = here[0] if first else here[-1]
            leaves = NEVER if length is None else one.at + length
            return compare(reading(one), at), leaves if first else min(leaves, coming)

        def check(facts: Facts, now: Millis) -> Signed:
            events = found(facts, now)
            answer, other = look(events, now)
            at = min(abs(answer), other)
            while at < NEVER:
                later, other = look(events, at)
                if (later > 0) is not (answer > 0):
                    break
                at = min(abs(later), other)
            return at if answer > 0 else -at

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
        never = query.bind(NEVER)
        answer = self.parts.sql(Picked(query, at, "NULL", query.path(self.of)))
        if self.length is None:
            return f"CASE WHEN {at} IS NULL THEN -{never} ELSE {answer} END"
        leaves = self.leaves(query, at)
        return f"CASE WHEN {at} IS NULL THEN -{never} ELSE max(-({leaves}), min({answer}, {leaves})) END"

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
        return f"coalesce((SELECT max(-({leaves}), min({answer}, {leaves})) FROM ({one}) AS q), -{never})"

    def anchors(self, matched: bool) -> Anchors | None:
        return None if matched else Anchors(events=frozenset({self.event}))


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


def read(place: Place, rule: Mapping[str, Json]) -> Condition:
    """The condition that a rule with the key `event` means."""
    mapping(place, rule, KEYS, "an event condition")
    event, where, length = event_parts(place, rule)
    figures = [key for key in FIGURES if key in rule]
    if len(figures) > 1:
        raise place.at(figures[1]).wrong(f"one event condition has one of {', '.join(FIGURES)}: use all for several")
    if not figures:
        return AtLeast(event, where, length, 1)
    kind = figures[0]
    here = place.at(kind)
    if kind in ("first", "last"):
        asked = mapping(here, rule[kind], ("of", *OPERATORS), kind)
        of = name(here.at("of"), asked.get("of", "at"), "a property's name")
        return EndCondition(event, where, length, kind, of, comparisons(here, asked))
    over = "distinct" if kind == "count" else "of"
    asked = mapping(here, rule[kind], (over, *_NUMERIC), kind)
    needed = kind != "count" or "distinct" in asked
    figured = name(here.at(over), asked.get(over), "the property to compute with") if needed else None
    compared = [(key, number(here.at(key), value)) for key, value in asked.items() if key in _NUMERIC]
    if not compared:
        raise here.wrong(f"say what to compare with, by one of: {', '.join(_NUMERIC)}")
    if figured is None and len(compared) == 1:
        simple = _simple_count(*compared[0])
        if simple is not None and simple[0] > 0:
            return AtLeast(event, where, length, simple[0], fewer=simple[1])
    limits = tuple(bounds(operator, x, scaled=kind != "count") for operator, x in compared)
    words = " and ".join(f"{operator} {x}" for operator, x in compared)
    return FigureCondition(event, where, length, kind, figured, limits, words)


def _simple_count(operator: str, x: float) -> tuple[int, bool] | None:
    """A count compared with a whole number as (at least this many, turned round)."""
    if x != int(x):
        return None
    return {
        ">=": (int(x), False),
        ">": (int(x) + 1, False),
        "<": (int(x), True),
        "<=": (int(x) + 1, True),
    }.get(operator)


def event_parts(place: Place, rule: Mapping[str, Json]) -> tuple[str, Filter, Millis | None]:
    """The event's name, its filter and its window."""
    event = rule.get("event")
    if not isinstance(event, str) or not event:
        raise place.at("event").wrong("event is the name of an event, such as Order Completed")
    where = read_where(place.at("where"), rule["where"]) if "where" in rule else Filter()
    length = duration(place.at("within"), rule["within"]) if "within" in rule else None
    return event, where, length
