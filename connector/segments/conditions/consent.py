"""`{consent: email}`: what the person allowed on a channel. Alone it means subscribed; unknown is not subscribed."""

from collections.abc import Mapping
from typing import get_args

from connector.clock import Millis
from connector.domain import Channel, ConsentState, Facts, Json
from connector.segments.comparisons import Comparisons, comparisons
from connector.segments.condition import NEVER, Condition, Signed
from connector.segments.query import Query, Value
from connector.segments.reading import Place, mapping, nearest

CHANNELS: tuple[str, ...] = get_args(Channel)
STATES: tuple[str, ...] = get_args(ConsentState)
OPERATORS = ("=", "!=", "in")


class ConsentGiven(Condition):
    """The state of consent on one channel."""

    def __init__(self, channel: str, parts: Comparisons) -> None:
        self.channel = channel
        self.parts = parts
        holds = parts.holds()

        def check(facts: Facts, now: Millis) -> Signed:
            return NEVER if holds(facts.consent.get(channel)) else -NEVER

        self.signed = check

    def because(self, facts: Facts, now: Millis) -> str:
        return f"{self.channel} consent is {facts.consent.get(self.channel, 'unknown').replace('_', ' ')}"

    def sql(self, query: Query) -> str:
        return self.parts.sql(Value(query, "consent", self._path(query), lifted=True))

    def demands(self, query: Query) -> tuple[str, ...]:
        return (self.parts.truth(Value(query, "s.consent", self._path(query))),)

    def _path(self, query: Query) -> str:
        return query.path(self.channel, "state")


def read(place: Place, rule: Mapping[str, Json]) -> ConsentGiven:
    """The condition that a rule with the key `consent` means."""
    mapping(place, rule, ("consent", *OPERATORS), "a consent condition")
    channel = rule["consent"]
    if channel not in CHANNELS:
        raise place.at("consent").wrong(f"{channel!r} is no channel: {nearest(str(channel), CHANNELS)}")
    compared = {key: value for key, value in rule.items() if key != "consent"} or {"=": "subscribed"}
    for key, value in compared.items():
        for state in value if isinstance(value, list) else [value]:
            if state not in STATES:
                raise place.at(key).wrong(f"{state!r} is no state of consent: {nearest(str(state), STATES)}")
    return ConsentGiven(channel, comparisons(place, compared))
