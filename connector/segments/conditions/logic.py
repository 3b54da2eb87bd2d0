"""`all`, `any` and `not`. On signed answers they are min, max and minus (see `condition`)."""

from collections.abc import Callable, Mapping, Sequence

from connector.clock import Millis
from connector.domain import Facts, Json
from connector.ports import Needs
from connector.segments.condition import NEVER, Anchors, Condition, Signed
from connector.segments.query import Query
from connector.segments.reading import Place, mapping

Read = Callable[[Place, Json], Condition]


class Combined(Condition):
    """Parts taken together: what a combination asks of them is asked of each."""

    def __init__(self, parts: Sequence[Condition]) -> None:
        self.parts = tuple(parts)

    def needs(self) -> tuple[Needs, ...]:
        return tuple(need for part in self.parts for need in part.needs())

    def reads(self) -> frozenset[str]:
        return frozenset().union(*(part.reads() for part in self.parts))

    def segments(self) -> tuple[str, ...]:
        return tuple(segment for part in self.parts for segment in part.segments())

    def anchored_by_one(self, matched: bool) -> Anchors | None:
        """One part suffices to settle the answer: the narrowest anchors of any."""
        found = [anchors for part in self.parts if (anchors := part.anchors(matched)) is not None]
        return min(
            found, key=lambda anchors: (len(anchors.events) > 0, len(anchors.events | anchors.segments)), default=None
        )

    def anchored_by_all(self, matched: bool) -> Anchors | None:
        """Every part must be settled."""
        found = Anchors()
        for part in self.parts:
            anchors = part.anchors(matched)
            if anchors is None:
                return None
            found |= anchors
        return found


class All(Combined):
    """Holds while every part does."""

    def __init__(self, parts: Sequence[Condition]) -> None:
        super().__init__(parts)
        checks = tuple(part.signed for part in parts)

        def check(facts: Facts, now: Millis) -> Signed:
            answer = NEVER
            for signed in checks:
                one = signed(facts, now)
                if one < answer:
                    if one == -NEVER:
                        return one
                    answer = one
            return answer

        self.signed = check

    def because(self, facts: Facts, now: Millis) -> str:
        matched = self.signed(facts, now) > 0
        told = [part for part in self.parts if (part.signed(facts, now) > 0) is matched]
        return " and ".join(part.because(facts, now) for part in told)

    def sql(self, query: Query) -> str:
        return _among(query.dialect.least, self.parts, query)

    def demands(self, query: Query) -> tuple[str, ...]:
        return tuple(test for part in self.parts for test in part.demands(query))

    def seldom(self, query: Query) -> str | None:
        return next((test for part in self.parts if (test := part.seldom(query)) is not None), None)

    def anchors(self, matched: bool) -> Anchors | None:
        return self.anchored_by_all(matched) if matched else self.anchored_by_one(matched)


class Any(Combined):
    """Holds while one part does."""

    def __init__(self, parts: Sequence[Condition]) -> None:
        super().__init__(parts)
        checks = tuple(part.signed for part in parts)

        def check(facts: Facts, now: Millis) -> Signed:
            answer = -NEVER
            for signed in checks:
                one = signed(facts, now)
                if one > answer:
                    if one == NEVER:
                        return one
                    answer = one
            return answer

        self.signed = check

    def because(self, facts: Facts, now: Millis) -> str:
        matched = self.signed(facts, now) > 0
        told = [part for part in self.parts if (part.signed(facts, now) > 0) is matched]
        return " and ".join(part.because(facts, now) for part in told)

    def sql(self, query: Query) -> str:
        return _among(query.dialect.greatest, self.parts, query)

    def anchors(self, matched: bool) -> Anchors | None:
        return self.anchored_by_one(matched) if matched else self.anchored_by_all(matched)


class Not(Combined):
    """Holds while its part does not."""

    def __init__(self, part: Condition) -> None:
        super().__init__((part,))
        signed = part.signed

        def check(facts: Facts, now: Millis) -> Signed:
            return -signed(facts, now)

        self.signed = check

    def because(self, facts: Facts, now: Millis) -> str:
        return self.parts[0].because(facts, now)

    def sql(self, query: Query) -> str:
        return f"-({self.parts[0].sql(query)})"

    def anchors(self, matched: bool) -> Anchors | None:
        return self.parts[0].anchors(not matched)


def _among(function: str, parts: Sequence[Condition], query: Query) -> str:
    expressions = [part.sql(query) for part in parts]
    return expressions[0] if len(expressions) == 1 else f"{function}({', '.join(expressions)})"


def read_all(place: Place, rule: Mapping[str, Json], read: Read) -> Condition:
    """The condition that `all: [...]` means."""
    return All(_parts(place, rule, "all", read))


def read_any(place: Place, rule: Mapping[str, Json], read: Read) -> Condition:
    """The condition that `any: [...]` means."""
    return Any(_parts(place, rule, "any", read))


def read_not(place: Place, rule: Mapping[str, Json], read: Read) -> Condition:
    """The condition that `not: {...}` means."""
    mapping(place, rule, ("not",), "not")
    return Not(read(place.at("not"), rule["not"]))


def _parts(place: Place, rule: Mapping[str, Json], key: str, read: Read) -> list[Condition]:
    mapping(place, rule, (key,), key)
    parts, here = rule[key], place.at(key)
    if not isinstance(parts, list) or not parts:
        raise here.wrong(f"{key} takes a list of one or more conditions")
    return [read(here.at(i), part) for i, part in enumerate(parts)]
