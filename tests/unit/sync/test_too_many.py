"""What is too much to push without asking: a pure decision."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.clock import HOUR
from connector.sync.guard import Counts, Hold, Lately, too_many, words

few, many = st.integers(0, 9), st.integers(10, 100_000)


@pytest.mark.parametrize(
    ("counts", "held"),
    [
        (Counts(9, 9, 0, 0), False),  # a destination of fewer than 10 contacts is never held for changes
        (Counts(10, 3, 0, 0), False),  # exactly 30 %
        (Counts(10, 4, 0, 0), True),
        (Counts(1_000, 300, 0, 0), False),
        (Counts(1_000, 301, 0, 0), True),
        (Counts(0, 0, 9, 0), False),
        (Counts(0, 0, 10, 0), True),  # a first push
        (Counts(0, 0, 0, 10), True),  # to an account where nobody may be made
        (Counts(3, 0, 10, 0), True),  # own news came first
        (Counts(1_000, 0, 300, 0), False),
        (Counts(1_000, 0, 301, 0), True),
        (Counts(10, 0, 9, 0), False),
        (Counts(1_000, 0, 0, 5_000), False),  # they may not be made: only who is there hears of it
        (Counts(0, 0, 0, 0), False),
    ],
)
def test_what_is_held(counts: Counts, held: bool) -> None:
    assert too_many(counts) is held


@given(few, few, few)
def test_fewer_than_ten_contacts_are_never_held(accepted: int, changed: int, new: int) -> None:
    assert not too_many(Counts(accepted, changed, new if accepted + new < 10 else 0, 0))


@given(st.builds(Counts, many, many, st.integers(0, 100_000), st.integers(0, 100_000)), st.integers(1, 1_000))
def test_more_changes_are_never_safer(counts: Counts, more: int) -> None:
    if too_many(counts):
        assert too_many(Counts(counts.accepted, counts.changed + more, counts.new + more, counts.only_there))


@given(many)
def test_thirty_per_cent_exactly_goes_and_one_more_does_not(accepted: int) -> None:
    most = accepted * 30 // 100
    assert not too_many(Counts(accepted, most, 0, 0))
    assert too_many(Counts(accepted, most + 1, 0, 0))


@given(st.integers(10, 1_000), st.lists(st.integers(0, 400), max_size=8))
def test_many_small_changes_are_a_large_one(accepted: int, pieces: list[int]) -> None:
    """However a change is cut, no more than 30 % of it is let go unasked within an hour."""
    lately, gone = Lately().at(0), 0
    for changed in pieces:
        counts = Counts(accepted, min(changed, accepted), 0, 0)
        if not too_many(counts, lately):
            lately, gone = lately.with_more(counts), gone + counts.changed
    assert gone * 100 <= accepted * 30
    assert lately.at(HOUR - 1) == lately
    assert lately.at(HOUR) == Lately(until=2 * HOUR)


def test_what_changes_nothing_is_not_held_for_what_went_before() -> None:
    assert not too_many(Counts(100, 0, 0, 5), Lately(changed=30, new=30))
    assert too_many(Counts(100, 1, 0, 0), Lately(changed=30))


def test_the_words_say_how_many_and_what_to_do() -> None:
    told = words("klaviyo", Hold(10_000, 4_210, 12, 3, since=0))
    assert told.startswith("4,210 contacts change (42 % of 10,000), 12 are new, 3 are brought up to date if they are")
    assert "`storecue destination approve klaviyo`" in told
    assert words("klaviyo", Hold(0, 0, 25, 0, since=0)).startswith("first push: 25 are new; held until")
