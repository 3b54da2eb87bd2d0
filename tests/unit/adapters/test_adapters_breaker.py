"""An account that is out: one call in half a minute, whoever asks, until it answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.breaker import FAILURES, PROBE_EVERY, Breaker
from adapters.destination import Settings
from adapters.errors import DeliveryError, Rejected, Transient
from adapters.http import Answer, Http, Vendor, judge


def opened(clock: Any, address: str) -> Http:
    def say(answer: Answer, now: float) -> DeliveryError:
        return judge(answer, now, "")

    vendor = Vendor("Vendor", "https://vendor.example", {}, ("key",), say, 4, {})
    return Http(vendor, Settings({}, base_url=address, allow_insecure=True), clock)


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=300))
def test_failures_in_a_row_open_it_and_then_calls_are_far_apart(tries: list[tuple[float, bool]]) -> None:
    """Each try: seconds since the one before, and whether the vendor would answer."""
    clock = _Clock()
    breaker = Breaker(clock)
    row, last = 0, 0.0
    for pause, answers in tries:
        clock.at += pause
        try:
            breaker.enter()
        except Transient as error:
            assert (row >= FAILURES, error.reason) == (True, "out")
            assert 0 < error.retry_after <= PROBE_EVERY * 1.1
            continue
        assert row < FAILURES or clock.at - last >= PROBE_EVERY - 1e-6
        last = clock.at
        row = 0 if answers else row + 1
        (breaker.answered if answers else breaker.failed)()


def test_only_one_caller_looks_whether_it_is_back() -> None:
    clock = _Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.enter()
        breaker.failed()
    clock.at += PROBE_EVERY * 1.1
    breaker.enter()
    for _ in range(3):
        with pytest.raises(Transient):
            breaker.enter()
    breaker.answered()
    breaker.enter()


def test_a_vendor_that_is_out_is_asked_once_in_half_a_minute(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (503, {}, b"")
    http = opened(clock, loopback.url)
    start = clock.at
    while clock.at < start + 3_600:
        with pytest.raises(Transient) as caught:
            http.call("PUT", "/a", body={})
        clock.at += 1
    assert len(loopback.seen) <= FAILURES + 3_600 / PROBE_EVERY
    assert len(loopback.seen) >= 3_600 / (PROBE_EVERY * 1.1 + 2)
    loopback.answer = lambda seen: (200, {}, b"{}")
    clock.at += caught.value.retry_after
    for _ in range(10):
        assert http.call("PUT", "/a", body={}).status == 200
    http.close()


@pytest.mark.parametrize("status", [400, 404, 409, 423, 429])
def test_a_refusal_is_an_answer(loopback: Any, clock: Any, status: int) -> None:
    answers = {0: (503, {}, b""), 1: (status, {"Retry-After": "0"}, b"{}")}
    loopback.answer = lambda seen: answers[len(loopback.seen) % 2]
    http = opened(clock, loopback.url)
    for _ in range(4 * FAILURES):
        with pytest.raises((Transient, Rejected)) as caught:
            http.call("PUT", "/a", body={})
        assert caught.value.reason != "out"
        clock.at += 3
    http.close()


def test_one_account_is_out_and_another_is_not(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (503, {}, b"") if "one" in seen.path else (200, {}, b"{}")
    one = opened(clock, loopback.url)
    other_vendor = Vendor("Other", "https://vendor.example", {}, ("another",), lambda a, n: judge(a, n, ""), 4, {})
    other = Http(other_vendor, Settings({}, base_url=loopback.url, allow_insecure=True), clock)
    for _ in range(FAILURES):
        with pytest.raises(Transient):
            one.call("GET", "/one")
    with pytest.raises(Transient, match="does not answer"):
        one.call("GET", "/one")
    assert other.call("GET", "/two").status == 200
    one.close()
    other.close()


def test_a_wait_that_a_503_names_holds_for_everybody(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (503, {"Retry-After": "20"}, b"")
    http = opened(clock, loopback.url)
    for _ in range(3):
        with pytest.raises(Transient) as caught:
            http.call("GET", "/a")
        assert caught.value.retry_after == 20.0
    http.close()
    assert len(loopback.seen) == 1


class _Clock:
    def __init__(self) -> None:
        self.at = 1_000.0

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
