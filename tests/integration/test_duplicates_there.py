"""Two contacts of one person at a vendor: merged there, where that is wanted, whatever happens in between."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import Transient
from connector.clock import HOUR, MINUTE, SECOND
from connector.worker import Worker
from tests.conftest import NOON, iso, order
from tests.integration.test_merges import BOB, merge, two, unmerge
from tests.integration.test_sync import ADA, Synced

merging = pytest.mark.parametrize("kind", ["hubspot", "klaviyo"])


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def settle(synced: Synced) -> None:
    """Push, and look again at what the vendor has queued."""
    for _ in range(4):
        synced.push()
        synced.shop.at(synced.shop.time + 5 * SECOND)


def shown(synced: Synced, kind: str) -> dict[str, Any]:
    """Tags and filled fields by address."""
    return {
        email: (one["tags"], sorted(str(value) for value in one["fields"].values() if value not in (None, "")))
        for email, one in synced.vendors[kind].contacts().items()
    }


def states(synced: Synced) -> list[tuple[Any, ...]]:
    return synced.rows("SELECT profile_id, duplicate, pending, pushed IS NULL FROM sync_state ORDER BY 1")


@merging
def test_one_contact_is_left_and_shows_what_is_known_of_both(synced: Synced, kind: str) -> None:
    synced.configure(kind, duplicates="merge")
    two(synced.shop)
    settle(synced)
    assert len(shown(synced, kind)) == 2
    merge(synced.shop)
    settle(synced)
    assert shown(synced, kind) == {ADA: (["recent-buyers", "vip"], ["1250", "2"])}
    assert states(synced) == [(1, "", 0, 0), (2, "united", 0, 1)]
    [(remote,)] = synced.rows("SELECT remote_id FROM sync_state WHERE profile_id = 1")
    assert remote == synced.vendors[kind].contacts()[ADA]["id"]
    [(person, status)] = synced.rows("SELECT profile_id, status FROM push WHERE kind = 'merge'")
    assert (person, status) == (1, "applied")
    asked = sum("merge" in request.path for request in synced.vendors[kind].requests)
    synced.shop.at(synced.shop.time + HOUR)
    synced.push()
    assert (asked, sum("merge" in request.path for request in synced.vendors[kind].requests)) == (1, 1)


@merging
def test_nobody_is_merged_there_unasked(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    two(synced.shop)
    settle(synced)
    merge(synced.shop)
    settle(synced)
    assert shown(synced, kind)[BOB][0] == []
    assert not any("merge" in request.path for request in synced.vendors[kind].requests)


def test_where_the_vendor_has_no_merge_the_second_contact_stays(synced: Synced) -> None:
    synced.configure("mailchimp", duplicates="merge")
    two(synced.shop)
    settle(synced)
    merge(synced.shop)
    settle(synced)
    assert shown(synced, "mailchimp")[BOB][0] == []
    assert synced.rows("SELECT status, reason FROM push WHERE kind = 'merge'") == [("skipped", "no_merge")]
    assert [row[1] for row in states(synced)] == ["", ""]


@merging
@pytest.mark.parametrize("before", [True, False])
def test_a_crash_before_or_after_the_call_is_harmless(synced: Synced, kind: str, before: bool) -> None:
    synced.configure(kind, duplicates="merge")
    two(synced.shop)
    settle(synced)
    merge(synced.shop)

    def crash(adapter: Any, one: Any) -> None:
        if not before:
            adapter.unite(one.kept_remote, one.remote_id)
        raise Transient("gone", reason="no_answer")

    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    duplicates = pusher._then.__self__  # type: ignore[union-attr]
    duplicates._unite = lambda adapter, one, now: crash(adapter, one)
    synced.push()
    assert states(synced)[1][1] == "unite", "nothing was written down"
    synced.shop.worker.close()
    synced.shop.worker = Worker(synced.shop.services, lambda: synced.shop.time, push=False)
    synced.shop.at(synced.shop.time + HOUR)
    settle(synced)
    assert shown(synced, kind) == {ADA: (["recent-buyers", "vip"], ["1250", "2"])}
    assert states(synced) == [(1, "", 0, 0), (2, "united", 0, 1)]


@merging
def test_a_contact_that_is_gone_is_merged_enough(synced: Synced, kind: str) -> None:
    synced.configure(kind, duplicates="merge")
    two(synced.shop)
    settle(synced)
    merge(synced.shop)
    synced.vendors[kind].merge(BOB, into=ADA)  # type: ignore[attr-defined]
    settle(synced)
    assert shown(synced, kind) == {ADA: (["recent-buyers", "vip"], ["1250", "2"])}
    assert not any(request.path.endswith("merge") for request in synced.vendors[kind].requests)


@merging
def test_a_refusal_of_mail_is_never_merged_away(synced: Synced, kind: str) -> None:
    synced.configure(kind, duplicates="merge")
    synced.shop.deliver("orders/create", order(total="1200.00"))
    synced.shop.deliver("orders/create", order(1002, customer=502, email=BOB, total="50.00"))
    synced.shop.work()
    settle(synced)
    synced.vendors[kind].unsubscribe(BOB)  # type: ignore[attr-defined]
    merge(synced.shop)
    settle(synced)
    assert shown(synced, kind).keys() == {ADA, BOB}
    assert synced.rows("SELECT profile_id, status, reason FROM push WHERE kind = 'merge'") == [
        (1, "skipped", "refuses_mail")
    ]
    [(said,)] = synced.rows("SELECT consent FROM profile WHERE id = 1")
    assert json.loads(said)["email"]["state"] == "unsubscribed"


@merging
def test_what_the_kept_one_refuses_is_heard(synced: Synced, kind: str) -> None:
    synced.configure(kind, duplicates="merge")
    synced.shop.deliver("orders/create", order(total="1200.00"))
    synced.shop.deliver("orders/create", order(1002, customer=502, email=BOB, total="50.00"))
    synced.shop.work()
    settle(synced)
    synced.vendors[kind].unsubscribe(ADA)  # type: ignore[attr-defined]
    merge(synced.shop)
    settle(synced)
    assert shown(synced, kind).keys() == {ADA}
    [(said,)] = synced.rows("SELECT consent FROM profile WHERE id = 1")
    assert json.loads(said)["email"]["state"] == "unsubscribed"


def test_the_address_that_moved_keeps_its_contact(synced: Synced) -> None:
    """The person is written to at the younger profile's address: its contact is kept, the older one's goes."""
    synced.configure("hubspot", duplicates="merge")
    two(synced.shop)
    settle(synced)
    synced.shop.deliver("customers/update", {"id": 502, "email": BOB, "updated_at": iso(NOON + MINUTE)})
    synced.shop.work()
    settle(synced)
    merge(synced.shop)
    settle(synced)
    [(email,)] = synced.rows("SELECT email FROM profile WHERE id = 1")
    assert list(shown(synced, "hubspot")) == [email]


def test_two_again_have_two_contacts_again(synced: Synced) -> None:
    synced.configure("klaviyo", duplicates="merge")
    two(synced.shop)
    settle(synced)
    before = shown(synced, "klaviyo")
    merge(synced.shop)
    settle(synced)
    unmerge(synced.shop)
    settle(synced)
    assert shown(synced, "klaviyo") == before
    assert states(synced) == [(1, "", 0, 0), (2, "", 0, 0)]


def test_who_may_not_be_created_stays_away(synced: Synced) -> None:
    synced.configure("klaviyo", duplicates="merge")
    two(synced.shop)
    settle(synced)
    merge(synced.shop)
    settle(synced)
    synced.configure("klaviyo", duplicates="merge", create_contacts="never")
    unmerge(synced.shop)
    settle(synced)
    assert shown(synced, "klaviyo").keys() == {ADA}


def test_an_address_that_the_vendor_kept_is_left_to_a_person(synced: Synced) -> None:
    """HubSpot keeps the address with the contact: two people who write to it would undo each other for ever."""
    synced.configure("hubspot", duplicates="merge")
    two(synced.shop)
    settle(synced)
    merge(synced.shop)
    settle(synced)
    unmerge(synced.shop)
    settle(synced)
    assert shown(synced, "hubspot") == {ADA: (["recent-buyers", "vip"], ["1", "1200"])}
    [(letter, reason)] = synced.rows("SELECT id, reason FROM dead_letter")
    assert reason == "address_of_another"
    contact = synced.hubspot._somebody(ADA)
    contact.properties.pop("hs_additional_emails")
    del synced.hubspot._unique["email"][BOB]
    synced.shop.services.replay_dead_letters([letter], now=synced.shop.time)
    settle(synced)
    assert shown(synced, "hubspot")[BOB] == (["recent-buyers"], ["1", "50"])


def test_undone_before_it_was_done(synced: Synced) -> None:
    synced.configure("hubspot", duplicates="merge")
    two(synced.shop)
    settle(synced)
    before = shown(synced, "hubspot")
    merge(synced.shop)
    unmerge(synced.shop)
    settle(synced)
    assert shown(synced, "hubspot") == before
    assert states(synced) == [(1, "", 0, 0), (2, "", 0, 0)]


@merging
def test_a_merge_that_the_vendor_refuses_is_told_and_left(synced: Synced, kind: str) -> None:
    synced.configure(kind, duplicates="merge")
    two(synced.shop)
    settle(synced)
    merge(synced.shop)
    synced.vendors[kind].faults.answer(400, {"errors": [], "message": "too many"}, match="merge")
    settle(synced)
    assert shown(synced, kind)[BOB][0] == []
    assert synced.rows("SELECT status FROM push WHERE kind = 'merge'") == [("rejected",)]
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(1,)]
    assert [row[1] for row in states(synced)] == ["", ""]


def test_three_become_one(synced: Synced) -> None:
    synced.configure("hubspot", duplicates="merge")
    two(synced.shop)
    synced.shop.deliver("orders/create", order(1003, customer=503, email="cat@example.com", total="3.00"))
    synced.shop.work()
    settle(synced)
    merge(synced.shop, kept=502, gone=503)
    merge(synced.shop, kept=501, gone=502)
    settle(synced)
    assert shown(synced, "hubspot") == {ADA: (["recent-buyers", "vip"], ["1253", "3"])}


def test_a_rehearsal_merges_nothing(synced: Synced) -> None:
    synced.configure("hubspot", duplicates="merge")
    two(synced.shop)
    settle(synced)
    synced.configure("hubspot", duplicates="merge", dry_run=True)
    merge(synced.shop)
    settle(synced)
    assert shown(synced, "hubspot").keys() == {ADA, BOB}
