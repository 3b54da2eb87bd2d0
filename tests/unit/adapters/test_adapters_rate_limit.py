import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.destination import SystemClock
from adapters.errors import Transient
from adapters.rate_limit import PATIENCE, SHARE, Limiter, Window, shared_limiter


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def fullest(instants: Sequence[float], seconds: float) -> int:
    """The most instants in any half-open window of that length, to the nanosecond: sums of floats round."""
    ordered = sorted(instants)
    first = most = 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - seconds + 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most


windows_of_a_vendor = st.lists(
    st.builds(Window, st.integers(1, 40), st.sampled_from([0.5, 1.0, 10.0, 60.0])), min_size=1, max_size=3
)
calls_of_a_day = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 0.5), st.floats(0, 1)), min_size=1, max_size=150)


@given(windows=windows_of_a_vendor, calls=calls_of_a_day)
@settings(max_examples=150, deadline=None)
def test_no_sliding_window_ever_holds_more_than_its_limit(
    windows: list[Window], calls: list[tuple[float, float, float]]
) -> None:
    """Each call: a pause before it, how long it takes, and at which part of it the vendor counts it."""
    clock = Clock()
    limiter = Limiter(clock, 4, {"family": windows})
    counted: list[float] = []
    for pause, duration, part in calls:
        clock.at += pause
        try:
            with limiter.slot("family"):
                counted.append(clock.at + duration * part)
                clock.at += duration
        except Transient as error:
            assert error.retry_after > 0
            clock.at += error.retry_after
    for window in windows:
        assert fullest(counted, window.seconds) <= max(1, int(window.calls * SHARE))


@given(windows=windows_of_a_vendor)
def test_a_rested_account_has_its_whole_share_at_once(windows: list[Window]) -> None:
    clock = Clock()
    limiter = Limiter(clock, 4, {"family": windows})
    share = min(max(1, int(window.calls * SHARE)) for window in windows)
    for _ in range(2):
        begun = clock.at
        for _ in range(share):
            with limiter.slot("family"):
                pass
        assert clock.at == begun
        clock.at += max(window.seconds for window in windows)


def test_a_short_wait_is_slept_and_a_long_one_goes_to_the_caller() -> None:
    clock = Clock()
    limiter = Limiter(clock, 4, {"burst": [Window(2, 1.0)], "steady": [Window(2, 60.0)]})
    for _ in range(3):
        with limiter.slot("burst"):
            pass
    assert clock.at == 1_002.0  # one call per second: the share of two is one
    with limiter.slot("steady"):
        pass
    with pytest.raises(Transient) as caught, limiter.slot("steady"):
        pass
    assert (caught.value.retry_after, caught.value.reason, clock.at) == (60.0, "rate_limited", 1_002.0)


def test_a_call_that_lingers_at_the_vendor_takes_the_place_of_another() -> None:
    clock = Clock()
    limiter = Limiter(clock, 3, {})
    limiter.linger(90.0)
    limiter.linger(100.0)
    with limiter.slot("one"):  # the third place
        pass
    limiter.linger(110.0)
    with pytest.raises(Transient) as caught, limiter.slot("another"):
        pass
    assert caught.value.retry_after == 90.0
    clock.at += 90.0
    with limiter.slot("another"):
        pass
    clock.at += 20.0
    with limiter.slot("one"), limiter.slot("two"), limiter.slot("three"):
        pass


def test_waiting_for_the_wait_the_limiter_named_is_enough() -> None:
    clock = Clock()
    limiter = Limiter(clock, 4, {"family": [Window(5, 30.0)]})
    for _ in range(20):
        try:
            with limiter.slot("family"):
                pass
        except Transient as error:
            clock.sleep(error.retry_after)
            with limiter.slot("family"):
                pass


