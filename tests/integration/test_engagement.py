"""What people do with mails, from the platforms back to profiles, segments and the other platforms; the real adapters
against the fake vendors, on a clock that only the test moves."""

import hashlib
import hmac
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.test import Client

from adapters.errors import Transient
from connector.app import create_app
from connector.clock import DAY, HOUR, MINUTE, SECOND
from connector.domain import RawRequest
from connector.progress import lines
from connector.reporting.destinations import standings
from connector.reporting.status import status
from connector.sources import engagement
from connector.sync.poll import Poller
from connector.web import current
from connector.web.ingress import Ingress
from connector.web.webhooks import Answer
from tests.conftest import NOON, order
from tests.integration.test_sync import ADA, Synced
from tests.unit.web.over_rsgi import OverRsgi

ALL = ("klaviyo", "hubspot", "mailchimp")
SECRETS = {"klaviyo": "0123456789abcdef0123", "hubspot": "client-secret", "mailchimp": "token-secret"}
RULES = """
version: 1
store: {name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}
sources:
  shop: {kind: shopify, secrets: [hush]}
  from-klaviyo: {kind: klaviyo, secrets: [0123456789abcdef0123]}
  from-hubspot: {kind: hubspot, secrets: [client-secret]}
  from-mailchimp: {kind: mailchimp, secrets: [token-secret]}
segments:
  mailable: {when: {consent: email}}
  opened: {when: {event: Email Opened, within: 7d}}
  clicked: {when: {event: Email Link Clicked, within: 7d}}
"""


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def said(
    kind: str, what: str, email: str, remote_id: str, now: int, number: int = 1
) -> tuple[bytes, dict[str, str], str]:
    """Body, headers and query of a platform's webhook: the person unsubscribes, complains or opens a mail."""
    if kind == "klaviyo":
        topic = {
            "unsubscribe": "unsubscribed_from_email_marketing",
            "spam": "marked_email_as_spam",
            "open": "opened_email",
        }
        event = {
            "type": "event",
            "id": f"e{number}",
            "attributes": {"timestamp": now // 1000, "event_properties": {"$message": "M1"}},
            "relationships": {"profile": {"data": {"type": "profile", "id": remote_id}}},
        }
        item = {"external_id": f"e{number}", "topic": f"event:klaviyo.{topic[what]}", "payload": {"data": event}}
        body = json.dumps({"data": [item], "meta": {"klaviyo_webhook_id": "hook"}}).encode()
        stamp = formatdate(now / 1000, usegmt=True)
        signature = hmac.new(SECRETS[kind].encode(), body + stamp.encode(), hashlib.sha256).hexdigest()
        return body, {"klaviyo-signature": signature, "klaviyo-timestamp": stamp, "klaviyo-webhook-id": "hook"}, ""
    if kind == "hubspot":
        name = {"unsubscribe": "hs_email_optout", "open": "hs_email_last_open_date"}[what]
        event = {
            "eventId": number,
            "portalId": 1,
            "subscriptionId": 2,
            "objectId": int(remote_id),
            "occurredAt": now,
            "subscriptionType": "contact.propertyChange",
            "propertyName": name,
            "propertyValue": "true" if what == "unsubscribe" else str(now),
            "changeSource": "EMAIL",
            "attemptNumber": 0,
        }
        body = json.dumps([event]).encode()
        signed = f"POSThttps://cues.example.com/webhooks/{kind}/from-{kind}".encode() + body + str(now).encode()
        signature = b64encode(hmac.new(SECRETS[kind].encode(), signed, hashlib.sha256).digest()).decode()
        return body, {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(now)}, ""
    form = {"type": "unsubscribe", "data[action]": "unsub", "data[email]": email, "data[list_id]": "a1b2c3d4e5"}
    reason = {"unsubscribe": "manual", "spam": "abuse"}[what]
    body = urlencode({**form, "data[reason]": reason, "fired_at": "2026-11-18 11:06:40"}).encode()
    return body, {}, f"token={engagement.url_token(f'/webhooks/{kind}/from-{kind}', SECRETS[kind])}"


def hear(synced: Synced, kind: str, what: str, email: str = ADA, remote_id: str = "", number: int = 1) -> Answer:
    """The answer to a webhook, which is worked off."""
    now = synced.shop.time
    body, headers, query = said(kind, what, email, remote_id or remote(synced, kind, email), now, number)
    path = f"/webhooks/{kind}/from-{kind}"
    request = RawRequest("POST", path, headers, body, query, now, "https://cues.example.com")
    answer = synced.shop.receiver.receive(kind, f"from-{kind}", request)
    synced.shop.work()
    return answer


def remote(synced: Synced, kind: str, email: str) -> str:
    query = "SELECT s.remote_id FROM sync_state s JOIN profile p ON p.id = s.profile_id"
    return str(synced.rows(f"{query} WHERE s.destination = '{kind}' AND p.email = '{email}'")[0][0])


def consent(synced: Synced, profile: int = 1) -> dict[str, Any]:
    return dict(json.loads(synced.rows(f"SELECT consent FROM profile WHERE id = {profile}")[0][0]).get("email", {}))


def events(synced: Synced, *names: str) -> list[tuple[str, str, int]]:
    listed = ", ".join(
        f"'{name}'" for name in names or ("Email Opened", "Email Link Clicked", "Email Bounced", "Unsubscribed")
    )
    return synced.rows(f"SELECT name, source, at FROM event WHERE name IN ({listed}) ORDER BY at, id")  # type: ignore[return-value]


def pushed_ada(synced: Synced, *kinds: str, **settings: Any) -> None:
    """Ada, who has subscribed in the shop and is at every platform."""
    synced.configure(*kinds, rules=RULES, **settings)
    assert synced.shop.deliver("orders/create", order()).status == 200
    word = {
        "customer_id": 501,
        "email_address": ADA,
        "email_marketing_consent": {
            "state": "subscribed",
            "opt_in_level": "single_opt_in",
            "consent_updated_at": "2026-11-18T11:00:00Z",
        },
    }
    assert synced.shop.deliver("customers_email_marketing_consent/update", word).status == 200
    synced.shop.work()
    synced.push()
    assert synced.shop.segments() == {"mailable"}


def subscriptions_touched(synced: Synced) -> list[str]:
    """The requests that any vendor got which change a subscription."""
    found = []
    for vendor in synced.vendors.values():
        for one in vendor.requests:
            touching = ("subscription-bulk", "suppression", "communication-preferences")
            status = (
                vendor.vendor == "mailchimp" and one.method in ("PUT", "PATCH", "POST") and b'"status":' in one.body
            )
            tags = one.path.endswith("/tags")
            if (one.method != "GET" and any(word in one.path for word in touching)) or (status and not tags):
                found.append(f"{one.method} {one.path}")
    return found


# --- webhooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_an_unsubscription_at_one_platform_reaches_the_profile_the_segments_and_the_others(
    synced: Synced, kind: str
) -> None:
    pushed_ada(synced, *ALL)
    for other in ALL:
        assert synced.shop.desired(other)["subscribed"] is True  # type: ignore[index]
        assert synced.vendors[other].contacts()[ADA]["tags"] == ["mailable"]
    synced.shop.time = NOON + MINUTE
    assert hear(synced, kind, "unsubscribe").status == 200
    word = consent(synced)
    assert (word["state"], word["source"]) == ("unsubscribed", f"from-{kind}")
    assert synced.shop.segments() == set()
    for other in ALL:
        desired = synced.shop.desired(other)
        assert desired is not None and (desired["subscribed"], desired["tags"]) == (False, [])
    synced.push()
    assert all(synced.vendors[other].contacts()[ADA]["tags"] == [] for other in ALL)
    assert subscriptions_touched(synced) == []
    assert synced.mailchimp.contacts()[ADA]["status"] == "subscribed", "its own owner's business"
    [(name, source, _)] = events(synced)
    assert (name, source) == ("Unsubscribed", f"from-{kind}")


