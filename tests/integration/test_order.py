"""Fifty customers who change forty times each, while answers fail in every way: the states of each arrive in order."""

import random
from collections.abc import Sequence
from typing import Any

from adapters.console import Console
from adapters.destination import Change, Cue, Limits, Outcome, Settings, SystemClock
from adapters.errors import Transient
from connector.clock import MINUTE, SECOND
from connector.simulator.vendors import Faults
from tests.chaos.figures import Figure
from tests.conftest import NOON, order
from tests.integration.test_outage import _drain
from tests.integration.test_sync import Synced, every_kind
from tests.integration.test_sync import synced as synced

CUSTOMERS, CHANGES, CHANGES_AT_A_VENDOR = 50, 40, 16


class Recording(Console):
    """An account that does what a script says: `answers` decides for each call, and each item where it leaves that
    open. `arrived` are the states in the order in which they took effect, by contact."""

    limits = Limits(batch=20, concurrency=1)

    def __init__(self, chance: random.Random) -> None:
        super().__init__(Settings({}), SystemClock())
        self.chance = chance
        self.calm = False
        self.arrived: dict[str, list[int]] = {}
        self.told: dict[str, list[str]] = {}
        self.seen: dict[str, int] = {}

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        whole = "200" if self.calm else self.chance.choice(("200", "200", "mixed", "mixed", "5xx", "lost", "partial"))
        self.seen[whole] = self.seen.get(whole, 0) + 1
        if whole == "5xx":
            raise Transient("503")
        if whole == "lost":
            for change in changes:
                self._take(change)
            raise Transient("no answer", reason="no_answer")
        middle = self.chance.randrange(len(changes)) if whole == "partial" else len(changes)
        done = [self._item(change, mixed=whole == "mixed") for change in changes[:middle]]
        return done + [Outcome(change.key, "retry", "unavailable", "503") for change in changes[middle:]]

    def _item(self, change: Change, *, mixed: bool) -> Outcome:
        fate = self.chance.choice(("200", "200", "200", "retry", "lost", "rejected")) if mixed else "200"
        self.seen[fate] = self.seen.get(fate, 0) + 1
        if fate in ("200", "lost"):
            self._take(change)
        outcomes = {
            "200": Outcome(change.key, "applied", remote_id=f"r{change.key}"),
            "retry": Outcome(change.key, "retry", "locked", "423", retry_after=2.0),
            "lost": Outcome(change.key, "retry", "no_answer", "timed out"),
            "rejected": Outcome(change.key, "rejected", "rejected", "400"),
        }
        return outcomes[fate]

    def _take(self, change: Change) -> None:
        if "orders_count" in change.fields:
            self.arrived.setdefault(change.email, []).append(int(str(change.fields["orders_count"])))

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        if not self.calm and self.chance.random() < 0.3:
            raise Transient("503")
        for cue in cues:
            self.told.setdefault(cue.email, []).append(cue.key)
        return [Outcome(cue.key, "applied") for cue in cues]


def _changes(chance: random.Random, changes: int) -> list[int]:
    """Which customer changes next, as often as each has changes."""
    turns = [customer for customer in range(CUSTOMERS) for _ in range(changes)]
    chance.shuffle(turns)
    return turns


def _order(number: int, customer: int) -> dict[str, Any]:
    return order(5_000 + number, customer=500 + customer, email=f"c{customer}@example.com", total="30.00", at=NOON)


def test_states_of_a_customer_arrive_in_order_whatever_is_answered(synced: Synced, figure: Figure) -> None:
    chance = random.Random(1)
    vendor = Recording(chance)
    synced.shop.services.connect = lambda config, turn=None: vendor  # type: ignore[method-assign, assignment]
    synced.configure("klaviyo", events=True)
    number = 0
    turns = _changes(chance, CHANGES)
    while turns:
        some, turns = turns[:25], turns[25:]
        for customer in some:
            number += 1
            assert synced.shop.deliver("orders/create", _order(number, customer)).status == 200
        synced.shop.work()
        synced.shop.worker.push_once()
        synced.shop.time += chance.randrange(1, 20) * SECOND
    vendor.calm = True
    for customer in range(CUSTOMERS):  # who was rejected is tried again with the next change
        number += 1
        synced.deliver(_order(number, customer))
    synced.shop.time += 60 * MINUTE
    _drain(synced)

    assert {"200", "retry", "5xx", "lost", "partial", "rejected"} <= vendor.seen.keys()
    assert len(vendor.arrived) == CUSTOMERS
    for email, states in vendor.arrived.items():
        assert states == sorted(states), f"{email}: an older state after a newer one"
        assert states[-1] == CHANGES + 1
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pushed != desired OR pending = 1") == [(0,)]
    for email, keys in vendor.told.items():
        decided = synced.rows("SELECT key FROM cue JOIN profile ON profile.id = profile_id ORDER BY cue.id")
        assert len(keys) == len(set(keys)), email
        assert keys == [key for (key,) in decided if key in keys], "in the order in which they were decided"
    states = sum(map(len, vendor.arrived.values()))
    figure("R11", f"{CUSTOMERS} customers, {CHANGES} changes each: {states:,} states arrived, 0 out of order")


@every_kind
def test_states_arrive_in_order_at_every_vendor(synced: Synced, kind: str) -> None:
    """The same through the real adapters: a tenth fails, a tenth is applied and its answer lost, some are refused."""
    chance = random.Random(11)
    synced.configure(kind)
    vendor, number, turns = synced.vendors[kind], 0, _changes(chance, CHANGES_AT_A_VENDOR)
    latest: dict[str, float] = {}
    while turns:
        some, turns = turns[:40], turns[40:]
        for customer in some:
            number += 1
            assert synced.shop.deliver("orders/create", _order(number, customer)).status == 200
        synced.shop.work()
        vendor.faults = Faults(seed=number, error_rate=0.1, lost_rate=0.1)
        if chance.random() < 0.3:
            vendor.faults.answer(429, {}, {"Retry-After": "3"})
        if chance.random() < 0.3:
            vendor.faults.answer(400, {}, match="profile-import|contacts/batch/update|/members/")
        synced.shop.worker.push_once()
        _never_backwards(vendor.contacts(), latest)
        synced.shop.time += chance.randrange(5, 60) * SECOND
    vendor.faults = Faults()
    for customer in range(CUSTOMERS):
        number += 1
        synced.deliver(_order(number, customer))
    synced.shop.time += 60 * MINUTE
    _drain(synced)
    _never_backwards(vendor.contacts(), latest)
    assert latest == {f"c{customer}@example.com": CHANGES_AT_A_VENDOR + 1 for customer in range(CUSTOMERS)}
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pushed != desired OR pending = 1") == [(0,)]


def _never_backwards(contacts: dict[str, dict[str, Any]], latest: dict[str, float]) -> None:
    for email, contact in contacts.items():
        [count] = [v for name, v in contact["fields"].items() if "order" in name.lower()]
        shown = float(count or 0)
        assert shown >= latest.get(email, 0), f"{email} went from {latest[email]} to {shown}"
        latest[email] = shown
