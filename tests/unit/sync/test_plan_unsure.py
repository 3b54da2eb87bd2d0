"""An answer that was lost: what it tried is told again, wherever the person has got to meanwhile."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from connector.sync.plan import Pending, change, is_noop, unsure


def text(tags: list[str], **fields: object) -> str:
    contact = {
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": None,
        "tags": sorted(tags),
        "fields": fields,
        "create": True,
        "subscribed": None,
    }
    return orjson.dumps(contact, option=orjson.OPT_SORT_KEYS).decode()


def test_back_to_what_was_pushed_is_told_all_the_same() -> None:
    before, tried = text(["vip"], spent=1, orders=1), text(["lapsed"], spent=2, orders=1)
    left = unsure(Pending(1, tried, before, "r1", 0))
    again = Pending(1, before, left, "r1", 1)
    told = change(again)
    assert not is_noop(told, again)
    assert told.tags_added == ("vip",)
    assert told.tags_removed == ("lapsed",)
    assert told.fields == {"spent": 1}, "only what was tried is unsure"


def test_a_contact_that_may_have_been_made_loses_the_tag_it_may_have_got() -> None:
    left = unsure(Pending(1, text(["vip"], spent=2), None, None, 0))
    told = change(Pending(1, text([], spent=None), left, None, 1))
    assert told.tags_removed == ("vip",)
    assert told.fields == {"spent": None}


tags = st.lists(st.sampled_from(["a", "b", "c"]), unique=True)
states = st.builds(lambda t, x, y: text(t, x=x, y=y), tags, st.sampled_from([None, 1, 2]), st.sampled_from([None, "p"]))


@given(st.lists(st.tuples(states, st.booleans(), st.booleans()), min_size=1, max_size=6), states)
def test_whatever_was_lost_the_vendor_ends_as_desired(history: list[tuple[str, bool, bool]], last: str) -> None:
    """Each try is answered, lost after it was applied, or lost before; the last is answered. The vendor applies only
    differences, as Mailchimp's tags do."""
    held_tags: set[str] = set()
    held_fields: dict[str, object] = {}
    pushed: str | None = None

    def apply(pending: Pending) -> None:
        told = change(pending)
        held_tags.difference_update(told.tags_removed)
        held_tags.update(told.tags_added)
        held_fields.update(told.fields)

    for desired, answered, applied in [*history, (last, True, True)]:
        pending = Pending(1, desired, pushed, None, 0)
        if pushed == desired or (is_noop(change(pending), pending)):
            pushed = desired
            continue
        if answered or applied:
            apply(pending)
        pushed = desired if answered else unsure(pending)
    want = orjson.loads(last)
    assert sorted(held_tags) == want["tags"]
    assert {name: value for name, value in held_fields.items() if value is not None} == {
        name: value for name, value in want["fields"].items() if value is not None
    }
