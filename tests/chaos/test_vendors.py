"""An account that is out, that asks for waits, that refuses single items: R13, R14 and R16. The clock is virtual."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

import pytest

from adapters.destination import Outcome
from adapters.errors import Rejected, Transient
from adapters.outcomes import bisect, refuse
from connector.clock import SECOND
from tests.chaos.figures import Figure, profile
from tests.conftest import NOON
from tests.integration.test_limits import WINDOWS, Account, _changes, _fullest
from tests.integration.test_outage import _bought
from tests.integration.test_sync import Synced
from tests.unit.adapters.test_adapters_outcomes import items

RATE = 20  # events a second


@pytest.fixture
def synced(tmp_path: Path) -> Synced:
    return Synced(tmp_path)


def test_r13_an_outage_at_20_events_a_second_is_made_good(synced: Synced, figure: Figure) -> None:
    """Half an hour, every event of another person: 36,000 contacts wait. In the short profile three minutes."""
    minutes = profile(1, 30)
    synced.configure("hubspot")
    vendor = synced.hubspot
    synced.deliver(_bought(1, 0, NOON))
    synced.push()
    vendor.faults.outage = True
    begun, number = len(vendor.requests), 1
    for _ in range(minutes * 60 // 5):
        synced.shop.time += 5 * SECOND
        some = range(number, number + RATE * 5)
        number += RATE * 5
        synced.deliver(*(_bought(10 + n, n, synced.shop.time) for n in some))
        synced.push()
    probes = len(vendor.requests) - begun
    [(waiting,)] = synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1")
    assert waiting == minutes * 60 * RATE
    assert probes <= 5 + minutes * 60 / 30

    vendor.faults.outage = False
    back = len(vendor.requests)
    recovered_at = synced.clock.time()
    while synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1") != [(0,)]:
        if not synced.push():
            synced.shop.time += SECOND
        assert synced.clock.time() < recovered_at + 600, "within ten minutes"
    took = synced.clock.time() - recovered_at
    calls = [row.monotonic for row in vendor.requests[back:]]
    assert len(vendor.contacts()) == number
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    [(allowed, seconds)] = WINDOWS["hubspot"][""]
    fullest = _fullest(calls, seconds)
    assert fullest <= allowed
    figure(
        "R13",
        f"{minutes} min at {RATE}/s: {waiting:,} waited, {probes} probes, drained in {took:.0f} s with {len(calls)} "
        f"calls, {fullest} of {allowed} in the fullest {seconds:.0f} s, 0 lost",
    )
    synced.close()


FORMS = ("2", "7.5", "date", None, "-30", "1000000000", "soon")


@pytest.mark.parametrize("kind", sorted(WINDOWS))
def test_r14_a_storm_of_429_is_obeyed(kind: str, figure: Figure) -> None:
    """Most calls are refused, with waits in every form; then all of it gets through."""
    account, chance = Account(kind), random.Random(14)
    try:
        vendor, clock, adapter = account.vendor, account.clock, account.adapters[0]
        adapter.apply(_changes(1))
        clock.sleep(120)
        begun, started = len(vendor.requests), clock.monotonic()
        left, count = [], 0  # a wait of ten years is taken for one of an hour, so that storms are counted, not timed
        waits: list[tuple[float, float]] = []
        while vendor.counts().get(429, 0) < profile(40, 400):
            if chance.random() < 0.7:
                form = chance.choice(FORMS)
                told = formatdate(clock.time() + 4, usegmt=True) if form == "date" else form
                vendor.faults.answer(429, {}, {} if told is None else {"Retry-After": told})
            left += _changes(5, 1_000 + 5 * count)
            count += 1
            before = clock.monotonic()
            try:
                told_of = {outcome.key: outcome for outcome in adapter.apply(left)}
                left = [change for change in left if told_of[change.key].status == "retry"]
                clock.sleep(max([outcome.retry_after for outcome in told_of.values()], default=0.0) if left else 1.0)
            except Transient as error:
                waits.append((before, error.retry_after))
                clock.sleep(error.retry_after)
        for _ in range(300):
            if not left:
                break
            try:
                told_of = {outcome.key: outcome for outcome in adapter.apply(left)}
                left = [change for change in left if told_of[change.key].status == "retry"]
            except Transient as error:
                clock.sleep(error.retry_after)
        assert not left
        assert {f"p{1_000 + n}@example.com" for n in range(5 * count)} <= vendor.contacts().keys()
        rows = vendor.requests[begun:]
        refused = sum(row.status == 429 for row in rows)
        assert refused > 5
        fullest = {}
        for part, windows in WINDOWS[kind].items():
            instants = [row.monotonic for row in rows if row.path.startswith(part)]
            for calls, seconds in windows:
                fullest[f"{part or 'all'} {seconds:.0f} s"] = f"{_fullest(instants, seconds)}/{calls}"
                assert _fullest(instants, seconds) <= calls
        after = Counter(round(wait - int(wait), 2) for _, wait in waits)
        assert len(waits) < 4 or len(after) > 1, "with jitter"
        told_windows = ", ".join(f"{name}: {value}" for name, value in fullest.items()) or "no windows"
        hours = (clock.monotonic() - started) / 3_600
        figure(
            "R14",
            f"{kind}: {refused} of {len(rows)} calls refused in {hours:.1f} h, {5 * count} contacts all there; "
            f"fullest windows {told_windows}",
        )
    finally:
        account.close()


def test_r16_bad_items_are_found_in_few_calls(figure: Figure) -> None:
    worst = 0.0
    chance = random.Random(16)
    for size in (10, 100, 1_000):
        for bad_count in (1, 2, 5, 10):
            bad = {str(n) for n in chance.sample(range(size), bad_count)}
            calls: list[int] = []

            def send(some: Sequence[object], bad: set[str] = bad, calls: list[int] = calls) -> list[Outcome]:
                calls.append(len(some))
                if found := bad & {item.key for item in some}:  # type: ignore[attr-defined]
                    raise Rejected(",".join(found))
                return [Outcome(item.key, "applied") for item in some]  # type: ignore[attr-defined]

            outcomes = bisect(items(size), send, refuse)
            assert {outcome.key for outcome in outcomes if outcome.status == "rejected"} == bad
            assert len(outcomes) == size
            allowed = math.ceil(math.log2(size)) + 1
            assert len(calls) - 1 <= bad_count * allowed
            worst = max(worst, (len(calls) - 1) / (bad_count * allowed))
    figure("R16", f"at most {worst:.0%} of ceil(log2 n) + 1 calls for a bad item; every other item applied once")
