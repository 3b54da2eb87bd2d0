"""Desired states brought to the fake vendors by the real adapters, on a clock that only the test moves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import DESTINATIONS
from adapters.destination import Destination
from adapters.destination import Settings as AccountSettings
from connector.clock import DAY, HOUR, MINUTE, SECOND
from connector.domain import DestinationConfig
from connector.jobs import Jobs
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor
from connector.storage.turns import Turn
from connector.sync.store import set_account
from connector.sync.under_way import UnderWay
from connector.worker import Worker
from tests.conftest import CONFIG, NOON, Shop, iso, order

KEY = "0123456789abcdef0123456789abcdef-us21"
WRITES = {
    "klaviyo": re.compile(r"POST /api/profile-(import|bulk-import-jobs)"),
    "hubspot": re.compile(r"(POST|PATCH) /crm/objects/[^/]+/contacts(/(?!search)|$)"),
    "mailchimp": re.compile(r"(PUT|PATCH|POST) /3.0/lists/[^/]+/members(/[^/]+)?$"),
}
"""The requests that write a contact."""


class ShopClock:
    """The adapters' and the vendors' clock: the shop's frozen one plus what they slept."""

    def __init__(self) -> None:
        self.shop: Shop | None = None
        self.slept = 0.0

    def time(self) -> float:
        return (self.shop.time if self.shop else NOON) / 1000 + self.slept

    def monotonic(self) -> float:
        return self.time()

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


class Synced:
    """A Shop whose destinations are fakes; `push` is one round of every sender."""

    def __init__(self, folder: Path) -> None:
        self.clock = ShopClock()
        options: dict[str, Any] = {"clock": self.clock, "keep_bodies": True, "rate_limits": False}
        self.klaviyo = FakeKlaviyo(api_key="pk_test", **options)
        self.hubspot = FakeHubSpot(access_token="pat-test", plan="enterprise", **options)
        self.mailchimp = FakeMailchimp(api_key=KEY, **options)
        self.vendors: dict[str, FakeVendor] = {v.vendor: v for v in (self.klaviyo, self.hubspot, self.mailchimp)}
        for vendor in self.vendors.values():
            vendor.start()
        self.shop = self.clock.shop = Shop(folder)
        self.shop.services.connect = self._connect  # type: ignore[method-assign]  # on the fake clock

    def _connect(self, config: DestinationConfig, turn: Turn | None = None) -> Destination:
        credentials = {name: self.shop.services.vault.resolve(secret) for name, secret in config.credentials.items()}
        settings = AccountSettings(
            credentials,
            config.base_url,
            True,
            config.list_id,
            connect_timeout=2,
            read_timeout=5,
            options=config.options,
            jobs=UnderWay(self.shop.services.database, config.name),
        )
        return DESTINATIONS[config.kind](settings, self.clock)

    def configure(self, *kinds: str, rules: str = CONFIG, keys: dict[str, str] | None = None, **settings: Any) -> None:
        """Configure destinations of these kinds, each named as its kind, with further settings for all of them."""
        credentials = {
            "klaviyo": {"api_key": "pk_test"},
            "hubspot": {"access_token": "pat-test"},
            "mailchimp": {"api_key": KEY},
        }
        destinations = {}
        for kind in kinds:
            made = {"kind": kind, "credentials": keys or credentials[kind], "base_url": self.vendors[kind].url}
            made |= {"allow_insecure": True, "create_contacts": "always", "at_most_every": "0s", **settings}
            destinations[kind] = made | ({"list_id": "a1b2c3d4e5"} if kind == "mailchimp" else {})
        self.shop.configure(rules + f"destinations: {json.dumps(destinations)}\n")
        self.shop.work()

    def push(self) -> int:
        """Rounds until nothing is due at this instant; how many items were settled."""
        total = 0
        for _ in range(20):
            done = self.shop.worker.push_once()
            total += done
            if not done:
                return total
        raise AssertionError("the senders do not come to rest")

    def deliver(self, *orders: dict[str, Any], topic: str = "orders/create") -> None:
        for one in orders:
            assert self.shop.deliver(topic, one).status == 200
        self.shop.work()

    def writes(self, kind: str) -> int:
        return sum(bool(WRITES[kind].match(f"{r.method} {r.path}")) for r in self.vendors[kind].requests)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.shop.rows(query)

    def close(self) -> None:
        self.shop.close()
        for vendor in self.vendors.values():
            vendor.close()


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