@pytest.mark.parametrize("kind", ALL)
def test_a_repeat_is_harmless_and_the_latest_word_counts(synced: Synced, kind: str) -> None:
    pushed_ada(synced, *ALL)
    synced.shop.time = NOON + MINUTE
    for _ in range(3):
        assert hear(synced, kind, "unsubscribe").status == 200
    assert len(events(synced)) == 1
    synced.shop.time = NOON + HOUR
    again = {
        "customer_id": 501,
        "email_address": ADA,
        "email_marketing_consent": {"state": "subscribed", "consent_updated_at": "2026-11-18T12:00:00Z"},
    }
    assert synced.shop.deliver("customers_email_marketing_consent/update", again).status == 200
    synced.shop.work()
    assert consent(synced)["state"] == "subscribed"
    hear(synced, "mailchimp", "spam")  # fired at noon: older than what they said since
    assert consent(synced)["state"] == "subscribed"
    assert [name for name, _, _ in events(synced, "Email Marked as Spam")] == ["Email Marked as Spam"]


@pytest.mark.parametrize("kind", ["klaviyo", "hubspot"])
def test_an_open_is_of_whoever_has_the_record(synced: Synced, kind: str) -> None:
    pushed_ada(synced, *ALL)
    synced.deliver(order(1002, customer=502, email="grace@example.com"))
    synced.push()
    synced.shop.time = NOON + MINUTE
    assert hear(synced, kind, "open", remote_id=remote(synced, kind, "grace@example.com")).status == 200
    assert synced.shop.segments(1) == {"mailable"}
    assert synced.shop.segments(2) == {"opened"}
    [(name, source, at)] = events(synced)
    assert (name, source, at // 1000) == ("Email Opened", f"from-{kind}", (NOON + MINUTE) // 1000)


@pytest.mark.parametrize("kind", ["klaviyo", "hubspot"])
def test_a_record_that_is_nobodys_makes_nobody(synced: Synced, kind: str) -> None:
    pushed_ada(synced, *ALL)
    assert hear(synced, kind, "unsubscribe", remote_id="999999").status == 200
    assert synced.rows("SELECT count(*) FROM profile") == [(1,)]
    assert consent(synced)["state"] == "subscribed"
    assert events(synced) == []


def test_an_address_that_is_nobodys_makes_nobody_unless_they_subscribe(synced: Synced) -> None:
    pushed_ada(synced, *ALL)
    assert hear(synced, "mailchimp", "unsubscribe", email="stranger@example.com", remote_id="-").status == 200
    assert synced.rows("SELECT count(*) FROM profile") == [(1,)]
    path = "/webhooks/mailchimp/from-mailchimp"
    form = {"type": "subscribe", "fired_at": "2026-11-18 11:06:00", "data[id]": "1", "data[email]": "new@example.com"}
    query = f"token={engagement.url_token(path, SECRETS['mailchimp'])}"
    request = RawRequest("POST", path, {}, urlencode(form).encode(), query, synced.shop.time)
    assert synced.shop.receiver.receive("mailchimp", "from-mailchimp", request).status == 200
    synced.shop.work()
    assert synced.rows("SELECT email FROM profile WHERE id = 2") == [("new@example.com",)]
    assert consent(synced, 2)["state"] == "subscribed"


def test_two_accounts_of_one_platform_are_told_apart_by_the_destination_that_a_source_names(synced: Synced) -> None:
    named = RULES.replace(
        "from-hubspot: {kind: hubspot, secrets: [client-secret]}",
        "from-hubspot: {kind: hubspot, secrets: [client-secret], options: {destination: DESTINATION}}",
    )
    synced.configure("hubspot", "mailchimp", rules=named.replace("DESTINATION", "hubspot"))
    synced.deliver(order())
    synced.push()
    synced.configure("hubspot", "mailchimp", rules=named.replace("DESTINATION", "mailchimp"))
    hear(synced, "hubspot", "unsubscribe")
    assert events(synced) == [], "the record id is one of another account"
    synced.configure("hubspot", "mailchimp", rules=named.replace("DESTINATION", "hubspot"))
    synced.shop.time += SECOND
    hear(synced, "hubspot", "unsubscribe", number=2)
    assert len(events(synced)) == 1


def test_the_address_is_tried_by_a_get(synced: Synced) -> None:
    pushed_ada(synced, "mailchimp")
    path = "/webhooks/mailchimp/from-mailchimp"
    token = engagement.url_token(path, SECRETS["mailchimp"])
    receive = synced.shop.receiver.receive
    assert receive("mailchimp", "from-mailchimp", RawRequest("GET", path, {}, b"", f"token={token}")).status == 200
    assert receive("mailchimp", "from-mailchimp", RawRequest("GET", path, {}, b"", "token=x")).status == 401
    assert (
        receive("klaviyo", "from-klaviyo", RawRequest("GET", "/webhooks/klaviyo/from-klaviyo", {}, b"")).status == 405
    )


@pytest.mark.parametrize("over", ["RSGI", "Flask"])
def test_behind_a_proxy_the_public_address_is_what_was_signed(synced: Synced, over: str) -> None:
    """The proxy has a host, a scheme and a prefix of its own; what arrives here is /webhooks/... on localhost."""
    pushed_ada(synced, "hubspot")
    services = synced.shop.services
    services.settings = replace(services.settings, public_url="https://cues.example.com")
    app = create_app(services=services, now=lambda: synced.shop.time)
    receiver, tracker = current.of(app).receiver, current.of(app).tracker
    client = Client(app if over == "Flask" else OverRsgi(Ingress(app.wsgi_app, receiver, tracker)))
    body, headers, _ = said("hubspot", "unsubscribe", ADA, remote(synced, "hubspot", ADA), synced.shop.time)
    path = "/webhooks/hubspot/from-hubspot"
    assert client.post(path, data=body, headers=headers, base_url="http://localhost:8080").status_code == 200
    assert client.post(f"{path}?x=1", data=body, headers=headers).status_code == 401
    synced.shop.work()
    assert consent(synced)["state"] == "unsubscribed"
    moved = replace(services.settings, public_url="https://cues.example.org")
    services.settings = moved
    elsewhere = Client(create_app(services=services, now=lambda: synced.shop.time))
    assert elsewhere.post(path, data=body, headers=headers).status_code == 401


# --- asking -----------------------------------------------------------------------------------------------------------

ASKED = pytest.mark.parametrize("kind", ALL)


def watermark(synced: Synced, kind: str) -> tuple[int, int, str]:
    return synced.rows(f"SELECT watermark, due_at, error FROM poll WHERE destination = '{kind}'")[0]  # type: ignore[return-value]


def ask(synced: Synced) -> int:
    told = synced.shop.worker.poll_once()
    synced.shop.work()
    return told


def open_mail(synced: Synced, kind: str, email: str = ADA) -> None:
    if kind == "klaviyo":
        synced.klaviyo.engage(email, "Opened Email", **{"$message": "M1"})
    elif kind == "hubspot":
        synced.hubspot.open(email)
    else:
        synced.mailchimp.open(email, CAMPAIGN[0])


CAMPAIGN: list[str] = []


def began(synced: Synced, kind: str, **settings: Any) -> None:
    """Ada at the platform, a campaign sent, and the first look taken."""
    pushed_ada(synced, kind, engagement="15m", **settings)
    CAMPAIGN[:] = [synced.mailchimp.send("Autumn", "New boots", [ADA, "grace@example.com"])]
    assert ask(synced) == 0
    assert watermark(synced, kind) == (NOON, NOON + 15 * MINUTE, "")


@ASKED
def test_opens_and_clicks_come_by_asking_every_quarter_of_an_hour(synced: Synced, kind: str) -> None:
    began(synced, kind)
    synced.shop.time = NOON + MINUTE
    open_mail(synced, kind)
    synced.shop.time = NOON + 2 * MINUTE
    if kind == "klaviyo":
        synced.klaviyo.engage(ADA, "Clicked Email", URL="https://aurora.example/boots")
    elif kind == "hubspot":
        synced.hubspot.click(ADA)
    else:
        synced.mailchimp.click(ADA, CAMPAIGN[0], "https://aurora.example/boots")
    synced.shop.time = NOON + 15 * MINUTE - 1
    asked = len(synced.vendors[kind].requests)
    assert ask(synced) == 0 and len(synced.vendors[kind].requests) == asked, "it is not time"
    synced.shop.time += 1
    assert ask(synced) == 2
    assert watermark(synced, kind) == (NOON + 15 * MINUTE, NOON + 30 * MINUTE, "")
    told = events(synced)
    assert [(name, source, at // 1000) for name, source, at in told] == [
        ("Email Opened", f"engagement:{kind}", (NOON + MINUTE) // 1000),
        ("Email Link Clicked", f"engagement:{kind}", (NOON + 2 * MINUTE) // 1000),
    ]
    assert synced.shop.segments() == {"mailable", "opened", "clicked"}
    if kind == "mailchimp":
        [(properties,)] = synced.rows("SELECT properties FROM event WHERE name = 'Email Link Clicked'")
        assert json.loads(properties) == {
            "campaign_id": CAMPAIGN[0],
            "campaign_name": "Autumn",
            "email_subject": "New boots",
            "list_id": "a1b2c3d4e5",
            "link_url": "https://aurora.example/boots",
        }


@ASKED
def test_what_was_before_the_first_look_is_nobodys_news(synced: Synced, kind: str) -> None:
    pushed_ada(synced, kind, engagement="15m")
    CAMPAIGN[:] = [synced.mailchimp.send("Autumn", "New boots", [ADA])]
    synced.shop.time = NOON - 2 * DAY
    open_mail(synced, kind)
    synced.shop.time = NOON
    ask(synced)
    synced.shop.time = NOON + HOUR
    assert ask(synced) == 0


@ASKED
def test_our_own_pushes_are_no_news(synced: Synced, kind: str) -> None:
    began(synced, kind)
    synced.shop.time = NOON + MINUTE
    open_mail(synced, kind)
    synced.shop.time = NOON + 15 * MINUTE
    assert ask(synced) == 1
    deliveries = synced.rows("SELECT count(*) FROM event")
    for quarter in range(2, 5):
        synced.shop.time = NOON + quarter * 15 * MINUTE
        synced.deliver(order(2000 + quarter, at=synced.shop.time))  # changes the contact there
        synced.push()
        assert ask(synced) == 0
    assert synced.rows("SELECT count(*) FROM event WHERE source LIKE 'engagement:%'") == [(1,)]
    assert deliveries


@ASKED
def test_a_crash_between_telling_and_noting_repeats_harmlessly(synced: Synced, kind: str) -> None:
    began(synced, kind)
    synced.shop.time = NOON + MINUTE
    open_mail(synced, kind)
    synced.shop.time = NOON + 15 * MINUTE
    assert ask(synced) == 1
    with synced.shop.services.database.tx() as tx:
        tx.exec_driver_sql(f"UPDATE poll SET watermark = {NOON}, due_at = {NOON}")
    synced.shop.worker.refresh(force=True)
    synced.shop.worker._version = -1
    synced.shop.worker.refresh(force=True)  # a new poller, which remembers nothing
    assert ask(synced) == 1, "told again"
    assert len(events(synced)) == 1, "and known already"


@ASKED
def test_an_account_that_does_not_answer_is_asked_again_and_loses_nothing(synced: Synced, kind: str) -> None:
    began(synced, kind)
    synced.shop.time = NOON + MINUTE
    open_mail(synced, kind)
    synced.vendors[kind].faults.outage = True
    synced.shop.time = NOON + 15 * MINUTE
    assert ask(synced) == 0
    since, due, error = watermark(synced, kind)
    assert (since, error != "") == (NOON, True)
    assert NOON + 16 * MINUTE <= due <= NOON + 20 * MINUTE
    synced.vendors[kind].faults.outage = False
    synced.shop.time = due
    assert ask(synced) == 1
    assert watermark(synced, kind)[2] == ""


def test_an_unsubscription_and_a_hard_bounce_found_by_asking(synced: Synced) -> None:
    began(synced, "hubspot")
    synced.deliver(order(1002, customer=502, email="grace@example.com"))
    synced.push()
    synced.shop.time = NOON + 3 * MINUTE
    synced.hubspot.unsubscribe(ADA)
    synced.hubspot.bounce("grace@example.com")
    synced.shop.time = NOON + 10 * MINUTE
    synced.hubspot.open(ADA)  # a later change, which must not move the instant of the opt-out
    synced.shop.time = NOON + 15 * MINUTE
    assert ask(synced) == 3
    assert (consent(synced)["state"], consent(synced)["at"]) == ("unsubscribed", NOON + 3 * MINUTE)
    assert (consent(synced, 2)["state"], consent(synced, 2)["at"]) == ("invalid", NOON + 3 * MINUTE)
    assert synced.shop.desired("hubspot")["subscribed"] is False  # type: ignore[index]


def test_a_bounce_that_the_webhook_told_is_not_told_twice(synced: Synced) -> None:
    began(synced, "mailchimp")
    synced.shop.time = NOON + MINUTE
    synced.mailchimp.return_mail(ADA, CAMPAIGN[0])
    path = "/webhooks/mailchimp/from-mailchimp"
    form = {"type": "cleaned", "fired_at": "2026-11-18 11:07:40", "data[reason]": "hard"}
    form |= {"data[email]": ADA, "data[campaign_id]": CAMPAIGN[0], "data[list_id]": "a1b2c3d4e5"}
    query = f"token={engagement.url_token(path, SECRETS['mailchimp'])}"
    request = RawRequest("POST", path, {}, urlencode(form).encode(), query, synced.shop.time)
    assert synced.shop.receiver.receive("mailchimp", "from-mailchimp", request).status == 200
    synced.shop.work()
    synced.shop.time = NOON + 15 * MINUTE
    assert ask(synced) == 1
    assert [source for _, source, _ in events(synced, "Email Bounced")] == ["from-mailchimp"]
    assert consent(synced)["state"] == "invalid"


def test_many_are_told_page_by_page(synced: Synced) -> None:
    """More people than a page at either vendor holds."""
    emails = [f"p{number}@example.com" for number in range(450)]
    pushed_ada(synced, "hubspot", engagement="15m")
    synced.deliver(*(order(2000 + n, customer=700 + n, email=email) for n, email in enumerate(emails)))
    synced.push()
    ask(synced)
    for number, email in enumerate(emails):
        synced.shop.time = NOON + MINUTE + number
        synced.hubspot.open(email)
    synced.shop.time = NOON + 15 * MINUTE
    before = len(synced.hubspot.requests)
    assert ask(synced) == 450
    assert sum(one.path.endswith("/search") for one in synced.hubspot.requests[before:]) == 3
    assert len(events(synced)) == 450


def test_an_interruption_goes_on_where_the_last_page_ended(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    emails = [f"p{number}@example.com" for number in range(450)]
    pushed_ada(synced, "hubspot", engagement="15m")
    synced.deliver(*(order(2000 + n, customer=700 + n, email=email) for n, email in enumerate(emails)))
    synced.push()
    ask(synced)
    for number, email in enumerate(emails):
        synced.shop.time = NOON + MINUTE + number * SECOND
        synced.hubspot.open(email)
    synced.shop.time = NOON + 15 * MINUTE
    [(poller, _, _)] = synced.shop.worker._pollers.values()
    kept = poller._tell
    calls: list[int] = []

    def tell_once(news: Any) -> None:
        if calls:
            raise Transient("the process is going down")
        calls.append(len(news))
        kept(news)

    monkeypatch.setattr(poller, "_tell", tell_once)
    assert ask(synced) == 0
    since, due, _ = watermark(synced, "hubspot")
    assert NOON + MINUTE < since < NOON + MINUTE + 450 * SECOND, "the first page counts"
    monkeypatch.setattr(poller, "_tell", kept)
    synced.shop.time = due
    assert ask(synced) == 250
    assert len(events(synced)) == 450


@ASKED
def test_a_dry_run_is_asked_as_well_and_a_paused_account_is_not(synced: Synced, kind: str) -> None:
    began(synced, kind)
    synced.configure(kind, rules=RULES, engagement="15m", dry_run=True)
    synced.shop.time = NOON + MINUTE
    open_mail(synced, kind)
    synced.shop.time = NOON + 15 * MINUTE
    assert ask(synced) == 1
    with synced.shop.services.database.tx() as tx:
        tx.exec_driver_sql("UPDATE account SET state = 'paused'")
    open_mail(synced, kind)
    synced.shop.time = NOON + 30 * MINUTE
    assert ask(synced) == 0


def test_one_process_asks_at_a_time(synced: Synced) -> None:
    began(synced, "hubspot")
    services = synced.shop.services
    other = services.turns.of("push", "hubspot")
    assert other.take(), "another process pushes there, and asks"
    synced.shop.time = NOON + MINUTE
    open_mail(synced, "hubspot")
    synced.shop.time = NOON + 15 * MINUTE
    assert synced.shop.worker.poll_once() == 0
    other.give_back()
    assert synced.shop.worker.poll_once() == 1


@ASKED
def test_asking_keeps_to_the_limits_that_the_sender_keeps_to(synced: Synced, kind: str) -> None:
    """Both speak through one limiter: they are two clients of one account in one process."""
    began(synced, kind)
    config = synced.shop.services.configuration().destinations[kind]
    one, other = synced.shop.services.connect(config), synced.shop.services.connect(config)
    assert one._http._limiter is other._http._limiter  # type: ignore[attr-defined]
    one.close()
    other.close()


def test_the_thread_asks_until_it_is_stopped(synced: Synced) -> None:
    """As the worker runs it; the first thing told stops it, so that nothing here waits."""
    began(synced, "hubspot")
    synced.shop.time = NOON + MINUTE
    open_mail(synced, "hubspot")
    synced.shop.time = NOON + 15 * MINUTE
    stop, told = threading.Event(), []
    services = synced.shop.services
    config = services.configuration().destinations["hubspot"]

    def tell(news: Any) -> None:
        told.extend(news)
        stop.set()
        poller.wake.set()

    turn = services.turns.of("push", "hubspot")
    assert turn.take(), "the sender beside it has"
    poller = Poller(config, services.connect, turn, tell)
    thread = threading.Thread(target=poller.run, args=(stop, lambda: synced.shop.time), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert [one.topic for one in told] == ["opened"]
    turn.give_back()


def test_how_far_asking_has_come_is_shown(synced: Synced) -> None:
    began(synced, "mailchimp")
    with synced.shop.services.database.read() as connection:
        [standing] = standings(connection, ["mailchimp"], NOON)
    assert standing["engagement"] == {"until": NOON, "at": NOON, "error": ""}
    synced.mailchimp.faults.outage = True
    synced.shop.time = NOON + 15 * MINUTE
    ask(synced)
    with synced.shop.services.database.read() as connection:
        [standing] = standings(connection, ["mailchimp", "none"], NOON)[:1]
    assert standing["engagement"]["until"] == NOON and "503" in standing["engagement"]["error"]
    services = synced.shop.services
    with services.database.read() as connection:
        told = lines(status(connection, services.log, services.turns, ["mailchimp"], {}, NOON))
    assert "opens and clicks are here up to 2026-11-18T11:06:40.000Z (503" in told


def test_a_destination_that_is_removed_is_forgotten(synced: Synced) -> None:
    began(synced, "mailchimp")
    synced.configure("hubspot", rules=RULES)
    synced.shop.work()
    assert synced.rows("SELECT destination FROM poll") == []
