"""A contact whose fields change again and again is not told each time; what starts flows is told at once."""

import json

import pytest

from connector.clock import MINUTE, SECOND
from connector.sync import store
from tests.conftest import order
from tests.integration.test_sync import ADA, Synced, every_kind, synced

__all__ = ["synced"]

WRITES = {
    "at_once": ({}, 2),
    "wait_for_more": ({"wait_for_more": True}, 1),
    "never waits": ({"at_most_every": "0s"}, 50),
}


@every_kind
@pytest.mark.parametrize("option", WRITES)
def test_fifty_changes_in_a_minute_one_by_one(synced: Synced, kind: str, option: str) -> None:
    told, expected = WRITES[option]
    synced.configure(kind, **{"at_most_every": "1m", **told})
    synced.deliver(order())
    synced.push()
    synced.shop.time += 2 * MINUTE  # the contact is at rest
    before = synced.writes(kind)
    for number in range(2, 52):
        synced.deliver(order(1000 + number, total="10.00"))
        synced.push()
        synced.shop.time += SECOND
    synced.shop.time += 2 * MINUTE
    synced.push()
    assert synced.writes(kind) - before == expected
    assert _shown(synced)["orders_count"] == 51


def test_a_tag_waits_for_nothing_and_takes_the_fields_along(synced: Synced) -> None:
    synced.configure("klaviyo", at_most_every="1m")
    synced.deliver(order())
    synced.push()
    synced.shop.time += SECOND
    synced.deliver(order(1002, total="10.00"))
    assert synced.push() == 0
    synced.deliver(order(1003, total="1900.00"))  # a VIP by that
    assert synced.push() >= 1
    assert "vip" in synced.klaviyo.contacts()[ADA]["tags"]
    assert _shown(synced)["orders_count"] == 3


def test_a_cue_waits_for_no_field(synced: Synced) -> None:
    synced.configure("klaviyo", at_most_every="1m", events=True)
    synced.deliver(order())
    synced.push()
    synced.shop.time += SECOND
    synced.deliver(order(1002, total="10.00"))
    assert synced.push() == 0, "a field waits"
    [(person,)] = synced.rows("SELECT profile_id FROM sync_state")
    now = synced.shop.time
    cue = {"key": "k", "destination": "klaviyo", "profile_id": person, "name": "Message", "at": now, "due_at": now}
    with synced.shop.services.database.tx() as tx:
        store.add_cues(tx, [{**cue, "properties": "{}"}])
    synced.push()
    assert _shown(synced)["orders_count"] == 2
    assert synced.rows("SELECT state FROM cue WHERE key = 'k'") == [("sent",)]


def test_a_field_that_changes_while_a_cue_waits_is_told_before_it(synced: Synced) -> None:
    synced.configure("klaviyo", at_most_every="1m", events=True)
    synced.deliver(order())
    synced.push()
    with synced.shop.services.database.tx() as tx:
        tx.exec_driver_sql("UPDATE cue SET state = 'pending'")
    synced.shop.time += SECOND
    synced.deliver(order(1002, total="10.00"))
    synced.push()
    assert _shown(synced)["orders_count"] == 2
    assert synced.rows("SELECT DISTINCT state FROM cue") == [("sent",)]


def _shown(synced: Synced) -> dict[str, object]:
    """The fields that the vendor accepted last."""
    fields: dict[str, object] = json.loads(synced.rows("SELECT pushed FROM sync_state")[0][0])["fields"]
    return fields


@pytest.mark.parametrize("kind", ["klaviyo", "mailchimp"])
def test_news_of_one_person_goes_past_a_fill_that_the_vendor_is_working_on(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    fake = synced.vendors[kind]
    orders = [order(2_000 + n, customer=600 + n, email=f"person{n}@example.com") for n in range(60)]
    synced.deliver(*orders)
    with synced.shop.services.database.tx() as tx:
        tx.exec_driver_sql("UPDATE sync_state SET bulk = 1")  # as those of a fill that was let go
    pusher = synced.shop.worker._pushers[kind][0]
    shown: list[set[str]] = []

    def clock() -> int:
        if not shown:  # while the job is under way, an unknown person and one of the sixty have news
            synced.deliver(order(), order(3_000, customer=601, email="person1@example.com", total="2000.00"))
        shown.append(set(fake.contacts()))
        return synced.shop.time

    pusher.clock = clock
    synced.klaviyo.job_seconds = synced.mailchimp.batch_seconds = 50
    fake.faults.latency = 0.15  # longer than the sender's looks are apart
    synced.shop.worker.push_once()
    assert any(ADA in seen and len(seen) < 60 for seen in shown), "she was told before the fill had ended"
    fake.faults.latency = 0.0
    synced.push()
    assert len(fake.contacts()) == 61
    assert "vip" in fake.contacts()["person1@example.com"]["tags"]
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pushed IS NOT desired") == [(0,)]
