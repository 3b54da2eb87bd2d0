"""Answers that get lost on the way back: the vendor has done it, nobody knows, and it is told again harmlessly."""

import json
import random
from collections import Counter
from typing import Any

import pytest

from connector.clock import MINUTE, SECOND
from connector.simulator.vendors import FakeVendor
from tests.chaos.figures import Figure, profile
from tests.chaos.proxy import Faults, Proxy
from tests.conftest import order
from tests.integration.test_order import _never_backwards
from tests.integration.test_outage import _desired, _drain
from tests.integration.test_sync import Synced, every_kind
from tests.integration.test_sync import synced as synced

PEOPLE = 30
WAYS: dict[str, dict[str, Any]] = {
    "reset": {"reset": True},
    "cut": {"limit": 30},
    "closed": {"limit": 0, "slow_close": 0.01},
    "swallowed": {"timeout": 0.02},
}


@every_kind
def test_r15_lost_answers_are_told_again_under_the_same_key(
    synced: Synced, kind: str, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    vendor, chance, number = synced.vendors[kind], random.Random(15), 1_000
    lost, latest = Counter[str](), dict[str, float]()
    with Proxy(int(vendor.url.rpartition(":")[2])) as way:
        monkeypatch.setattr(type(vendor), "url", way.url)
        synced.configure(kind, events=kind == "klaviyo")
        for turn in range(profile(16, 400)):
            name = list(WAYS)[turn % len(WAYS)]
            way.down = Faults(share=0.5, seed=turn, **WAYS[name])
            for person in chance.sample(range(PEOPLE), 10):
                number += 1
                email = f"person{person}@example.com"
                synced.shop.deliver(
                    "orders/create",
                    order(number, customer=500 + person, email=email, total="400.00", at=synced.shop.time),
                )
            synced.shop.work()
            for _ in range(3):
                synced.push()
                synced.shop.time += chance.randrange(5, 90) * SECOND
                _never_backwards(_shown(vendor), latest)
            lost[name] += way.down.struck
        way.calm()
        synced.shop.time += 60 * MINUTE
        _drain(synced)
        _never_backwards(_shown(vendor), latest)
    assert all(lost[name] for name in WAYS), "each kind of loss has happened"
    contacts = vendor.contacts()
    for email, tags, spent in _desired(synced, kind):
        assert contacts[email]["tags"] == tags
        assert any(str(value) in (str(spent), f"{spent}.0") for value in contacts[email]["fields"].values()), email
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    told = ""
    if kind == "klaviyo":
        told = ", " + _cues_have_kept_their_keys(synced, vendor)
    figure("R15", f"{kind}: {sum(lost.values())} answers lost, all contacts as they should be, 0 out of order{told}")


def _shown(vendor: FakeVendor) -> dict[str, dict[str, Any]]:
    return {
        email: one for email, one in vendor.contacts().items() if any("order" in name.lower() for name in one["fields"])
    }


def _cues_have_kept_their_keys(synced: Synced, vendor: FakeVendor) -> str:
    decided = [key for (key,) in synced.rows("SELECT key FROM cue WHERE state = 'sent'")]
    assert synced.rows("SELECT count(*) FROM cue WHERE state != 'sent'") == [(0,)]
    asked = Counter(
        json.loads(row.body)["data"]["attributes"]["unique_id"]
        for row in vendor.requests
        if row.method == "POST" and row.path.startswith("/api/events")
    )
    known = Counter(event["unique_id"] for event in vendor.events())
    assert len(known) == len(decided) == len(asked) and set(known.values()) == {1}
    assert asked.total() > len(asked), "some were told again"
    return f"{len(known)} cues, {asked.total() - len(asked)} of them told again under the same key, 0 doubled"
