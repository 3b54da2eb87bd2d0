"""A vendor that is out: little is asked of it, nothing is lost, and each contact is written once when it is back."""

import json
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from adapters.breaker import FAILURES, PROBE_EVERY
from connector.clock import HOUR, MINUTE, SECOND
from connector.simulator.vendors import FakeVendor
from connector.worker import Worker
from tests.conftest import NOON, iso, order
from tests.integration.test_sync import ADA, Synced, every_kind
from tests.integration.test_sync import synced as synced

PEOPLE = 30
OUTAGE = 72 * HOUR


def _bought(number: int, person: int, at: int, total: str = "10.00") -> dict[str, Any]:
    email = f"person{person}@example.com"
    return order(number, customer=500 + person, email=email, total=total, at=at)


def _written(vendor: FakeVendor, since: int) -> Counter[str]:
    """How often each contact was written, singly or in a batch, by the requests that were applied."""
    found: Counter[str] = Counter()
    for row in vendor.requests[since:]:
        if row.status >= 300 or row.status == 0 or not row.body:
            continue
        body, line = json.loads(row.body), f"{row.method} {row.path}"
        if "/api/profile-import" in line:
            found[body["data"]["attributes"]["email"]] += 1
        elif "/api/profile-bulk-import-jobs" in line:
            found.update(p["attributes"]["email"] for p in body["data"]["attributes"]["profiles"]["data"])
        elif "/contacts/batch/update" in line or "/contacts/batch/create" in line:
            found.update(entry.get("id") or entry["properties"]["email"] for entry in body["inputs"])
        elif "/objects/" in line and "/contacts" in line and row.method in ("PATCH", "POST") and "properties" in body:
            found[row.path.rpartition("/")[2] if row.method == "PATCH" else body["properties"]["email"]] += 1
        elif "/members/" in line and row.method in ("PUT", "PATCH"):
            found[row.path.rpartition("/")[2]] += 1
        elif line == "POST /3.0/batches":
            found.update(o["path"].rpartition("/")[2] for o in body["operations"] if o["method"] in ("PUT", "PATCH"))
    return found


@every_kind
def test_three_days_out_lose_nothing_and_end_in_one_write_each(synced: Synced, kind: str) -> None:
    synced.configure(kind, events=kind == "klaviyo")
    vendor = synced.vendors[kind]
    synced.deliver(*(_bought(2_000 + person, person, NOON) for person in range(PEOPLE)))
    _drain(synced)
    told = len(vendor.events())
    vendor.faults.outage = True
    begun, chance, number = len(vendor.requests), random.Random(7), 10_000
    out_at = synced.shop.time
    while synced.shop.time < out_at + OUTAGE:
        synced.shop.at(synced.shop.time + chance.randrange(1, 90) * MINUTE)
        people = chance.sample(range(PEOPLE), 3)
        synced.deliver(*(_bought(number + n, p, synced.shop.time, "400.00") for n, p in enumerate(people)))
        number += len(people)
        synced.push()
    asked = vendor.requests[begun:]
    assert {row.status for row in asked} == {503}
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    assert synced.rows("SELECT max(attempts) FROM sync_state") == [(0,)]
    [(changed,)] = synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1")
    assert changed > PEOPLE / 2

    vendor.faults.outage = False
    back = len(vendor.requests)
    _drain(synced)
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1 OR pushed != desired") == [(0,)]
    written = _written(vendor, back)
    assert sum(written.values()) == len(written) == changed, "one write each, however many changes there were"
    contacts = vendor.contacts()
    for email, tags, spent in _desired(synced, kind):
        assert contacts[email]["tags"] == tags
        assert any(str(value) in (str(spent), f"{spent}.0") for value in contacts[email]["fields"].values()), email
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    assert not synced.rows("SELECT 1 FROM account WHERE retry_at > 0 OR message != ''")
    if kind == "klaviyo":
        _cues_are_told_once_and_in_order(synced, told)


def _drain(synced: Synced) -> None:
    """Go on until nothing waits."""
    for _ in range(400):
        synced.push()
        if synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1") == [(0,)] and synced.rows(
            "SELECT count(*) FROM cue WHERE state = 'pending'"
        ) == [(0,)]:
            return
        synced.shop.time += 5 * SECOND
    raise AssertionError("does not come to rest")


def _desired(synced: Synced, kind: str) -> list[tuple[str, list[str], float]]:
    rows = synced.rows(f"SELECT desired FROM sync_state WHERE destination = '{kind}'")
    wants = [json.loads(row[0]) for row in rows]
    return [(want["email"], want["tags"], want["fields"]["total_spent"]) for want in wants]


def _cues_are_told_once_and_in_order(synced: Synced, told: int) -> None:
    cues = synced.rows("SELECT key, profile_id, state FROM cue WHERE name != '' ORDER BY id")
    assert {state for _, _, state in cues} == {"sent"}
    events = synced.klaviyo.events()
    assert len(events) > told
    arrived: dict[str, list[tuple[Any, ...]]] = {}
    for event in events:
        arrived.setdefault(event["email"], []).append((event["time"], event["name"], event["properties"]["segment"]))
    assert sum(map(len, arrived.values())) == len(cues), "each once"
    for of_contact in arrived.values():
        assert [at for at, _, _ in of_contact] == sorted(at for at, _, _ in of_contact), "the earlier one first"