every_kind = pytest.mark.parametrize("kind", sorted(WRITES))
ADA = "ada@example.com"


@every_kind
def test_the_first_push_provisions_tags_and_fills_fields(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order(total="1200.50"))
    assert synced.push() == 1
    contact = synced.vendors[kind].contacts()[ADA]
    assert contact["tags"] == ["recent-buyers", "vip"]
    assert sorted(float(value) for value in contact["fields"].values() if value not in (None, "", {})) == [1, 1200.5]
    assert synced.rows("SELECT pending, pushed = desired, attempts FROM sync_state") == [(0, 1, 0)]
    assert synced.rows("SELECT kind, status FROM push") == [("change", "applied")]
    [(state, provisioned)] = synced.rows("SELECT state, provisioned != '' FROM account")
    assert (state, provisioned) == ("active", 1)


@every_kind
def test_only_differences_are_pushed(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order(total="1200.50"))
    synced.push()
    before = len(synced.vendors[kind].requests)
    synced.deliver(order(total="1200.50"), topic="orders/paid")
    synced.deliver(order(total="1200.50", updated=NOON + 1), topic="orders/updated")
    assert synced.push() == 0
    assert len(synced.vendors[kind].requests) == before
    synced.shop.at(NOON + 7 * DAY)
    assert synced.push() == 1
    contact = synced.vendors[kind].contacts()[ADA]
    assert contact["tags"] == ["lapsed-vip", "vip"]
    [(said,)] = synced.rows("SELECT data FROM push ORDER BY id DESC LIMIT 1")
    assert json.loads(said) == {"tags_added": ["lapsed-vip"], "tags_removed": ["recent-buyers"], "fields": {}}


@every_kind
def test_fifty_changes_of_one_contact_are_one_write(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order())
    synced.push()
    before = synced.writes(kind)
    for number in range(2, 52):
        synced.deliver(order(1000 + number, total="10.00"))
    assert synced.push() == 1
    assert synced.writes(kind) == before + 1
    assert json.loads(synced.rows("SELECT pushed FROM sync_state")[0][0])["fields"]["orders_count"] == 51
    assert synced.vendors[kind].contacts()[ADA]["tags"] == ["recent-buyers"]


def test_a_rejected_contact_is_a_dead_letter_and_not_tried_again_until_it_changes(synced: Synced) -> None:
    synced.configure("klaviyo")
    detail = {"status": 400, "code": "invalid", "title": "Invalid input.", "detail": "No such domain"}
    error = {"errors": [{**detail, "id": "1", "source": {"pointer": "/data/attributes/email"}}]}
    synced.klaviyo.faults.answer(400, error, match="profile-import")
    synced.deliver(order(), order(1002, customer=502, email="bob@example.com"))
    synced.push()
    assert len(synced.klaviyo.contacts()) == 1, "the other one is pushed"
    [(kind, origin, state)] = synced.rows("SELECT kind, origin, state FROM dead_letter")
    assert (kind, origin, state) == ("push", "klaviyo", "open")
    [(reason, message)] = synced.rows("SELECT reason, message FROM dead_letter")
    assert reason
    assert "No such domain" in message
    before = len(synced.klaviyo.requests)
    synced.shop.at(NOON + HOUR)
    assert synced.push() == 0
    assert len(synced.klaviyo.requests) == before
    for one in (order(1003, total="1.00", at=NOON + HOUR), order(1004, customer=502, email="bob@example.com")):
        synced.deliver(one)
    assert synced.push() == 2
    assert len(synced.klaviyo.contacts()) == 2
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(1,)]


