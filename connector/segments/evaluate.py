"""All rules together: what they need to know, and their verdicts for one person at an instant."""

from collections.abc import Mapping

from connector.clock import Millis
from connector.domain import Facts, SegmentConfig, StoreInfo, Verdict
from connector.segments.condition import NEVER, Check, Condition
from connector.segments.definition import parse


class Answer:
    """A verdict that finds its words only when somebody asks: most are compared and dropped.

    Its own class rather than a kind of Verdict, whose frozen fields would make each of 20 answers five times as dear.
    """

    __slots__ = ("_condition", "_facts", "_now", "matched", "recheck_at")

    def __init__(self, signed: int, condition: Condition, facts: Facts, now: Millis) -> None:
        instant = signed if signed > 0 else -signed
        self.matched = signed > 0
        self.recheck_at = None if instant >= NEVER else instant
        self._condition = condition
        self._facts = facts
        self._now = now

    @property
    def because(self) -> str:
        """The plain fact behind the answer."""
        return self._condition.because(self._facts, self._now)


class RuleSet:
    """Every configured segment, compiled. `needs` maps each event's name to how far back it is read (None: all of
    them); `reads` are the names whose properties matter."""

    def __init__(self, segments: Mapping[str, SegmentConfig], store: StoreInfo) -> None:
        self.segments = segments
        self.conditions = parse(segments, store)
        self.needs: dict[str, Millis | None] = {}
        for condition in self.conditions.values():
            for name, reach in condition.needs():
                known = self.needs.get(name, 0)
                self.needs[name] = None if reach is None or known is None else max(reach, known)
        self.reads = frozenset(name for condition in self.conditions.values() for name in condition.reads())
        referenced = {name for condition in self.conditions.values() for name in condition.segments()}
        self._plan: list[tuple[str, Check, Condition, bool]] = [
            (id, condition.signed, condition, id in referenced) for id, condition in self.conditions.items()
        ]

    def evaluate(self, facts: Facts, now: Millis) -> dict[str, Answer]:
        """The verdict of every segment. Fills `facts.segments` with those that other rules refer to."""
        answers: dict[str, Answer] = {}
        for id, signed, condition, referenced in self._plan:
            answer = Answer(signed(facts, now), condition, facts, now)
            answers[id] = answer
            if referenced:  # a plain copy: the answer itself would make facts and answers hold each other
                facts.segments[id] = Verdict(answer.matched, "", answer.recheck_at)
        return answers