@pytest.mark.parametrize(("kind", "hours"), [("klaviyo", 6), ("hubspot", 2), ("mailchimp", 2)])
def test_an_account_that_is_out_is_asked_once_in_half_a_minute(synced: Synced, kind: str, hours: int) -> None:
    """At the pace of a worker that never sleeps, with a process that is new after every third."""
    synced.configure(kind)
    vendor = synced.vendors[kind]
    synced.deliver(*(_bought(2_000 + person, person, NOON) for person in range(PEOPLE)))
    synced.push()
    vendor.faults.outage = True
    synced.deliver(*(_bought(100 + person, person, NOON + 1) for person in range(PEOPLE)))
    worker, begun, restarts = synced.shop.worker, len(vendor.requests), 3
    for third in range(restarts):
        until = NOON + (third + 1) * hours * HOUR // restarts
        while synced.shop.time < until:
            worker.push_once()
            [(again,)] = synced.rows("SELECT retry_at FROM account")
            assert again > synced.shop.time
            synced.shop.time = again
        if third + 1 < restarts:
            worker = Worker(synced.shop.services, lambda: synced.shop.time, push=False)
            worker.refresh()
    asked = vendor.requests[begun:]
    assert len(asked) <= hours * 3_600 / PROBE_EVERY + restarts * FAILURES
    assert len(asked) >= hours * 3_600 / PROBE_EVERY / 1.2, "soon enough to be back"
    gaps = [later.monotonic - earlier.monotonic for earlier, later in pairwise(asked)]
    assert sum(gap < PROBE_EVERY for gap in gaps) <= restarts * FAILURES
    assert all(_size(row.body) <= 1 for row in asked[FAILURES:]), "a single small call looks whether it is back"
    worker.close()


def _size(body: bytes) -> int:
    """Contacts in a request."""
    told = json.loads(body or b"{}")
    profiles = told.get("data", {}).get("attributes", {}).get("profiles", {}) if "data" in told else {}
    return max(len(told.get("inputs", ())), len(told.get("operations", ())), len(profiles.get("data", ())))


def test_after_an_outage_rounds_grow_step_by_step(synced: Synced) -> None:
    synced.configure("hubspot")
    synced.deliver(*(_bought(2_000 + person, person, NOON) for person in range(PEOPLE)))
    synced.push()
    synced.hubspot.faults.outage = True
    synced.deliver(*(_bought(100 + person, person, NOON + 1) for person in range(PEOPLE)))
    synced.push()
    synced.hubspot.faults.outage = False
    synced.shop.time += MINUTE
    rounds = []
    while done := synced.shop.worker.push_once():
        rounds.append(done)
    assert rounds == [1, 4, 16, 9]


def test_one_contact_over_which_the_vendor_stumbles_does_not_keep_the_others_waiting(synced: Synced) -> None:
    """A 500 for every batch with one contact in it looks like an outage, and the others still get through."""
    synced.configure("hubspot")
    synced.deliver(*(_bought(2_000 + person, person, NOON) for person in range(PEOPLE)))
    synced.push()
    fake = synced.hubspot
    answered, bad = fake.answered, fake.contacts()["person7@example.com"]["id"]

    def stumbling(request: Any) -> Any:
        return fake.failure(500) if bad.encode() in request.body or bad in request.path else answered(request)

    fake.answered = stumbling  # type: ignore[method-assign]
    synced.deliver(*(_bought(100 + person, person, NOON + 1) for person in range(PEOPLE)))
    for _ in range(120):
        synced.push()
        synced.shop.time += 15 * SECOND
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1") == [(1,)]
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    for number in range(600):  # business goes on until it is clear who is at fault; waits are drawn at random
        synced.deliver(_bought(3_000 + number, number % 5, synced.shop.time))
        synced.push()
        synced.shop.time += MINUTE
        if synced.rows("SELECT 1 FROM dead_letter"):
            break
    assert synced.rows("SELECT kind, reason FROM dead_letter") == [("push", "too_many_tries")]
    del fake.answered
    synced.deliver(_bought(1_100, 7, synced.shop.time))
    _drain(synced)
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pushed != desired") == [(0,)]


def test_an_answer_lost_as_the_account_goes_out_is_told_again(synced: Synced) -> None:
    """The vendor applied it, nobody knows, and the person has become again as they were before."""
    synced.configure("klaviyo")
    synced.deliver(order(total="900.00"))
    synced.push()
    before = synced.rows("SELECT pushed FROM sync_state")
    synced.klaviyo.faults.lose(match="profile-import", times=3)
    vip = order(1002, total="200.00")
    synced.deliver(vip)
    synced.push()
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers", "vip"]
    synced.deliver(vip | {"cancelled_at": iso(NOON + 5), "updated_at": iso(NOON + 5)}, topic="orders/updated")
    _drain(synced)
    assert synced.klaviyo.contacts()[ADA]["tags"] == json.loads(before[0][0])["tags"] == ["recent-buyers"]
