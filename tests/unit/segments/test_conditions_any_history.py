"""For any rule and any history: the check, its SQL form and the instant to look again agree with each other."""

from typing import Any

from histories import LONGEST, NOW, Person, atoms, people, rules, store
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from connector.clock import MINUTE, Millis
from connector.domain import SegmentConfig, StoreInfo, Verdict
from connector.segments import refill
from connector.segments.condition import Condition
from connector.segments.evaluate import RuleSet
from connector.segments.membership import changes
from connector.segments.query import DIALECTS
from connector.segments.sql import statement
from connector.segments.store import due, load_facts, load_memberships, save_memberships

ANY = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=120)
HORIZON = 45 + 2 * LONGEST  # minutes after which nothing can change any more


def compiled(**rules: dict[str, Any]) -> RuleSet:
    return RuleSet({id: SegmentConfig(id, id, when) for id, when in rules.items()}, StoreInfo())


def flips_at(condition: Condition, person: Person, now: Millis) -> Millis | None:
    """The first instant after now at which the answer is another one, found by trying every minute."""
    facts = person.facts()
    matched = condition.check(facts, now).matched
    later = range(now + MINUTE, now + HORIZON * MINUTE, MINUTE)
    return next((at for at in later if condition.check(facts, at).matched is not matched), None)


def assert_sound(recheck_at: Millis | None, flips: Millis | None, now: Millis) -> None:
    assert recheck_at is None or recheck_at > now
    if flips is not None:
        assert recheck_at is not None
        assert recheck_at <= flips


@ANY
@given(atoms, people())
def test_an_atomic_answer_stays_until_recheck_at_and_flips_there(rule: dict[str, Any], person: Person) -> None:
    condition = compiled(one=rule).conditions["one"]
    verdict = condition.check(person.facts(), NOW)
    assert verdict.recheck_at == flips_at(condition, person, NOW)
    if verdict.recheck_at is not None:
        assert condition.check(person.facts(), verdict.recheck_at - 1).matched is verdict.matched


@ANY
@given(rules(), people())
def test_a_combined_answer_stays_until_recheck_at(rule: dict[str, Any], person: Person) -> None:
    condition = compiled(one=rule).conditions["one"]
    verdict = condition.check(person.facts(), NOW)
    assert_sound(verdict.recheck_at, flips_at(condition, person, NOW), NOW)


@ANY
@given(rule=rules(), persons=st.lists(people(), min_size=1, max_size=4))
def test_the_sql_form_says_what_the_check_says(memory: Connection, rule: dict[str, Any], persons: list[Person]) -> None:
    ruleset = compiled(one=rule)
    condition = ruleset.conditions["one"]
    store(memory, persons)
    written = statement(condition, NOW, DIALECTS[memory.dialect.name])
    note(written.text)
    bound = written.params | {"lo": 0, "hi": len(persons)}
    said = {row.profile_id: row for row in memory.execute(text(written.text), bound)}
    loaded = load_facts(memory, range(1, len(persons) + 1), ruleset, NOW)
    for id, person in enumerate(persons, start=1):
        verdict = condition.check(person.facts(), NOW)
        stored: Verdict = condition.check(loaded[id], NOW)
        assert stored == verdict, "facts loaded from the database lack what the rule needs"
        row = said.get(id)
        assert (row is not None and row.matched == 1) is verdict.matched
        assert_sound(None if row is None else row.recheck_at, flips_at(condition, person, NOW), NOW)


@ANY
@given(
    first=rules(),
    second=rules(st.one_of(atoms, st.just({"segment": "first"}))),
    third=rules(st.sampled_from([{"segment": "first"}, {"segment": "second"}])),
    persons=st.lists(people(), min_size=1, max_size=3),
)
def test_filled_by_sql_and_then_moved_by_the_clock_everyone_is_where_the_rules_say(
    memory: Connection,
    first: dict[str, Any],
    second: dict[str, Any],
    third: dict[str, Any],
    persons: list[Person],
) -> None:
    ruleset = compiled(third=third, first=first, second=second)
    store(memory, persons)
    for segment in ruleset.conditions:
        refill.start(memory, segment, len(persons), NOW)
        while not refill.step(memory, ruleset, segment, NOW, 2).done:
            pass
    for now in range(NOW, NOW + HORIZON * MINUTE, MINUTE):
        for ids in iter(lambda now=now: due(memory, now, 10), []):  # type: ignore[misc]
            facts, before = load_facts(memory, ids, ruleset, now), load_memberships(memory, ids)
            moves = [(id, move) for id in ids for move in changes(before[id], ruleset.evaluate(facts[id], now), now)]
            save_memberships(memory, moves)
        rows = load_memberships(memory, range(1, len(persons) + 1))
        stored = {(id, segment) for id, of in rows.items() for segment, row in of.items() if row.matched}
        decided = {
            (id, segment)
            for id, person in enumerate(persons, start=1)
            for segment, verdict in ruleset.evaluate(person.facts(), now).items()
            if verdict.matched
        }
        assert stored == decided