def test_families_do_not_share_their_windows_and_a_block_is_the_familys() -> None:
    clock = Clock()
    limiter = Limiter(clock, 4, {"a": [Window(2, 60.0)]})
    with limiter.slot("a"):
        pass
    limiter.block("b", 1.5)
    begun = clock.at
    with limiter.slot("c"):
        pass
    assert clock.at == begun
    with limiter.slot("b"):
        assert clock.at == begun + 1.5
    limiter.block("b", 30.0)
    limiter.block("b", 3.0)
    with pytest.raises(Transient) as caught, limiter.slot("b"):
        pass
    assert caught.value.retry_after == 30.0


def test_a_failing_call_counts_and_gives_its_place_back() -> None:
    clock = Clock()
    limiter = Limiter(clock, 1, {"family": [Window(3, 1.0)]})
    for _ in range(2):
        with pytest.raises(ValueError, match="lost"), limiter.slot("family"):
            raise ValueError("lost")
    with limiter.slot("family"):
        assert clock.at == 1_001.0


def test_calls_under_way_count_though_nobody_knows_when_they_end() -> None:
    clock = Clock()
    limiter = Limiter(clock, 4, {"family": [Window(3, 60.0)]})
    with (
        limiter.slot("family"),
        limiter.slot("family"),
        pytest.raises(Transient),
        limiter.slot("family"),
    ):
        pass
    assert clock.at <= 1_000.0 + PATIENCE


def test_threads_together_keep_to_the_window_and_the_gate() -> None:
    window = Window(20, 0.1)
    limiter = Limiter(SystemClock(), 5, {"family": [window]})
    counted: list[float] = []
    inside = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(10):
            with limiter.slot("family"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                    counted.append(time.monotonic())
                time.sleep(0.002)  # what a call takes
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 80
    assert fullest(counted, window.seconds) <= 19
    assert most <= 5


def test_an_account_has_one_limiter_in_the_process_and_another_account_its_own() -> None:
    one = shared_limiter("https://vendor\nkey", SystemClock(), 4, {})
    assert shared_limiter("https://vendor\nkey", SystemClock(), 4, {}) is one
    assert shared_limiter("https://vendor\nother", SystemClock(), 4, {}) is not one
    clock: Any = Clock()
    assert shared_limiter("https://vendor\nkey", clock, 4, {}) is not one


# --- another process had the account before ---------------------------------------------------------------------------


@given(
    windows=windows_of_a_vendor,
    before=st.lists(st.floats(0, 0.3), max_size=120),
    pause=st.floats(0, 20),
    after=st.lists(st.floats(0, 3), min_size=1, max_size=80),
)
@settings(max_examples=100, deadline=None)
def test_no_window_holds_more_across_a_takeover(
    windows: list[Window], before: list[float], pause: float, after: list[float]
) -> None:
    """One process spends what it may and is killed; the next knows only until when it lived."""
    clock = Clock()
    counted: list[float] = []

    def spend(limiter: Limiter, pauses: list[float]) -> None:
        for wait in pauses:
            clock.at += wait
            try:
                with limiter.slot("family"):
                    counted.append(clock.at)
            except Transient as refused:
                clock.at += refused.retry_after

    spend(Limiter(clock, 4, {"family": windows}), before)
    died = clock.at
    clock.at += pause
    successor = Limiter(clock, 4, {"family": windows})
    successor.exhaust(died)
    spend(successor, after)
    for calls, seconds in windows:
        assert fullest(counted, seconds) <= max(1, int(calls * SHARE))


def test_a_window_of_an_hour_is_not_waited_for() -> None:
    """A pause of an hour at each takeover would cost more than the refusal that may come instead."""
    clock = Clock()
    limiter = Limiter(clock, 1, {"family": [Window(100, 3600), Window(10, 1)]})
    limiter.exhaust(clock.at)
    with limiter.slot("family"):
        assert clock.at == 1_001.0
    limiter.exhaust(clock.at - 50)
    with limiter.slot("family"):
        assert clock.at == 1_001.0, "what was spent so long ago counts no more"
