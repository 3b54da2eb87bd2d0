"""What is stored and told when verdicts differ from what is stored."""

from connector.domain import Facts, SegmentConfig, StoredEvent, StoreInfo, Verdict
from connector.segments.evaluate import RuleSet
from connector.segments.membership import MembershipChange, Row, changes

NOW = 1_795_000_000_000


def test_someone_new_enters_and_someone_out_for_good_leaves_no_row() -> None:
    verdicts = {"vip": Verdict(True, "spent 1,200"), "buyers": Verdict(False, "never bought")}
    assert changes({}, verdicts, NOW) == [MembershipChange("vip", "entered", Row(True, NOW, "spent 1,200", None))]


def test_being_out_with_an_instant_to_look_again_is_stored_but_is_no_news() -> None:
    found = changes({}, {"vip": Verdict(False, "not yet", NOW + 5)}, NOW)
    assert found == [MembershipChange("vip", "moved", Row(False, NOW, "not yet", NOW + 5))]


def test_leaving_for_good_deletes_the_row_and_leaving_for_now_keeps_it() -> None:
    before = {"a": Row(True, 1, "was in", NOW), "b": Row(True, 1, "was in", NOW)}
    verdicts = {"a": Verdict(False, "out"), "b": Verdict(False, "out", NOW + 9)}
    assert changes(before, verdicts, NOW) == [
        MembershipChange("a", "left", None),
        MembershipChange("b", "left", Row(False, NOW, "out", NOW + 9)),
    ]


def test_a_new_instant_keeps_since_and_an_equal_row_is_left_alone() -> None:
    before = {"a": Row(True, 1, "bought once", NOW + 1), "b": Row(True, 1, "in", None), "c": Row(False, 1, "soon", 7)}
    verdicts = {"a": Verdict(True, "bought twice", NOW + 2), "b": Verdict(True, "in"), "c": Verdict(False, "never")}
    assert changes(before, verdicts, NOW) == [
        MembershipChange("a", "moved", Row(True, 1, "bought twice", NOW + 2)),
        MembershipChange("c", "moved", None),
    ]


def test_rows_of_segments_without_a_rule_are_left_to_refill() -> None:
    assert changes({"gone": Row(True, 1, "was in", None)}, {}, NOW) == []


def test_needs_reach_as_far_as_the_longest_window_of_a_name() -> None:
    rules = {
        "a": {"event": "Order Completed", "within": "7d"},
        "b": {"event": "Order Completed", "within": "30d"},
        "c": {"event": "Product Viewed", "within": "7d"},
        "d": {"all": [{"event": "Product Viewed", "where": {"product_id": "1"}}]},
    }
    ruleset = RuleSet({id: SegmentConfig(id, id, when) for id, when in rules.items()}, StoreInfo())
    assert ruleset.needs == {"Order Completed": 30 * 86_400_000, "Product Viewed": None}
    assert ruleset.reads == {"Product Viewed"}


def test_an_answer_finds_its_words_when_asked() -> None:
    ruleset = RuleSet({"a": SegmentConfig("a", "A", {"event": "Quiz Finished", "within": "7d"})}, StoreInfo())
    facts = Facts({}, {}, {"Quiz Finished": [StoredEvent(NOW, 20775, {})]})
    assert ruleset.evaluate(facts, NOW)["a"].because == 'did "Quiz Finished" once in the last 7 days, newest 2026-11-18'
