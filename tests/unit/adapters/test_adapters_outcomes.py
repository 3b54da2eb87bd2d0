import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.destination import Outcome
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized, setting_up
from adapters.outcomes import bisect, chunked, each, in_turn, look_up, refuse, side_by_side


class Item(NamedTuple):
    key: str


def items(count: int) -> list[Item]:
    return [Item(str(n)) for n in range(count)]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@given(st.integers(1, 200), st.data())
@settings(max_examples=200)
def test_bisect_finds_every_bad_item_in_few_calls_and_does_every_good_one_once(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.sampled_from([str(n) for n in range(count)]), max_size=6))
    calls: list[list[str]] = []
    applied: list[str] = []

    def send(some: Sequence[Item]) -> list[Outcome]:
        calls.append([item.key for item in some])
        if bad & {item.key for item in some}:
            raise Rejected(",".join(sorted(bad & {item.key for item in some})))
        applied.extend(item.key for item in some)
        return [Outcome(item.key, "applied") for item in some]

    outcomes = {outcome.key: outcome for outcome in bisect(items(count), send, refuse)}
    assert sorted(applied) == sorted(item.key for item in items(count) if item.key not in bad)
    assert {key for key, outcome in outcomes.items() if outcome.status == "rejected"} == bad
    assert len(outcomes) == count
    assert all(outcomes[key].message == key for key in bad)  # its own refusal, not a neighbour's
    assert len(calls) <= 1 + len(bad) * (math.ceil(math.log2(count)) + 1)
    assert len({tuple(call) for call in calls}) == len(calls)


def test_an_outage_half_way_through_a_bisection_keeps_what_was_done() -> None:
    def send(some: Sequence[Item]) -> list[Outcome]:
        keys = [item.key for item in some]
        if "7" in keys:
            raise Rejected("bad")
        if "5" in keys:
            raise Transient("down", retry_after=9.0)
        return [Outcome(key, "applied") for key in keys]

    outcomes = {outcome.key: outcome for outcome in bisect(items(8), send, refuse)}
    assert [outcomes[str(n)].status for n in range(8)] == ["applied"] * 4 + ["retry"] * 4
    assert outcomes["6"].retry_after == 9.0


def test_an_outage_before_anything_was_done_is_raised() -> None:
    def send(some: Sequence[Item]) -> list[Outcome]:
        raise Transient("down")

    with pytest.raises(Transient):
        bisect(items(8), send, refuse)


def test_a_missing_place_is_not_bisected() -> None:
    calls = 0

    def send(some: Sequence[Item]) -> list[Outcome]:
        nonlocal calls
        calls += 1
        raise Rejected("no such list", reason="not_found")

    outcomes = bisect(items(100), send, refuse)
    assert (calls, len(outcomes)) == (1, 100)
    assert {(outcome.status, outcome.reason) for outcome in outcomes} == {("rejected", "not_found")}


@given(st.lists(st.text(min_size=1), unique=True, max_size=40), st.integers(1, 10), st.data())
def test_a_look_up_leaves_out_only_what_is_refused(names: list[str], size: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.sampled_from(names))) if names else set()

    def find(some: Sequence[str]) -> dict[str, str]:
        assert 1 <= len(some) <= size
        if bad & {*some}:
            raise Rejected("odd address")
        return {name: name.upper() for name in some}

    assert look_up(names, size, find) == {name: name.upper() for name in names if name not in bad}


def test_each_gives_one_outcome_per_item_in_order(pool: ThreadPoolExecutor) -> None:
    def act(item: Item) -> Outcome:
        if item.key == "1":
            raise Rejected("no", field="email", reason="invalid")
        if item.key == "2":
            raise Transient("later", retry_after=3.0)
        return Outcome(item.key, "applied")

    assert each(pool, items(4), act) == [
        Outcome("0", "applied"),
        Outcome("1", "rejected", "invalid", "no", field="email"),
        Outcome("2", "retry", "unavailable", "later", retry_after=3.0),
        Outcome("3", "applied"),
    ]


@pytest.mark.parametrize(
    "error", [Unauthorized("no"), Misconfigured("no"), Transient("no", reason="rate_limited", retry_after=8.0)]
)
def test_a_refusal_of_the_account_is_raised_and_stops_the_calls(error: DeliveryError, pool: ThreadPoolExecutor) -> None:
    calls = 0
    lock = threading.Lock()

    def act(item: Item) -> Outcome:
        nonlocal calls
        with lock:
            calls += 1
        raise error

    with pytest.raises(type(error)) as caught:
        each(pool, items(100), act)
    assert caught.value is error
    assert calls <= 4


def test_a_refusal_half_way_leaves_the_rest_for_later(pool: ThreadPoolExecutor) -> None:
    def act(item: Item) -> Outcome:
        if item.key != "0":
            raise Transient("limit", reason="rate_limited", retry_after=8.0)
        return Outcome(item.key, "applied")

    outcomes = each(pool, items(20), act)
    assert outcomes[0].status == "applied"
    assert {(outcome.status, outcome.retry_after) for outcome in outcomes[1:]} == {("retry", 8.0)}


def test_in_turn_stops_at_an_error_and_keeps_what_was_done() -> None:
    sent: list[str] = []

    def send(some: Sequence[Item]) -> list[Outcome]:
        if some[0].key == "4":
            raise Transient("down", retry_after=2.0)
        sent.extend(item.key for item in some)
        return [Outcome(item.key, "applied") for item in some]

    outcomes = in_turn((piece, send) for piece in chunked(items(8), 2))
    assert [outcome.status for outcome in outcomes] == ["applied"] * 4 + ["retry"] * 4
    assert sent == ["0", "1", "2", "3"]
    with pytest.raises(Transient):
        in_turn((piece, send) for piece in chunked(items(8)[4:], 2))


def test_what_is_rejected_while_setting_up_is_a_matter_of_settings() -> None:
    with pytest.raises(Misconfigured) as caught, setting_up():
        raise Rejected("no room", reason="no_slot", field="bio")
    assert (caught.value.reason, caught.value.message) == ("no_slot", "no room")


def test_pieces_side_by_side_are_under_way_together(pool: ThreadPoolExecutor) -> None:
    meeting = threading.Barrier(3)

    def send(some: Sequence[Item]) -> list[Outcome]:
        meeting.wait(timeout=10)
        return [Outcome(item.key, "applied") for item in some]

    outcomes = side_by_side(pool, [(piece, send) for piece in chunked(items(6), 2)])
    assert [outcome.key for outcome in outcomes] == [item.key for item in items(6)]


def test_a_piece_that_fails_beside_others_is_told_of_its_items_alone(pool: ThreadPoolExecutor) -> None:
    def send(some: Sequence[Item]) -> list[Outcome]:
        if some[0].key == "2":
            raise Transient("no answer", retry_after=7.0, reason="no_answer")
        return [Outcome(item.key, "applied") for item in some]

    outcomes = side_by_side(pool, [(piece, send) for piece in chunked(items(6), 2)])
    assert [(o.status, o.retry_after) for o in outcomes if o.key in "23"] == [("retry", 7.0)] * 2
    assert {o.status for o in outcomes if o.key not in "23"} == {"applied"}


def test_when_no_piece_got_through_the_longest_wait_is_raised(pool: ThreadPoolExecutor) -> None:
    def send(some: Sequence[Item]) -> list[Outcome]:
        raise Transient("limit", retry_after=float(some[0].key), reason="locked")

    with pytest.raises(Transient) as caught:
        side_by_side(pool, [(piece, send) for piece in chunked(items(6), 2)])
    assert caught.value.retry_after == 4.0