def test_a_dead_contact_is_tried_again_when_its_letter_is_replayed(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.klaviyo.faults.answer(400, {"errors": []}, match="profile-import")
    synced.deliver(order())
    synced.push()
    assert synced.klaviyo.contacts() == {}
    assert synced.shop.services.replay_dead_letters([1], now=synced.shop.time) == 1
    assert synced.push() == 1
    assert list(synced.klaviyo.contacts()) == [ADA]
    assert synced.rows("SELECT state FROM dead_letter") == [("replayed",)]


@every_kind
def test_an_outage_is_waited_out_with_growing_pauses(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order())
    synced.push()
    synced.vendors[kind].faults.outage = True
    synced.deliver(order(1002))
    for _ in range(6):
        synced.push()
        before = len(synced.vendors[kind].requests)
        synced.push()
        assert len(synced.vendors[kind].requests) == before, "nothing is due yet"
        assert synced.rows("SELECT pending FROM sync_state") == [(1,)]
        waits = synced.rows("SELECT max(s.due_at, a.retry_at) FROM sync_state s, account a")
        assert waits[0][0] > synced.shop.time
        synced.shop.at(waits[0][0])
    synced.vendors[kind].faults.outage = False
    synced.shop.at(synced.shop.time + 10 * MINUTE)
    assert synced.push() == 1
    assert synced.rows("SELECT pending, attempts, pushed = desired FROM sync_state") == [(0, 0, 1)]
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]


def test_one_contact_that_fails_waits_alone_and_longer_each_time(synced: Synced) -> None:
    synced.configure("hubspot")
    synced.deliver(order())
    synced.push()
    waits = []
    synced.deliver(order(1002))
    for _ in range(5):
        synced.hubspot.faults.answer(423, {"message": "locked"}, {"Retry-After": "5"}, match="PATCH .*/contacts/")
        synced.push()
        [(due, attempts)] = synced.rows("SELECT due_at, attempts FROM sync_state")
        waits.append(due - synced.shop.time)
        assert attempts == len(waits)
        synced.shop.at(due - 1)
        assert synced.push() == 0, "not a millisecond early"
        synced.shop.at(due)
    assert all(wait >= 5 * SECOND for wait in waits)
    assert waits[-1] > waits[0]
    assert synced.push() == 1
    assert synced.rows("SELECT pending, attempts FROM sync_state") == [(0, 0)]


@every_kind
def test_a_lost_key_stops_the_account_until_a_new_one_is_applied(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order())
    synced.push()
    vendor = synced.vendors[kind]
    attribute = "access_token" if kind == "hubspot" else "api_key"
    other = KEY.replace("0", "f") if kind == "mailchimp" else "another-key"
    setattr(vendor, attribute, other)
    synced.deliver(order(1002))
    synced.push()
    [(state, message)] = synced.rows("SELECT state, message FROM account")
    assert state == "unauthorized"
    assert message
    before = len(vendor.requests)
    for hours in (1, 24):
        synced.shop.at(NOON + hours * HOUR)
        synced.deliver(order(1002 + hours))
        assert synced.push() == 0
    assert len(vendor.requests) == before, "nobody knocks at a closed door"
    synced.configure(kind, keys={attribute: other})
    assert synced.push() == 1
    assert synced.rows("SELECT state, message FROM account") == [("active", "")]
    assert json.loads(synced.rows("SELECT pushed FROM sync_state")[0][0])["fields"]["orders_count"] == 4


def test_a_start_tries_a_stopped_account_again(synced: Synced) -> None:
    """What `env:NAME` stands for may have been put right before it, and the configuration does not show that."""
    synced.configure("klaviyo")
    synced.deliver(order())
    synced.klaviyo.api_key = "another-key"
    synced.push()
    assert synced.rows("SELECT state FROM account") == [("unauthorized",)]
    synced.klaviyo.api_key = "pk_test"
    assert synced.push() == 0
    again = Worker(synced.shop.services, lambda: synced.shop.time, push=False)
    again.refresh()
    assert again.push_once() == 1
    again.close()
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers"]


