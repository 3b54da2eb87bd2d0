"""What vendors tell of mails when they are asked: which calls are made, and what odd answers mean."""

from collections.abc import Iterator
from typing import Any

import pytest

from adapters import DESTINATIONS, hubspot_activity, mailchimp_activity
from adapters.destination import Activity, Change, Settings, TellsActivity
from adapters.errors import Rejected, Transient, Unauthorized
from adapters.values import millis
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp

NOON = 1_795_000_000_000
KEY = "0123456789abcdef0123456789abcdef-us21"


class Still:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = NOON / 1000

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Still:
    return Still()


@pytest.fixture
def hubspot(clock: Still) -> Iterator[tuple[FakeHubSpot, Any]]:
    with FakeHubSpot(access_token="pat-test", clock=clock) as vendor:
        settings = Settings({"access_token": "pat-test"}, base_url=vendor.url, allow_insecure=True)
        client = DESTINATIONS["hubspot"](settings, clock)
        yield vendor, client
        client.close()


@pytest.fixture
def mailchimp(clock: Still) -> Iterator[tuple[FakeMailchimp, Any]]:
    with FakeMailchimp(api_key=KEY, clock=clock) as vendor:
        settings = Settings({"api_key": KEY}, base_url=vendor.url, allow_insecure=True, list_id=vendor.list_id)
        client = DESTINATIONS["mailchimp"](settings, clock)
        yield vendor, client
        client.close()


@pytest.fixture
def klaviyo(clock: Still) -> Iterator[tuple[FakeKlaviyo, Any]]:
    with FakeKlaviyo(api_key="pk_test", clock=clock) as vendor:
        settings = Settings({"api_key": "pk_test"}, base_url=vendor.url, allow_insecure=True)
        client = DESTINATIONS["klaviyo"](settings, clock)
        yield vendor, client
        client.close()


def told(client: Any, since: int) -> list[Activity]:
    return [one for page in client.activity(since) for one in page.activities]


def contacts(client: Any, count: int) -> list[str]:
    client.provision([], [])
    emails = [f"p{number}@example.com" for number in range(count)]
    outcomes = client.apply([Change(str(n), email, f"storecue:{n}") for n, email in enumerate(emails)])
    assert {outcome.status for outcome in outcomes} == {"applied"}
    return emails


def test_who_can_be_asked_says_so() -> None:
    for kind, vendor in DESTINATIONS.items():
        assert vendor.takes.engagement is hasattr(vendor, "activity"), kind
    assert {kind for kind, vendor in DESTINATIONS.items() if vendor.takes.engagement} == {
        "klaviyo",
        "hubspot",
        "mailchimp",
    }


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1795000000000", NOON),
        ("2026-11-18T11:06:40Z", NOON),
        ("2026-11-18T11:06:40.000+00:00", NOON),
        ("2026-11-18 11:06:40", NOON),
        ("", None),
        ("17950", None),
        ("soon", None),
    ],
)
def test_instants_as_vendors_tell_them(text: str, instant: int | None) -> None:
    assert millis(text) == instant


# --- HubSpot ----------------------------------------------------------------------------------------------------------


def test_hubspot_is_asked_by_search_within_its_own_limit(hubspot: tuple[FakeHubSpot, Any], clock: Still) -> None:
    vendor, client = hubspot
    emails = contacts(client, 250)
    clock.now += 60
    for email in emails:
        vendor.open(email)
    vendor.requests.clear()
    found = told(client, NOON)
    assert {one.email for one in found} == set(emails)
    assert [one.path.rpartition("/")[2] for one in vendor.requests] == ["search", "search"]
    for _ in range(10):
        told(client, NOON)
    assert vendor.counts()[429] == 0


def test_beyond_ten_thousand_results_a_new_search_begins(
    hubspot: tuple[FakeHubSpot, Any], clock: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubspot_activity, "_PAGE", 10)
    monkeypatch.setattr(hubspot_activity, "_MOST", 30)
    vendor, client = hubspot
    for email in contacts(client, 75):
        clock.now += 1
        vendor.open(email)
    found = told(client, NOON)
    assert len({one.key for one in found}) == 75
    assert len(found) < 75 + 10, "only the last of a search comes again"


