"""The real adapters against the fakes' limits, on a clock that only sleeping moves, by several threads: what a vendor
counts stays within every window, and nobody calls before a wait that was asked for is over."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import DESTINATIONS
from adapters.destination import Change, Cue, Destination, Settings
from adapters.errors import Transient
from adapters.http import LONGEST_WAIT
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor

AT = 1_795_000_000_000
KEY = "0123456789abcdef0123456789abcdef-us21"
CREDENTIALS = {
    "klaviyo": {"api_key": "pk_test"},
    "hubspot": {"access_token": "pat-test"},
    "mailchimp": {"api_key": KEY},
}
# What the vendors publish, by the part of the path they count: (calls, seconds). Mailchimp counts calls at a time.
WINDOWS = {
    "klaviyo": {
        "/api/profile-import": [(75, 1.0), (700, 60.0)],
        "/api/profile-bulk-import-jobs": [(10, 1.0), (150, 60.0)],
        "/api/events": [(350, 1.0), (3_500, 60.0)],
    },
    "hubspot": {"": [(100, 10.0)]},
    "mailchimp": {},
}


class Clock:
    """Moved by sleeping alone, by any thread."""

    def __init__(self) -> None:
        self.at = 1_795_000_000.0
        self._lock = threading.Lock()

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.at += seconds


class Account:
    """One simulated account and two adapters that share its key, as a sender and a command would."""

    def __init__(self, kind: str) -> None:
        self.clock = Clock()
        made: dict[str, type[FakeVendor]] = {"klaviyo": FakeKlaviyo, "hubspot": FakeHubSpot, "mailchimp": FakeMailchimp}
        name, value = next(iter(CREDENTIALS[kind].items()))
        self.vendor = made[kind](clock=self.clock, **{name: value}).start()  # type: ignore[arg-type]
        options: dict[str, Any] = {"base_url": self.vendor.url, "allow_insecure": True, "list_id": "a1b2c3d4e5"}
        self.adapters: list[Destination] = [
            DESTINATIONS[kind](Settings(CREDENTIALS[kind], **options), self.clock) for _ in range(2)
        ]
        self.adapters[0].provision([], ["vip"])

    def close(self) -> None:
        for adapter in self.adapters:
            adapter.close()
        self.vendor.close()


@pytest.fixture(params=sorted(CREDENTIALS))
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    account = Account(str(request.param))
    yield account
    account.close()


def _changes(count: int, first: int = 0) -> list[Change]:
    return [
        Change(f"k{n}", f"p{n}@example.com", f"shop:{n}", tags=("vip",), tags_added=("vip",), subscribed=True)
        for n in range(first, first + count)
    ]


def _push(adapter: Destination, changes: Sequence[Change], clock: Clock) -> None:
    """Until all are applied, waiting as told."""
    left = list(changes)
    for _ in range(200):
        try:
            told = {outcome.key: outcome for outcome in adapter.apply(left)}
        except Transient as error:
            clock.sleep(error.retry_after)
            continue
        left = [change for change in left if told[change.key].status == "retry"]
        if not left:
            return
        clock.sleep(max(outcome.retry_after for outcome in told.values()))
    raise AssertionError("does not get through")


def _fullest(instants: Sequence[float], seconds: float) -> int:
    ordered, first, most = sorted(instants), 0, 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - seconds + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


piece = st.tuples(st.sampled_from([1, 7, 20, 45, 130]), st.sampled_from([0.0, 0.3, 5.0]))
pieces = st.lists(piece, min_size=1, max_size=6)


@pytest.mark.parametrize("kind", sorted(CREDENTIALS))
@given(work=pieces)
@settings(max_examples=8, deadline=None)
def test_no_window_of_a_vendor_is_ever_exceeded(kind: str, work: list[tuple[int, float]]) -> None:
    account = Account(kind)
    try:

        def run(adapter: Destination, offset: int) -> None:
            for turn, (count, pause) in enumerate(work):
                _push(adapter, _changes(count, offset + turn * 200), account.clock)
                cues = [Cue(f"{offset}-{turn}-{n}", "p1@example.com", "shop:1", "Entered", AT + n) for n in range(3)]
                try:
                    adapter.send(cues)
                except Transient as error:
                    account.clock.sleep(error.retry_after)
                account.clock.sleep(pause)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(run, adapter, n * 5_000) for n, adapter in enumerate(account.adapters)]:
                done.result()
        journal = account.vendor.requests
        assert 429 not in account.vendor.counts()
        for part, windows in WINDOWS[kind].items():
            instants = [row.monotonic for row in journal if row.path.startswith(part)]
            for calls, seconds in windows:
                assert _fullest(instants, seconds) <= calls, part
        for offset in (0, 5_000):
            for turn, (count, _) in enumerate(work):
                asked = {change.email for change in _changes(count, offset + turn * 200)}
                assert asked <= account.vendor.contacts().keys()
    finally:
        account.close()


FORMS = {
    "seconds": ("7", 7.0),
    "a fraction": ("2.5", 2.5),
    "an HTTP date": (lambda now: formatdate(now + 40, usegmt=True), 39.0),
    "a date that is over": (lambda now: formatdate(now - 400, usegmt=True), 0.0),
    "missing": (None, 0.5),
    "nonsense": ("in a while", 0.5),
    "negative": ("-30", 0.0),
    "ten years": (str(10 * 365 * 86_400), LONGEST_WAIT),
    "ten years as a date": ("Fri, 21 Nov 2036 10:00:00 GMT", LONGEST_WAIT),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_wait_that_a_vendor_asks_for_is_waited(account: Account, form: str) -> None:
    """Whatever its form. Ten years are taken for a mistake and cut to an hour; what is over, and what says nothing,
    is a wait of our own."""
    value, wait = FORMS[form]
    vendor, adapter = account.vendor, account.adapters[0]
    adapter.apply(_changes(1))
    account.clock.sleep(120)
    before = len(vendor.requests)
    told = value(account.clock.time()) if callable(value) else value
    vendor.faults.answer(429, {}, {} if told is None else {"Retry-After": told})
    _push(adapter, _changes(1, 50), account.clock)
    refused, *later = vendor.requests[before:]
    assert refused.status == 429
    same = [row for row in later if row.monotonic >= refused.monotonic]
    assert same[0].monotonic - refused.monotonic >= wait
    assert same[0].monotonic - refused.monotonic > 0.05, "with jitter, never at once"
    assert same[0].monotonic - refused.monotonic <= max(wait, 40.0) + 60.0, "and not much longer"
    assert "p50@example.com" in vendor.contacts()


def test_a_wait_holds_for_every_thread_and_every_user_of_the_key(account: Account) -> None:
    """Calls under way when the vendor asks for a wait arrive still: no more than are made at a time."""
    vendor = account.vendor
    for adapter in account.adapters:
        adapter.apply(_changes(1))
    account.clock.sleep(120)
    before = len(vendor.requests)
    vendor.faults.answer(429, {}, {"Retry-After": "900"})

    def run(adapter: Destination, first: int) -> None:
        for turn in range(6):
            try:
                adapter.apply(_changes(15, first + 15 * turn))
            except Transient as error:
                assert error.reason == "rate_limited"

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, adapter, 100 + 200 * n) for n, adapter in enumerate(account.adapters)]:
            done.result()
    rows = vendor.requests[before:]
    refused = next(n for n, row in enumerate(rows) if row.status == 429)
    family = rows[refused].path.split("/")[1:3]
    over = rows[refused].monotonic + 900
    after = [r for r in rows[refused + 1 :] if r.path.split("/")[1:3] == family and r.monotonic < over]
    assert len(after) <= 2 * account.adapters[0].limits.concurrency
