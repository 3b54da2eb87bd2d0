"""`{trait: total_spent, ">=": 1000}`: a trait compared with a value, a date or a time ago."""

from collections.abc import Mapping

from connector.clock import Millis
from connector.domain import Facts, Json
from connector.segments.comparisons import OPERATORS, Comparisons, comparisons
from connector.segments.condition import NEVER, Condition, Signed
from connector.segments.query import Query, Value
from connector.segments.reading import Place, mapping, name
from connector.segments.sentences import shown

KEYS = ("trait", *OPERATORS)


class Trait(Condition):
    """A trait of which all comparisons hold."""

    def __init__(self, trait: str, parts: Comparisons) -> None:
        self.trait = trait
        self.parts = parts
        if parts.ago:
            compare = parts.signed()

            def dated(facts: Facts, now: Millis) -> Signed:
                return compare(facts.traits.get(trait), now)

            self.signed = dated
        else:
            holds = parts.holds()

            def fixed(facts: Facts, now: Millis) -> Signed:
                return NEVER if holds(facts.traits.get(trait)) else -NEVER

            self.signed = fixed

    def because(self, facts: Facts, now: Millis) -> str:
        value = facts.traits.get(self.trait)
        holds = "" if self.signed(facts, now) > 0 else "not "
        return f"{self.trait} is {shown(value)} ({holds}{self.parts.words})"

    def sql(self, query: Query) -> str:
        return self.parts.sql(Value(query, "traits", query.path(self.trait), lifted=True))

    def demands(self, query: Query) -> tuple[str, ...]:
        return (self.parts.truth(Value(query, "s.traits", query.path(self.trait))),) if self.parts.fixed else ()


def read(place: Place, rule: Mapping[str, Json]) -> Trait:
    """The condition that a rule with the key `trait` means."""
    mapping(place, rule, KEYS, "a trait condition")
    return Trait(name(place.at("trait"), rule["trait"], "a trait's name"), comparisons(place, rule))