def test_ten_thousand_in_one_instant_end_all_the_same(
    hubspot: tuple[FakeHubSpot, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubspot_activity, "_PAGE", 10)
    monkeypatch.setattr(hubspot_activity, "_MOST", 30)
    vendor, client = hubspot
    for email in contacts(client, 45):
        vendor.open(email)
    vendor.requests.clear()
    told(client, NOON)
    assert len(vendor.requests) < 20


def test_an_old_opt_out_is_no_news_when_the_contact_changes(hubspot: tuple[FakeHubSpot, Any], clock: Still) -> None:
    vendor, client = hubspot
    [email] = contacts(client, 1)
    vendor.unsubscribe(email)
    clock.now += 3 * 86_400
    since = int(clock.now * 1000)
    client.apply([Change("0", email, "storecue:0", first_name="Ada")])
    assert told(client, since) == []


def test_without_a_history_the_last_change_stands_in(hubspot: tuple[FakeHubSpot, Any], clock: Still) -> None:
    vendor, client = hubspot
    [email] = contacts(client, 1)
    clock.now += 60
    vendor.unsubscribe(email)
    next(iter(vendor._contacts.values())).histories.clear()
    [one] = told(client, NOON)
    assert (one.kind, one.at) == ("unsubscribed", NOON + 60_000)


def test_properties_that_an_account_does_not_have_are_not_asked_for(hubspot: tuple[FakeHubSpot, Any]) -> None:
    vendor, client = hubspot
    for name in ("hs_email_last_open_date", "hs_email_last_click_date", "hs_email_hard_bounce_reason_enum"):
        del vendor._properties[name]
    [email] = contacts(client, 1)
    vendor.unsubscribe(email)
    assert [one.kind for one in told(client, NOON)] == ["unsubscribed"]


# --- Mailchimp --------------------------------------------------------------------------------------------------------


def test_campaigns_of_which_nothing_is_new_cost_no_call(mailchimp: tuple[FakeMailchimp, Any], clock: Still) -> None:
    vendor, client = mailchimp
    quiet, busy = (vendor.send(title, title, ["ada@example.com"]) for title in ("Spring", "Autumn"))
    vendor.open("ada@example.com", quiet)
    vendor.click("ada@example.com", quiet, "https://aurora.example")
    vendor.return_mail("ada@example.com", quiet, "soft")
    clock.now += 5 * 86_400
    vendor.open("ada@example.com", busy)
    vendor.requests.clear()
    [one] = told(client, int(clock.now * 1000) - 60_000)
    assert (one.kind, one.properties["campaign_id"]) == ("opened", busy)
    assert [request.path for request in vendor.requests] == ["/3.0/reports", f"/3.0/reports/{busy}/email-activity"]


def test_recipients_beyond_a_page(
    mailchimp: tuple[FakeMailchimp, Any], clock: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailchimp_activity, "_PAGE", 10)
    vendor, client = mailchimp
    emails = [f"p{number}@example.com" for number in range(25)]
    campaign = vendor.send("Autumn", "Boots", emails)
    for email in emails:
        vendor.open(email, campaign)
        clock.now += 1
        vendor.click(email, campaign, "https://aurora.example/a")
        vendor.click(email, campaign, "https://aurora.example/b")
    pages = list(client.activity(NOON))
    assert [page.until for page in pages[:-1]] == [None] * (len(pages) - 1)
    assert pages[-1].until == int(clock.now * 1000)
    found = [one for page in pages for one in page.activities]
    assert len({one.key for one in found}) == len(found) == 75


def test_campaigns_of_other_audiences_are_left_alone(mailchimp: tuple[FakeMailchimp, Any]) -> None:
    vendor, client = mailchimp
    campaign = vendor.send("Autumn", "Boots", ["ada@example.com"])
    vendor.open("ada@example.com", campaign)
    vendor._reports._list_id = "another"
    assert told(client, NOON) == []


def test_soft_bounces_may_come_again_and_a_hard_one_is_one(mailchimp: tuple[FakeMailchimp, Any], clock: Still) -> None:
    vendor, client = mailchimp
    campaign = vendor.send("Autumn", "Boots", ["ada@example.com"])
    for _ in range(2):
        vendor.return_mail("ada@example.com", campaign, "soft")
        clock.now += 5
    client.apply([Change("0", "ada@example.com", "storecue:0")])
    vendor.return_mail("ada@example.com", campaign, "hard")
    assert [one.kind for one in told(client, NOON)] == ["bounced", "bounced", "bounced_for_good"]
    assert len({one.key for one in told(client, NOON)}) == 3


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"id": "c1", "list_id": "a1b2c3d4e5"},
        {"id": "c1", "list_id": "a1b2c3d4e5", "opens": None, "clicks": "x", "bounces": []},
        {"id": "c1", "list_id": "a1b2c3d4e5", "opens": {"last_open": "never"}, "bounces": {"hard_bounces": "2"}},
        {"id": "c1", "list_id": "a1b2c3d4e5", "bounces": {"hard_bounces": "none"}},
    ],
)
@pytest.mark.parametrize(
    "person",
    [
        {},
        {"email_address": 5, "activity": {}},
        {
            "email_address": "ada@example.com",
            "activity": [{"action": "open", "timestamp": "soon"}, None, {"action": 3}],
        },
    ],
)
def test_odd_reports_are_passed_over(mailchimp: tuple[FakeMailchimp, Any], report: Any, person: Any) -> None:
    vendor, client = mailchimp
    vendor.faults.answer(200, {"reports": [report], "total_items": 1}, match="GET /3.0/reports$")
    vendor.faults.answer(200, {"emails": [person], "total_items": 1}, match="GET .*/email-activity")
    assert told(client, NOON) == []


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (503, Transient), (404, Rejected)])
def test_refusals_are_raised_by_who_must_act(mailchimp: tuple[FakeMailchimp, Any], status: int, error: type) -> None:
    vendor, client = mailchimp
    assert isinstance(client, TellsActivity)
    vendor.faults.answer(status, {"title": "No", "detail": "No", "status": status}, match="GET /3.0/reports", times=9)
    with pytest.raises(error):
        told(client, NOON)


