"""Wrong rules are refused at the place where they are wrong, with what would be right."""

from typing import Any

import pytest

from connector.domain import SegmentConfig, StoreInfo
from connector.errors import DefinitionError
from connector.segments.definition import parse

BOUGHT = "Order Completed"


def refused(rule: Any, **others: Any) -> DefinitionError:
    segments = {id: SegmentConfig(id, id, when) for id, when in ({"one": rule} | others).items()}
    with pytest.raises(DefinitionError) as caught:
        parse(segments, StoreInfo())
    return caught.value


@pytest.mark.parametrize(
    ("rule", "pointer", "hint"),
    [
        ({"evnt": BOUGHT}, "/evnt", "did you mean event?"),
        ({}, "", "one of: all, any, not"),
        (["all"], "", "a condition is a mapping"),
        ({"event": BOUGHT, "witin": "7d"}, "/witin", "did you mean within?"),
        ({"event": ""}, "/event", "the name of an event"),
        ({"event": BOUGHT, "within": "1 week"}, "/within", "30m, 48h, 7d or 2w"),
        ({"event": BOUGHT, "within": 7}, "/within", "30m, 48h, 7d or 2w"),
        ({"event": BOUGHT, "count": 3}, "/count", "count is a mapping"),
        ({"event": BOUGHT, "count": {"==": 3}}, "/count/==", "did you mean =?"),
        ({"event": BOUGHT, "count": {"distinct": "day"}}, "/count", "say what to compare with"),
        ({"event": BOUGHT, "count": {">=": "3"}}, "/count/>=", "is not a number"),
        ({"event": BOUGHT, "sum": {">": 3}}, "/sum/of", "the property to compute with"),
        ({"event": BOUGHT, "sum": {"of": "total", ">": 3}, "count": {">": 1}}, "/sum", "use all for several"),
        ({"event": BOUGHT, "where": {"a": {"like": 1}}}, "/where/a/like", "use one of"),
        ({"event": BOUGHT, "where": {"a": {"after": "3d"}}}, "/where/a/after", "use within"),
        ({"event": BOUGHT, "where": {'a"b': 1}}, '/where/a"b', "without double quotes"),
        ({"event": BOUGHT, "where": {"a/b~c": []}}, "/where/a~1b~0c", "a list of values"),
        ({"event": BOUGHT, "last": {"of": "total"}}, "/last", "say what to compare with"),
        ({"event": "Checkout Started", "not_followed_by": BOUGHT, "sam": "x"}, "/sam", "did you mean same?"),
        ({"event": "Checkout Started", "not_followed_by": BOUGHT, "after": "7d", "within": "7d"}, "/after", "shorter"),
        ({"event": BOUGHT, "not_followed_by": BOUGHT}, "/not_followed_by", "another event"),
        ({"trait": "total_spent"}, "", "say what to compare with"),
        ({"trait": "total_spent", ">=": "much"}, "/>=", "for dates use before or after"),
        ({"trait": "total_spent", ">=": True}, "/>=", "is not a number"),
        ({"trait": "total_spent", "=": None}, "/=", "use exists"),
        ({"trait": "total_spent", "=": [1]}, "/=", "use in for a list"),
        ({"trait": "country", "in": "FR"}, "/in", "a list of values"),
        ({"trait": "country", "in": ["FR", {}]}, "/in/1", "is not a text, number"),
        ({"trait": "tags", "contains": ""}, "/contains", "such as vip"),
        ({"trait": "tags", "exists": "yes"}, "/exists", "true or false"),
        ({"trait": "created_at", "after": "last week"}, "/after", "2026-11-20"),
        ({"consent": "e-mail"}, "/consent", "did you mean email?"),
        ({"consent": "email", "=": "subscribd"}, "/=", "did you mean subscribed?"),
        ({"segment": "two"}, "/segment", "there is no segment 'two'"),
        ({"all": []}, "/all", "one or more conditions"),
        ({"any": {"event": BOUGHT}}, "/any", "one or more conditions"),
        ({"all": [{"event": BOUGHT}], "within": "7d"}, "/within", "not known in all"),
        ({"not": {"any": [{"event": BOUGHT}, {"trait": "x"}]}}, "/not/any/1", "say what to compare with"),
    ],
)
def test_a_wrong_rule_names_the_place_and_what_would_be_right(rule: Any, pointer: str, hint: str) -> None:
    error = refused(rule)
    assert error.pointer == f"/segments/one/when{pointer}"
    assert hint in error.message


def test_segments_that_refer_to_each_other_in_a_circle_are_refused() -> None:
    error = refused({"segment": "two"}, two={"not": {"segment": "three"}}, three={"any": [{"segment": "one"}]})
    assert "one" in error.message
    assert "circle" in error.message
    assert error.pointer.startswith("/segments/")


def test_a_misspelt_segment_gets_its_likely_name() -> None:
    assert (
        "did you mean recent-buyers?"
        in refused({"segment": "recent-buyer"}, **{"recent-buyers": {"event": BOUGHT}}).message
    )


def test_rules_nested_without_end_are_refused_rather_than_run_out_of_stack() -> None:
    rule: dict[str, Any] = {"event": BOUGHT}
    for _ in range(5_000):
        rule = {"not": rule}
    assert "nested" in refused(rule).message


def test_segments_come_out_after_those_they_refer_to() -> None:
    rules: dict[str, Any] = {"a": {"segment": "b"}, "b": {"not": {"segment": "c"}}, "c": {"event": BOUGHT}}
    parsed = parse({id: SegmentConfig(id, id, when) for id, when in rules.items()}, StoreInfo())
    assert list(parsed) == ["c", "b", "a"]
