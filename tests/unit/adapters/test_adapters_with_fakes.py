"""The three adapters against the simulator's vendors: what reaches the account when answers get lost, servers fail
and limits bite. Time is one fake clock for both sides; only sleeping moves it."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from adapters import DESTINATIONS
from adapters.destination import Change, Cue, Destination, FieldSpec, Outcome, Settings
from adapters.errors import Transient
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor, Faults

FIELDS = [FieldSpec("total_spent", "number", "Total spent"), FieldSpec("last_order_at", "datetime", "Last order at")]
VENDORS: dict[str, tuple[Callable[..., FakeVendor], dict[str, str], str | None]] = {
    "klaviyo": (FakeKlaviyo, {"api_key": "pk_fake"}, None),
    "hubspot": (FakeHubSpot, {"access_token": "pat-eu1-fake"}, None),
    "mailchimp": (FakeMailchimp, {"api_key": "0123456789abcdef0123456789abcdef-us21"}, "a1b2c3d4e5"),
}


def opened(kind: str, clock: Any, faults: Faults | None = None) -> tuple[FakeVendor, Destination]:
    make, credentials, list_id = VENDORS[kind]
    fake = make(clock=clock, faults=faults).start()
    settings = Settings(credentials, base_url=fake.url, allow_insecure=True, list_id=list_id)
    return fake, DESTINATIONS[kind](settings, clock)


def patiently(clock: Any, act: Callable[[], Any]) -> Any:
    """The result of `act`, tried again as often as the adapter asks for."""
    for _ in range(100):
        try:
            return act()
        except Transient as error:
            clock.sleep(error.retry_after)
    raise AssertionError("it never came through")


def to_the_end(clock: Any, items: list[Any], act: Callable[[list[Any]], list[Outcome]]) -> dict[str, Outcome]:
    """The last outcome of every item, those to be retried tried again as the adapter asks for."""
    outcomes: dict[str, Outcome] = {}
    left = items
    for _ in range(100):
        for outcome in patiently(clock, partial(act, left)):
            outcomes[outcome.key] = outcome
        left = [item for item in left if outcomes[item.key].status == "retry"]
        if not left:
            return outcomes
        clock.sleep(max(outcomes[item.key].retry_after for item in left))
    raise AssertionError(f"{len(left)} items never came through")


def change(n: int, **more: Any) -> Change:
    fields = {"total_spent": n + 0.5, "last_order_at": "2026-11-21T10:00:00.000Z"}
    tags = ("bf", "vip") if n % 2 else ("vip",)
    return Change(f"c{n}", f"p{n}@example.com", f"shop:{n}", tags=tags, tags_added=tags, fields=fields, **more)


@pytest.mark.parametrize("count", [1, 12, 60])
@pytest.mark.parametrize("kind", VENDORS)
def test_lost_answers_and_5xx_leave_the_account_as_desired(kind: str, count: int, clock: Any) -> None:
    faults = Faults(seed=count, error_rate=0.15, lost_rate=0.15)
    fake, destination = opened(kind, clock, faults)
    with closing(fake), closing(destination):
        patiently(clock, lambda: destination.provision(FIELDS, ["bf", "vip"]))
        outcomes = to_the_end(clock, [change(n) for n in range(count)], destination.apply)
        contacts = {email.lower(): contact for email, contact in fake.contacts().items()}
    assert {outcome.status for outcome in outcomes.values()} == {"applied"}
    assert {email: contact["tags"] for email, contact in contacts.items()} == {
        change(n).email: list(change(n).tags) for n in range(count)
    }
    assert all(len(contact["fields"]) >= 2 for contact in contacts.values())


@pytest.mark.parametrize("kind", VENDORS)
def test_no_cue_arrives_twice_and_where_the_vendor_dedupes_none_is_lost(kind: str, clock: Any) -> None:
    faults = Faults(seed=3, lost_rate=0.2)
    fake, destination = opened(kind, clock)
    with closing(fake), closing(destination):
        patiently(clock, lambda: destination.provision(FIELDS, ["vip"]))
        to_the_end(clock, [change(n) for n in range(15)], destination.apply)
        fake.faults = faults
        cues = [
            Cue(
                f"cue{n}",
                f"p{n}@example.com",
                f"shop:{n}",
                "Segment Entered",
                int(clock.time() * 1000),
                {"segment": "vip"},
            )
            for n in range(15)
        ]
        outcomes = to_the_end(clock, cues, destination.send)
        people = [event["email"] for event in fake.events()]
    assert len(people) == len(set(people))
    if kind == "klaviyo":
        assert len(people) == 15
    if kind == "mailchimp":
        unknown = [outcome for outcome in outcomes.values() if outcome.status == "rejected"]
        assert unknown
        assert {outcome.reason for outcome in unknown} == {"unknown_result"}
        assert len(people) == 15  # lost were the answers, not the events: nothing was repeated, nothing was missing


@pytest.mark.parametrize("kind", VENDORS)
def test_the_vendors_limit_is_never_met(kind: str, clock: Any) -> None:
    """More single changes than any limit lets through at once: they wait on our side and no 429 is ever seen."""
    fake, destination = opened(kind, clock)
    with closing(fake), closing(destination):
        patiently(clock, lambda: destination.provision(FIELDS, ["bf", "vip"]))
        for start in range(0, 240, 12):
            to_the_end(clock, [change(n) for n in range(start, start + 12)], destination.apply)
        statuses = {int(request.status) for request in fake.requests}
        assert len(fake.contacts()) == 240
    assert 429 not in statuses


@pytest.mark.parametrize("kind", VENDORS)
def test_bad_addresses_in_a_batch_are_rejected_alone(kind: str, clock: Any) -> None:
    fake, destination = opened(kind, clock)
    with closing(fake), closing(destination):
        destination.provision(FIELDS, ["bf", "vip"])
        changes = [change(n) for n in range(58)] + [
            Change(f"bad{n}", f"not an address {n}", "shop:x") for n in range(2)
        ]
        outcomes = to_the_end(clock, changes, destination.apply)
        before = len(fake.requests)
        again = to_the_end(clock, [change(n) for n in range(58)], destination.apply)
        calls = len(fake.requests) - before
        assert len(fake.contacts()) == 58
    rejected = [key for key, outcome in outcomes.items() if outcome.status != "applied"]
    assert rejected == ["bad0", "bad1"]
    assert {outcomes[key].status for key in rejected} == {"rejected"}
    assert {outcome.status for outcome in again.values()} == {"applied"}
    assert calls <= 8  # in batches, not one by one
