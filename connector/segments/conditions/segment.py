"""`{segment: vip}`: membership of another segment, decided earlier in the same evaluation."""

from collections.abc import Mapping

from connector.clock import Millis
from connector.domain import Facts, Json
from connector.segments.condition import NEVER, Anchors, Condition, Signed, signed
from connector.segments.query import Query
from connector.segments.reading import Place, mapping, nearest


class InSegment(Condition):
    """Being in a segment, for as long as its own answer lasts."""

    def __init__(self, segment: str) -> None:
        self.segment = segment

        def check(facts: Facts, now: Millis) -> Signed:
            verdict = facts.segments.get(segment)
            return -NEVER if verdict is None else signed(verdict)

        self.signed = check

    def because(self, facts: Facts, now: Millis) -> str:
        return f"{'is' if self.signed(facts, now) > 0 else 'is not'} in the segment {self.segment}"

    def sql(self, query: Query) -> str:
        never = query.bind(NEVER)
        # A row whose instant has passed and that the clock has not reached yet: look again at once.
        until = f"{query.dialect.greatest}(coalesce(m.recheck_at, {never}), {query.bind(query.now + 1)})"
        answer = f"CASE WHEN m.matched = 1 THEN {until} ELSE -{until} END"
        if query.spine_segment == self.segment:
            return f"({answer.replace('m.', 'l.')})"
        row = f"SELECT {answer} FROM membership m WHERE m.segment = {query.bind(self.segment)} AND m.profile_id = l.id"
        return f"coalesce(({row}), -{never})"

    def segments(self) -> tuple[str, ...]:
        return (self.segment,)

    def anchors(self, matched: bool) -> Anchors | None:
        return None if matched else Anchors(segments=frozenset({self.segment}))


def read(place: Place, rule: Mapping[str, Json]) -> InSegment:
    """The condition that a rule with the key `segment` means."""
    mapping(place, rule, ("segment",), "a segment condition")
    if rule["segment"] not in place.segments:
        hint = nearest(str(rule["segment"]), place.segments)
        raise place.at("segment").wrong(f"there is no segment {rule['segment']!r}: {hint}")
    return InSegment(rule["segment"])
