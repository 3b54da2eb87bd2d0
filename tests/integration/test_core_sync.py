"""Contacts when people merge, addresses move and vendors answer oddly."""

import itertools
import json
from typing import Any

import pytest

from adapters.destination import Change, Outcome
from adapters.errors import Transient
from connector.clock import DAY, HOUR, MINUTE
from connector.sync import store
from tests.conftest import NOON, iso, order
from tests.integration.test_sync import ADA, Synced, every_kind, synced

__all__ = ["synced"]  # a fixture

BOB = "bob@example.com"


def _merge(kept: int, gone: int) -> dict[str, Any]:
    gid = "gid://shopify/Customer/"
    ids = {
        "admin_graphql_api_customer_kept_id": f"{gid}{kept}",
        "admin_graphql_api_customer_deleted_id": f"{gid}{gone}",
    }
    return {**ids, "status": "completed", "job_id": "1", "errors": []}


def _contacts(synced: Synced, kind: str) -> dict[str, list[str]]:
    return {address: contact["tags"] for address, contact in synced.vendors[kind].contacts().items()}


@every_kind
def test_the_contact_of_the_kept_customer_is_kept_though_its_profile_is_the_younger(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(
        order(1001, customer=501, email="old@example.com", total="600.00"), order(1002, customer=502, total="700.00")
    )
    synced.push()
    synced.shop.deliver("customers/merge", _merge(502, 501))
    synced.shop.work()
    synced.push()
    assert synced.rows("SELECT id, email FROM profile WHERE merged_into IS NULL") == [(1, ADA)]
    assert _contacts(synced, kind) == {ADA: ["recent-buyers", "vip"], "old@example.com": []}
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1") == [(0,)]
    synced.shop.at(NOON + 8 * DAY)
    synced.push()
    assert _contacts(synced, kind) == {ADA: ["lapsed-vip", "vip"], "old@example.com": []}


@every_kind
def test_a_contact_that_is_not_told_yet_is_taken_over_from_the_merged_one(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order(1002, customer=502, email=BOB))
    synced.push()
    synced.deliver(order(1001, customer=501))
    synced.shop.deliver("customers/merge", _merge(501, 502))
    synced.shop.work()
    synced.push()
    assert synced.rows("SELECT email FROM profile WHERE merged_into IS NULL") == [(ADA,)]
    assert _contacts(synced, kind) == {ADA: ["recent-buyers"]}


@every_kind
def test_an_address_taken_over_by_another_customer_shows_that_one_alone(synced: Synced, kind: str) -> None:
    """501 changed address and 502 took the old one; the second word comes first."""
    synced.configure(kind)
    synced.deliver(order(1001, customer=501, total="1200.00"))
    synced.push()
    assert _contacts(synced, kind) == {ADA: ["recent-buyers", "vip"]}
    synced.shop.time = NOON + HOUR
    for id, email, at in ((502, ADA, NOON + HOUR), (501, BOB, NOON + MINUTE)):
        customer = {"id": id, "email": email, "updated_at": iso(at), "created_at": iso(NOON)}
        synced.shop.deliver("customers/update", customer)
        synced.shop.work()
        synced.push()
    assert _contacts(synced, kind) == {ADA: [], BOB: ["recent-buyers", "vip"]}
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1") == [(0,)]


def test_outcomes_that_cannot_be_written_are_owed_and_nothing_is_sent_twice(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not make a flow start once a second."""
    synced.configure("klaviyo", events=True)
    synced.deliver(order())
    [(pusher, _, _)] = synced.shop.worker._pushers.values()

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    sent = []
    for name in ("record_pushed", "settle_cues"):
        before = len(synced.klaviyo.requests)
        with monkeypatch.context() as broken:
            broken.setattr(store, name, full)
            for _ in range(3):
                with pytest.raises(OSError, match="no space"):
                    pusher.step(synced.shop.time)
        sent.append(len(synced.klaviyo.requests) - before)
    assert sent[0] <= 2
    assert sent[1] == 1
    synced.push()
    assert len(synced.klaviyo.events()) == 1
    assert synced.rows("SELECT state FROM cue") == [("sent",)]
    assert synced.rows("SELECT pending, pushed = desired FROM sync_state") == [(0, 1)]


def test_an_item_without_an_outcome_is_tried_again(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    adapter = pusher._connect(pusher.config)
    monkeypatch.setattr(adapter, "apply", lambda changes: [])
    pusher._adapter = adapter
    pusher.step(synced.shop.time)
    [row] = synced.rows("SELECT pending, attempts, json_extract(pushed, '$.unsure.tags') FROM sync_state")
    assert row == (1, 1, '["recent-buyers"]'), "tried again, and what was tried is known to be unsure"


def test_a_contact_that_is_gone_is_told_in_full_when_it_may_come_back(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.configure("mailchimp", create_contacts="consented")
    said = {"state": "subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": iso(NOON)}
    consent = {"customer_id": 501, "email_address": ADA, "email_marketing_consent": said}
    synced.shop.deliver("customers_email_marketing_consent/update", consent)
    synced.deliver(order(total="1200.00"))
    synced.push()
    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    given: list[Change] = []

    def gone(changes: list[Change]) -> list[Outcome]:
        given.extend(changes)
        return [Outcome(change.key, "skipped", "not_on_list") for change in changes]

    assert pusher._adapter is not None
    monkeypatch.setattr(pusher._adapter, "apply", gone)
    for number in (2, 3):
        synced.deliver(order(1000 + number))
        synced.push()
    assert given[1].tags_added == ("recent-buyers", "vip"), "nothing is there, so nothing was told before"
    assert json.loads(synced.rows("SELECT desired FROM sync_state")[0][0])["fields"]["orders_count"] == 3
    assert synced.rows("SELECT pushed, pending FROM sync_state") == [(None, 0)]


def test_a_vendor_that_is_out_is_asked_ever_more_seldom_and_found_again_within_a_minute(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    adapter = pusher._adapter = pusher._connect(pusher.config)
    real, asked = adapter.apply, []

    def out(changes: Any) -> list[Outcome]:
        asked.append(synced.shop.time)
        raise Transient("out")

    monkeypatch.setattr(adapter, "apply", out)
    for _ in range(30 * MINUTE // 500):
        pusher.step(synced.shop.time)
        synced.shop.time += 500
    waits = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(asked) < 30 * 60 / 30 + 6
    assert max(waits) <= MINUTE
    monkeypatch.setattr(adapter, "apply", real)
    synced.shop.time += MINUTE
    assert pusher.step(synced.shop.time) == 1


def test_a_dead_cue_of_a_person_who_was_merged_is_tried_again_with_its_letter(synced: Synced) -> None:
    synced.configure("klaviyo", events=True)
    synced.deliver(order(), order(1002, customer=502, email=BOB))
    synced.klaviyo.faults.answer(400, {"errors": []}, match="/api/events", times=2)
    synced.push()
    assert synced.rows("SELECT DISTINCT state FROM cue") == [("dead",)]
    synced.shop.deliver("customers/merge", _merge(501, 502))
    synced.shop.work()
    assert synced.shop.services.replay_dead_letters([1, 2], now=synced.shop.time) == 2
    synced.push()
    assert synced.rows("SELECT DISTINCT state FROM cue") == [("sent",)]
