"""Facts, memberships, what is due, members and refills in the database."""

from histories import NOW, Person, store
from sqlalchemy import Connection, text

from connector.clock import MINUTE
from connector.domain import SegmentConfig, StoreInfo
from connector.segments import refill
from connector.segments.evaluate import RuleSet
from connector.segments.membership import MembershipChange, Row
from connector.segments.store import (
    Member,
    counts,
    due,
    load_facts,
    load_memberships,
    members,
    next_due,
    save_memberships,
)

BOUGHT = "Order Completed"


def rules(**whens: object) -> RuleSet:
    return RuleSet({id: SegmentConfig(id, id, when) for id, when in whens.items()}, StoreInfo())  # type: ignore[arg-type]


def bought(minutes_ago: int, **properties: object) -> tuple[str, int, dict[str, object]]:
    return (BOUGHT, NOW - minutes_ago * MINUTE, properties)


def test_facts_hold_the_events_in_reach_and_the_properties_that_rules_read(memory: Connection) -> None:
    person = Person(
        {"score": 3},
        {"email": {"state": "subscribed", "at": 5}},
        [("Product Viewed", NOW - 60 * MINUTE, {"a": 1}), bought(40, total=1), bought(10, total=2)],
    )
    store(memory, [person, Person({}, {})])
    memory.execute(text("UPDATE profile SET merged_into = 1 WHERE id = 2"))
    ruleset = rules(a={"event": BOUGHT, "within": "30m", "sum": {"of": "total", ">": 1}}, b={"event": "Product Viewed"})
    facts = load_facts(memory, [1, 2, 99], ruleset, NOW)
    assert list(facts) == [1]
    assert (facts[1].traits, facts[1].consent) == ({"score": 3}, {"email": "subscribed"})
    assert [(event.at, event.properties) for event in facts[1].events[BOUGHT]] == [(NOW - 10 * MINUTE, {"total": 2})]
    assert [event.properties for event in facts[1].events["Product Viewed"]] == [{}]


def test_memberships_are_saved_found_due_and_deleted(memory: Connection) -> None:
    store(memory, [Person({}, {}), Person({}, {}), Person({}, {})])
    rows = [
        (1, MembershipChange("vip", "entered", Row(True, 10, "why", 500))),
        (2, MembershipChange("vip", "moved", Row(False, 10, "soon", 400))),
        (1, MembershipChange("new", "entered", Row(True, 10, "why", 450))),
        (3, MembershipChange("new", "entered", Row(True, 10, "why", None))),
    ]
    save_memberships(memory, rows)
    assert load_memberships(memory, [1, 9]) == {1: {"vip": rows[0][1].row, "new": rows[2][1].row}, 9: {}}
    assert next_due(memory) == 400
    assert (due(memory, 399, 10), due(memory, 400, 10), due(memory, 500, 10)) == ([], [2], [2, 1])
    assert due(memory, 500, 1) == [2]
    assert counts(memory) == {"vip": 1, "new": 2}
    assert members(memory, "new", limit=1) == [Member(1, 10, "why", 450)]
    assert members(memory, "new", after=1) == [Member(3, 10, "why", None)]
    save_memberships(memory, [(1, MembershipChange("vip", "left", None))])
    assert load_memberships(memory, [1]) == {1: {"new": rows[2][1].row}}


def test_the_clock_finds_what_is_due_by_its_index(memory: Connection) -> None:
    query = "SELECT profile_id FROM membership WHERE recheck_at <= 5 ORDER BY recheck_at LIMIT 9"
    if memory.dialect.name == "sqlite":
        assert "COVERING INDEX membership_recheck" in memory.execute(text(f"EXPLAIN QUERY PLAN {query}")).one().detail
    else:
        memory.execute(text("SET LOCAL enable_seqscan = off"))  # of an empty table it would be the cheapest
        plan = list(memory.execute(text(f"EXPLAIN {query}")).scalars())
        assert "Index Scan using membership_recheck" in plan[1]
        assert not any("Sort" in line for line in plan)


def test_a_refill_of_a_changed_rule_tells_who_flipped_and_keeps_since(memory: Connection) -> None:
    store(
        memory, [Person({}, {}, [bought(5)]), Person({}, {}, [bought(15)]), Person({}, {}), Person({}, {}, [bought(1)])]
    )
    first, second = rules(one={"event": BOUGHT, "within": "20m"}), rules(one={"event": BOUGHT, "within": "10m"})
    refill.start(memory, "one", 4, NOW)
    assert refill.step(memory, first, "one", NOW, 3) == refill.Progress(3, 4, False, [1, 2])
    assert refill.step(memory, first, "one", NOW, 3) == refill.Progress(4, 4, True, [4])
    refill.start(memory, "one", 4, NOW + 1)
    assert refill.step(memory, second, "one", NOW + 1, 9).flipped == [2]
    assert load_memberships(memory, [1, 2]) == {
        1: {"one": Row(True, NOW, refill.BECAUSE, NOW + 5 * MINUTE)},
        2: {},
    }
    assert memory.execute(text("SELECT finished_at FROM refill WHERE segment = 'one'")).scalar_one() == NOW + 1


def test_a_removed_rule_loses_its_rows_and_its_progress(memory: Connection) -> None:
    store(memory, [Person({}, {}, [bought(5)]), Person({}, {}, [bought(5)])])
    before = rules(one={"event": BOUGHT, "within": "20m"}, two={"event": BOUGHT})
    for segment in before.conditions:
        refill.start(memory, segment, 2, NOW)
        refill.step(memory, before, segment, NOW, 9)
    refill.start(memory, "one", 2, NOW)
    after = rules(two={"event": BOUGHT})
    assert refill.step(memory, after, "one", NOW, 1) == refill.Progress(1, 2, False, [1])
    assert refill.step(memory, after, "one", NOW, 1) == refill.Progress(2, 2, True, [2])
    assert counts(memory) == {"two": 2}
    assert memory.execute(text("SELECT segment FROM refill")).scalars().all() == ["two"]


def test_merged_profiles_are_in_no_segment(memory: Connection) -> None:
    store(memory, [Person({"score": 1}, {}, [bought(5)]), Person({"score": 1}, {}, [bought(5)])])
    memory.execute(text("UPDATE profile SET merged_into = 1 WHERE id = 2"))
    ruleset = rules(
        a={"event": BOUGHT},
        b={"not": {"event": "Product Viewed"}},
        c={"segment": "a"},
        d={"trait": "score", "=": 1},
        e={"all": [{"trait": "score", "=": 1}, {"event": BOUGHT}]},
    )
    for segment in ruleset.conditions:
        refill.start(memory, segment, 2, NOW)
        assert refill.step(memory, ruleset, segment, NOW, 9).flipped == [1], segment
