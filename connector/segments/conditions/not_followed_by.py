"""`{event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}`.

Matched while there is an event in (now - within, now - after] that no follower with the same value of the property
came after. A follower before it, or one without the property, never cancels; an event without the property cannot be
tied to a follower and never counts. Without `same` any follower cancels.
"""

from bisect import bisect_left
from collections.abc import Hashable, Mapping
from operator import attrgetter

from connector.clock import Millis
from connector.domain import Facts, Json, StoredEvent
from connector.ports import Needs
from connector.segments.comparisons import SCALARS
from connector.segments.condition import NEVER, Anchors, Signed
from connector.segments.conditions.event_window import EventCondition, event_parts
from connector.segments.query import Aggregate, Query, Rows
from connector.segments.reading import Place, duration, mapping, name
from connector.segments.sentences import day, deed, within
from connector.segments.where import Filter

KEYS = ("event", "where", "within", "not_followed_by", "same", "after")
_AT = attrgetter("at")


class NotFollowedBy(EventCondition):
    """An event that was not followed by another in time."""

    def __init__(
        self, event: str, where: Filter, length: Millis | None, follower: str, same: str | None, after: Millis
    ) -> None:
        super().__init__(event, where, length)
        self.follower = follower
        self.same = same
        self.after = after

        def check(facts: Facts, now: Millis) -> Signed:
            spans = [(start, end) for start, end, _ in self.spans(facts, now)]
            return cover(spans, now) if spans else -NEVER

        self.signed = check

    def needs(self) -> tuple[Needs, ...]:
        return (Needs(self.event, self.length), Needs(self.follower, self.length))

    def reads(self) -> frozenset[str]:
        both = {self.event, self.follower} if self.same else set()
        return super().reads() | both

    def spans(self, facts: Facts, now: Millis) -> list[tuple[Millis, Millis, StoredEvent]]:
        """For each event meant, from when until when it stands abandoned, as far as is known now."""
        found = self.found(facts, now)
        if not found:
            return []
        followers: dict[Hashable, list[Millis]] = {}
        for event in facts.events.get(self.follower, ()):
            key = self._key(event)
            if key is not None:
                followers.setdefault(key, []).append(event.at)
        spans = []
        for event in found:
            key = self._key(event)
            if key is None:
                continue
            start = event.at + self.after
            end = NEVER if self.length is None else event.at + self.length
            then = followers.get(key)
            if then is not None:
                first = bisect_left(then, event.at)
                if first < len(then):
                    end = min(end, then[first])
            if start < end:
                spans.append((start, end, event))
        return spans

    def _key(self, event: StoredEvent) -> Hashable:
        """What ties an event to its followers, None for nothing."""
        if self.same is None:
            return True
        value = event.properties.get(self.same)
        return value if type(value) in SCALARS else None

    def because(self, facts: Facts, now: Millis) -> str:
        standing = [event for start, end, event in self.spans(facts, now) if start <= now < end]
        then = deed(self.follower)
        if not standing:
            return f"never {deed(self.event)}{within(self.length)} without having {then} after that"
        return f"{deed(self.event)} on {day(max(standing, key=_AT).day)} and never {then} after that"

    def sql(self, query: Query) -> str:
        dialect, never, now = query.dialect, query.bind(NEVER), query.bind(query.now)
        rows = self.rows(query)
        start = f"e.at + {query.bind(self.after)}"
        tie = ""
        if self.same is not None:
            path = query.path(self.same)
            kind, value = dialect.kind, dialect.value
            # An event without the property is none of ours: tested with the row.
            scalar = f"{kind.format('e.properties', path)} NOT IN ('null', 'array', 'object')"
            rows = Rows(rows.name, " AND ".join(test for test in (rows.test, scalar) if test))
            tie = (
                f" AND {value.format('f.properties', path)} = {value.format('e.properties', path)}"
                f" AND {kind.format('f.properties', path)} NOT IN ('array', 'object')"
            )
        follower = (
            f"FROM event f WHERE f.profile_id = e.profile_id AND f.name = {query.bind(self.follower)} AND f.at >= e.at"
        )
        ends = f"coalesce((SELECT min(f.at) {follower} AND f.at > {now}{tie}), {never})"
        if self.length is not None:
            ends = f"{dialect.least}({ends}, e.at + {query.bind(self.length)})"
        # As a signed answer for each event; any of them suffices, so the person's is the greatest.
        answer = (
            f"CASE WHEN EXISTS (SELECT 1 {follower} AND f.at <= {dialect.greatest}({start}, {now}){tie}) THEN -{never}"
            f" WHEN {start} > {now} THEN -({start}) ELSE {ends} END"
        )
        floor = None if self.length is None else query.now - self.length
        return f"coalesce({query.aggregate(Aggregate('max({})', answer, rows, floor, future=True))}, -{never})"

    def anchors(self, matched: bool) -> Anchors | None:
        return None if matched else Anchors(events=frozenset({self.event}))


def cover(spans: list[tuple[Millis, Millis]], now: Millis) -> Signed:
    """The signed answer of "is any of these spans open now", with the instant at which that turns."""
    end = now
    for start, stop in sorted(spans):
        if start > end:
            break
        end = max(end, stop)
    if end > now:
        return end
    return -min((start for start, stop in spans if start > now), default=NEVER)


def read(place: Place, rule: Mapping[str, Json]) -> NotFollowedBy:
    """The condition that a rule with the key `not_followed_by` means."""
    mapping(place, rule, KEYS, "a condition with not_followed_by")
    event, where, length = event_parts(place, rule)
    follower = rule["not_followed_by"]
    if not isinstance(follower, str) or not follower:
        raise place.at("not_followed_by").wrong("not_followed_by is the name of an event, such as Order Completed")
    if follower == event:
        raise place.at("not_followed_by").wrong("not_followed_by names another event than event does")
    same = (
        name(place.at("same"), rule["same"], "same is the property both events share: it") if "same" in rule else None
    )
    after = duration(place.at("after"), rule["after"]) if "after" in rule else 0
    if length is not None and after >= length:
        raise place.at("after").wrong("after must be shorter than within, or nothing could ever match")
    return NotFollowedBy(event, where, length, follower, same, after)