# --- Klaviyo ----------------------------------------------------------------------------------------------------------


def test_klaviyos_events_metric_by_metric_and_page_by_page(klaviyo: tuple[FakeKlaviyo, Any], clock: Still) -> None:
    vendor, client = klaviyo
    [email] = contacts(client, 1)
    for _ in range(450):
        clock.now += 1
        vendor.engage(email, "Opened Email", **{"$message": "M1", "Subject": "Boots", "machine_open": True})
    vendor.engage(email, "Clicked Email", URL="https://aurora.example/boots")
    vendor.engage(email, "Received Email")
    vendor.engage(email, "Viewed Product")
    vendor.requests.clear()
    pages = list(client.activity(NOON))
    found = [one for page in pages for one in page.activities]
    assert len({one.key for one in found}) == len(found) == 451
    assert {one.email for one in found} == {email}
    assert found[0].properties == {"email_id": "M1", "email_subject": "Boots", "machine": True}
    assert [page.until for page in pages[:-1]] == [None] * (len(pages) - 1)
    assert pages[-1].until == int(clock.now * 1000)
    assert [one.path for one in vendor.requests] == ["/api/metrics", *["/api/events"] * 4]
    assert all(one.query["filter"].startswith("equals(metric_id,") for one in vendor.requests[1:])
    clock.now += 3_600
    assert told(client, int(clock.now * 1000)) == []


def test_bounces_complaints_and_words_on_consent_at_klaviyo(klaviyo: tuple[FakeKlaviyo, Any]) -> None:
    vendor, client = klaviyo
    [email] = contacts(client, 1)
    vendor.engage(email, "Bounced Email", **{"Bounce Type": "Hard"})
    vendor.engage(email, "Bounced Email", **{"Bounce Type": "Soft"})
    for metric in ("Marked Email as Spam", "Unsubscribed from Email Marketing", "Subscribed to Email Marketing"):
        vendor.engage(email, metric)
    kinds = {"bounced_for_good", "bounced", "complained", "unsubscribed", "subscribed"}
    assert {one.kind for one in told(client, NOON)} == kinds


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"id": 5, "attributes": None},
        {"id": "e", "attributes": {"datetime": "soon"}, "relationships": {"profile": {"data": {"id": "p"}}}},
        {"id": "e", "attributes": {"datetime": "2026-11-18T11:06:40Z"}, "relationships": {"profile": {"data": None}}},
    ],
)
def test_odd_events_of_klaviyo_are_passed_over(klaviyo: tuple[FakeKlaviyo, Any], event: Any) -> None:
    vendor, client = klaviyo
    [email] = contacts(client, 1)
    vendor.engage(email, "Opened Email")
    vendor.faults.answer(200, {"data": [event, None], "links": {}, "included": [{}, 5]}, match="GET /api/events")
    assert told(client, NOON) == []