def test_an_account_that_a_person_paused_stays_paused(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    with synced.shop.services.database.tx() as tx:
        set_account(tx, "klaviyo", NOON, state="paused")
    synced.configure("klaviyo", lists=True)
    again = Worker(synced.shop.services, lambda: synced.shop.time, push=False)
    again.refresh()
    assert again.push_once() == 0
    again.close()
    assert synced.klaviyo.requests == []


def test_a_change_decided_while_the_vendor_answers_stays_pending(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    adapter = pusher._connect(pusher.config)
    real = adapter.apply

    def slow(changes: Any) -> Any:
        outcomes = real(changes)
        synced.deliver(order(1002, total="1500.00"))
        return outcomes

    monkeypatch.setattr(adapter, "apply", slow)
    pusher._adapter = adapter
    assert pusher.step(synced.shop.time) == 1
    assert synced.rows("SELECT pending FROM sync_state") == [(1,)]
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers"]
    monkeypatch.setattr(adapter, "apply", real)
    assert synced.push() == 1
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers", "vip"]
    assert synced.rows("SELECT pending FROM sync_state") == [(0,)]


@every_kind
def test_a_lost_answer_is_repeated_without_a_second_effect(synced: Synced, kind: str) -> None:
    synced.configure(kind, events=True)
    vendor = synced.vendors[kind]
    synced.push()
    for instant in range(1, 5):
        vendor.faults.lose(match="^(POST|PUT|PATCH) ", times=instant)
        synced.deliver(order(1000 + instant, at=NOON + instant))
        for _ in range(4):
            synced.push()
            synced.shop.at(synced.shop.time + MINUTE)
    synced.push()
    assert list(vendor.contacts()) == [ADA]
    assert vendor.contacts()[ADA]["tags"] == ["recent-buyers"]
    assert synced.rows("SELECT pending, pushed = desired FROM sync_state") == [(0, 1)]
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    if kind == "klaviyo":  # Mailchimp has no key against repeats, and HubSpot's counts within one event type
        assert [event["properties"]["segment"] for event in vendor.events()] == ["recent-buyers"]


def test_a_cue_waits_for_its_contact_and_is_sent_once(synced: Synced) -> None:
    synced.configure("klaviyo", events=True)
    synced.push()
    synced.klaviyo.faults.answer(503, {}, {"Retry-After": "60"}, match="profile-import")
    synced.deliver(order(total="1200.00"))
    synced.push()
    assert synced.klaviyo.events() == [], "a flow must not find the contact without its tag"
    assert synced.rows("SELECT DISTINCT state FROM cue") == [("pending",)]
    synced.shop.at(NOON + 5 * MINUTE)
    synced.push()
    synced.push()
    told = [(event["name"], event["email"], event["properties"]["segment"]) for event in synced.klaviyo.events()]
    assert sorted(told) == [("Segment Entered", ADA, "recent-buyers"), ("Segment Entered", ADA, "vip")]
    tagged = next(n for n, r in enumerate(synced.klaviyo.requests) if "profile-import" in r.path and r.status < 300)
    assert all(n > tagged for n, r in enumerate(synced.klaviyo.requests) if r.path == "/api/events")
    assert synced.rows("SELECT DISTINCT state FROM cue") == [("sent",)]
    at = {event["time"] for event in synced.klaviyo.events()}
    assert len(at) == 1, "told with the time of entering, not of sending"


def test_a_refilled_rule_tags_and_starts_no_flow(synced: Synced) -> None:
    synced.configure("klaviyo", events=True)
    synced.deliver(order(total="600.00"))
    synced.push()
    told = len(synced.klaviyo.events())
    synced.configure("klaviyo", events=True, rules=CONFIG.replace('">=": 1000', '">=": 500'))
    synced.push()
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers", "vip"]
    assert len(synced.klaviyo.events()) == told


@every_kind
def test_lists_follow_the_tags(synced: Synced, kind: str) -> None:
    synced.configure(kind, lists=True)
    synced.deliver(order(total="1200.00"), order(1002, customer=502, email="bob@example.com", total="5.00"))
    synced.push()
    assert _listed(synced, kind) == {"Bought in the last 7 days": {ADA, "bob@example.com"}, "VIP": {ADA}}
    synced.shop.at(NOON + 8 * DAY)
    synced.push()
    listed = {name: members for name, members in _listed(synced, kind).items() if members}
    assert listed == {"VIP": {ADA}, "Lapsed VIP": {ADA}}
    ids = synced.rows("SELECT segment, list_id FROM vendor_list")
    assert len(ids) == len({list_id for _, list_id in ids}) == 3


@every_kind
def test_lists_switched_on_later_are_filled(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order(total="1200.00"))
    synced.push()
    synced.configure(kind, lists=True)
    synced.push()
    assert _listed(synced, kind) == {"Bought in the last 7 days": {ADA}, "VIP": {ADA}}
    assert synced.vendors[kind].contacts()[ADA]["tags"] == _tags(kind, "recent-buyers", "vip")


def _listed(synced: Synced, kind: str) -> dict[str, set[str]]:
    """List -> addresses."""
    names = {"Bought in the last 7 days", "VIP", "Lapsed VIP"}
    found: dict[str, set[str]] = {}
    for address, contact in synced.vendors[kind].contacts().items():
        for name in contact["tags" if kind == "mailchimp" else "lists"]:  # Mailchimp's static segments are its tags
            name = next((known for known in names if known.lower() == name.lower()), name)
            if name in names:
                found.setdefault(name, set()).add(address)
    return found


def _tags(kind: str, *tags: str) -> list[str]:
    return sorted(tags) if kind != "mailchimp" else sorted({*tags, "Bought in the last 7 days"})


def _consented(state: str, at: int) -> dict[str, Any]:
    said = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": iso(at)}
    return {"customer_id": 501, "email_address": ADA, "email_marketing_consent": said}


@every_kind
def test_create_contacts_consented(synced: Synced, kind: str) -> None:
    synced.configure(kind, create_contacts="consented")
    synced.deliver(order())
    synced.push()
    assert synced.vendors[kind].contacts() == {}
    assert synced.rows("SELECT status, reason FROM push") == [("skipped", "not_on_list")]
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    synced.shop.deliver("customers_email_marketing_consent/update", _consented("subscribed", NOON))
    synced.shop.work()
    synced.push()
    assert synced.vendors[kind].contacts()[ADA]["tags"] == ["recent-buyers"]


@every_kind
def test_create_contacts_never(synced: Synced, kind: str) -> None:
    synced.configure(kind, create_contacts="never", events=True)
    synced.deliver(order())
    synced.push()
    assert synced.vendors[kind].contacts() == {}
    assert synced.vendors[kind].events() == []
    assert synced.rows("SELECT state FROM cue") == [("skipped",)]


@every_kind
def test_a_dry_run_sends_nothing_and_says_what_it_would(synced: Synced, kind: str) -> None:
    synced.configure(kind, dry_run=True, events=True)
    synced.deliver(order(total="1200.00"))
    synced.push()
    assert synced.vendors[kind].requests == []
    pushes = synced.rows("SELECT kind, status, reason, data FROM push ORDER BY id")
    assert {(status, reason) for _, status, reason, _ in pushes} == {("skipped", "dry_run")}
    assert [kind for kind, *_ in pushes] == ["change", "cue", "cue"]
    planned = json.loads(pushes[0][3])
    assert planned == {
        "tags_added": ["recent-buyers", "vip"],
        "tags_removed": [],
        "fields": {"orders_count": 1, "total_spent": 1200},
    }
    assert synced.push() == 0, "said once"
    synced.deliver(order(1002))
    assert synced.push() == 1, "and again when something changes"
    synced.configure(kind, dry_run=False, events=True)
    synced.push()
    assert synced.vendors[kind].contacts()[ADA]["tags"] == ["recent-buyers", "vip"]
    assert synced.rows("SELECT pending, pushed = desired FROM sync_state") == [(0, 1)]
    assert synced.vendors[kind].events() == [], "a flow that starts days late is worse than none"
    synced.configure(kind, dry_run=True, events=True)
    before = len(synced.vendors[kind].requests)
    synced.shop.at(NOON + 8 * DAY)
    synced.push()
    assert len(synced.vendors[kind].requests) == before
    assert synced.rows("SELECT json_extract(data, '$.tags_removed[0]') FROM push WHERE kind = 'change'")[-1] == (
        "recent-buyers",
    )


@every_kind
def test_a_new_address_moves_the_contact(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order(total="1200.00"))
    synced.push()
    moved = {"id": 501, "email": "ada.new@example.com", "updated_at": iso(NOON + HOUR), "created_at": iso(NOON)}
    synced.shop.time = NOON + HOUR
    synced.shop.deliver("customers/update", moved)
    synced.shop.work()
    synced.push()
    contacts = synced.vendors[kind].contacts()
    assert list(contacts) == ["ada.new@example.com"]
    assert contacts["ada.new@example.com"]["tags"] == ["recent-buyers", "vip"]
    assert synced.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(1,)]


@every_kind
def test_two_profiles_that_become_one_leave_one_contact_with_tags(synced: Synced, kind: str) -> None:
    synced.configure(kind, events=True)
    synced.deliver(
        order(1001, customer=501, total="600.00"), order(1002, customer=502, email="old@example.com", total="700.00")
    )
    synced.push()
    assert {a: c["tags"] for a, c in synced.vendors[kind].contacts().items()} == {
        ADA: ["recent-buyers"],
        "old@example.com": ["recent-buyers"],
    }
    told = len(synced.vendors[kind].events())
    merge = {"admin_graphql_api_customer_kept_id": "gid://shopify/Customer/501", "status": "completed"}
    merge |= {"admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/502", "job_id": "1", "errors": []}
    synced.shop.deliver("customers/merge", merge)
    synced.shop.work()
    synced.push()
    assert {a: c["tags"] for a, c in synced.vendors[kind].contacts().items()} == {
        ADA: ["recent-buyers", "vip"],
        "old@example.com": [],
    }
    if kind == "klaviyo":
        assert [e["properties"]["segment"] for e in synced.klaviyo.events()[told:]] == ["vip"]


def test_a_guest_who_becomes_a_customer_enters_no_segment_twice(synced: Synced) -> None:
    """The guest's profile is merged into the customer's older one: where the guest was is no news to anybody."""
    customer = {"id": 501, "created_at": iso(NOON), "updated_at": iso(NOON), "email": None, "first_name": "Ada"}
    synced.configure("klaviyo", events=True)
    synced.shop.deliver("customers/create", customer)
    synced.shop.work()
    synced.deliver(order(1001, customer=None, email=ADA))
    synced.push()
    synced.shop.time = NOON + HOUR
    synced.shop.deliver("customers/update", customer | {"email": ADA, "updated_at": iso(NOON + HOUR)})
    synced.shop.work()
    synced.push()
    assert synced.rows("SELECT count(*) FROM profile WHERE merged_into IS NOT NULL") == [(1,)]
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers"]
    assert len(synced.klaviyo.contacts()) == 1
    assert [event["properties"]["segment"] for event in synced.klaviyo.events()] == ["recent-buyers"]
    assert synced.rows("SELECT since FROM membership WHERE segment = 'recent-buyers'") == [(NOON,)]


def test_who_comes_while_a_rule_is_filled_starts_their_flow(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    synced.configure("klaviyo", events=True)
    synced.deliver(order(total="600.00"))
    synced.push()
    told = len(synced.klaviyo.events())
    with monkeypatch.context() as slow:
        slow.setattr(Jobs, "step", lambda *_: False)
        synced.configure("klaviyo", events=True, rules=CONFIG.replace('">=": 1000', '">=": 500'))
        synced.deliver(order(1002), order(1003, customer=502, email="bob@example.com", total="700.00"))
    synced.shop.work()
    synced.push()
    entered = [(event["email"], event["properties"]["segment"]) for event in synced.klaviyo.events()[told:]]
    assert sorted(entered) == [("bob@example.com", "recent-buyers"), ("bob@example.com", "vip")]
    assert synced.klaviyo.contacts()[ADA]["tags"] == ["recent-buyers", "vip"]
