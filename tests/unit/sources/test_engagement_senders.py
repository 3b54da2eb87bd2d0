"""Mail platforms as senders: signatures by published and independent vectors, forged, replayed and behind a proxy."""

import hashlib
import hmac
import json
from base64 import b64encode
from typing import Any

import pytest

from connector.clock import parse_instant
from connector.config.schema import configuration_from
from connector.config.yaml_file import InvalidConfiguration, parse
from connector.domain import Delivery, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Reply
from connector.sources import configured
from connector.sources.engagement import MEANINGS, url_token
from connector.sources.hubspot import HubSpot
from connector.sources.klaviyo import METRICS, Klaviyo
from connector.sources.mailchimp import Mailchimp
from tests.published import PAYLOADS, PUBLISHED

DOCUMENTED = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
"""The client secret of HubSpot's documented examples."""


def refused(source: Any, request: RawRequest, *secrets: str) -> str:
    with pytest.raises(RejectedDelivery) as rejected:
        source.verify(request, secrets)
    assert rejected.value.status == 401
    return rejected.value.reason


# --- HubSpot ----------------------------------------------------------------------------------------------------------


def v3(body: bytes, *, uri: str, secret: str, stamp: int, method: str = "POST") -> dict[str, str]:
    signed = f"{method}{uri}".encode() + body + str(stamp).encode()
    signature = b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(stamp)}


@pytest.mark.parametrize(
    ("secret", "origin", "path", "body", "stamp", "signature"),
    [
        (  # from the tests of HubSpot's own client
            DOCUMENTED,
            "https://www.example.com",
            "/webhook_uri",
            b"{'example_field':'example_value'}",
            15_000_000,
            "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
        ),
        (
            "hs-test-secret",
            "https://connector.example.com",
            "/webhooks/hubspot",
            b'[{"eventId":1,"subscriptionType":"contact.propertyChange"}]',
            1_732_183_200_000,
            "xjITTbMuIXqGiRleGGzsMmptxxIPJLeEmIXcChTXl8Y=",
        ),
    ],
)
def test_hubspot_v3(secret: str, origin: str, path: str, body: bytes, stamp: int, signature: str) -> None:
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(stamp)}
    request = RawRequest("POST", path, headers, body, "", stamp + 1_000, origin)
    HubSpot().verify(request, ["another", secret])
    HubSpot().verify(RawRequest("POST", path, headers, body, "", stamp + 300_000, origin), [secret])
    late = RawRequest("POST", path, headers, body, "", stamp + 300_001, origin)
    assert refused(HubSpot(), late, secret) == "stale_signature"
    for other in (
        RawRequest("PUT", path, headers, body, "", stamp, origin),
        RawRequest("POST", path + "/x", headers, body, "", stamp, origin),
        RawRequest("POST", path, headers, body, "a=1", stamp, origin),
        RawRequest("POST", path, headers, body + b" ", "", stamp, origin),
        RawRequest("POST", path, headers, body, "", stamp, "http://127.0.0.1:8080"),
        RawRequest("POST", path, headers | {"x-hubspot-request-timestamp": str(stamp + 1)}, body, "", stamp, origin),
        RawRequest("POST", path, headers | {"x-hubspot-request-timestamp": "soon"}, body, "", stamp, origin),
        RawRequest("POST", path, headers | {"x-hubspot-signature-v3": signature[:-4]}, body, "", stamp, origin),
    ):
        assert refused(HubSpot(), other, secret) == "bad_signature"
    assert refused(HubSpot(), request, "another") == "bad_signature"


def test_hubspot_decodes_only_the_escapes_that_it_lists_and_takes_either() -> None:
    """%2B and %20 stay: HubSpot's list is : / ? @ ! $ ' ( ) * , ;"""
    origin, path, query, now = "https://cues.example.com", "/webhooks/hubspot/mail", "a=%2Fb%3A%2B%20%2C", 1_000_000
    decoded = f"{origin}{path}?a=/b:%2B%20,"
    for uri, good in (
        (decoded, True),
        (f"{origin}{path}?{query}", True),
        (f"{origin}{path}?a=/b:+%20,", False),
        (f"{origin}{path}?a=/b:%2B ,", False),
    ):
        request = RawRequest(
            "POST", path, v3(b"[]", uri=uri, secret="s", stamp=now), b"[]", query, received_at=now, origin=origin
        )
        if good:
            HubSpot().verify(request, ["s"])
        else:
            assert refused(HubSpot(), request, "s") == "bad_signature"


V1_BODY = (
    b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
    b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM",'
    b'"changeFlag":"NEW","appId":54321}]'
)
V1 = {
    "x-hubspot-signature": "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de",
    "x-hubspot-signature-version": "v1",
}


def test_hubspot_v1_and_v2_by_its_documented_examples() -> None:
    """Only where they are configured: without an instant a request can be repeated for ever."""
    v2 = {
        "x-hubspot-signature": "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900",
        "x-hubspot-signature-version": "v2",
    }
    old = RawRequest("POST", "/webhook_uri", V1, V1_BODY, origin="https://www.example.com")
    newer = RawRequest(
        "POST", "/webhook_uri", v2, b'{"example_field":"example_value"}', origin="https://www.example.com"
    )
    HubSpot(["v1"]).verify(old, [DOCUMENTED])
    HubSpot(["v3", "v2", "v1"]).verify(newer, ["another", DOCUMENTED])
    assert refused(HubSpot(), old, DOCUMENTED) == "bad_signature"
    assert refused(HubSpot(["v3", "v1"]), newer, DOCUMENTED) == "bad_signature"
    elsewhere = RawRequest("POST", "/webhook_uri", v2, newer.body, origin="https://www.example.org")
    assert refused(HubSpot(["v2"]), elsewhere, DOCUMENTED) == "bad_signature"


def test_a_wrong_v3_is_not_made_good_by_an_older_signature() -> None:
    headers = V1 | v3(V1_BODY, uri="https://x.example/y", secret="forged", stamp=5)
    request = RawRequest("POST", "/y", headers, V1_BODY, "", 5, "https://x.example")
    assert refused(HubSpot(["v3", "v1"]), request, DOCUMENTED) == "bad_signature"


@pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "skipped"), [("CONTACT", "nothing_new"), ("COMPANY", "not_used"), ("DEAL", "not_used")]
)
def test_a_real_workflow_webhook_of_hubspot_is_filed_and_understood(name: str, skipped: str) -> None:
    captured = json.loads((PAYLOADS / "other_webhooks" / f"hubspot_{name}__hookdeck.json").read_text())
    body = json.dumps(captured["body"]).encode()
    request = RawRequest("POST", "/webhooks/hubspot/mail", captured["headers"], body)
    [claim] = HubSpot().claim(request)
    assert (claim.topic, "@" in claim.key) == ("workflow", False)
    assert claim.key.startswith("email:") is (name == "CONTACT")
    delivery = Delivery("mail", claim.delivery_id, claim.topic, 1_795_000_000_000, claim.headers, body)
    assert HubSpot().normalise(delivery, StoreInfo()).skipped == skipped
    if name == "CONTACT":  # the same contact, once they have opted out
        captured["body"]["properties"]["hs_email_optout"] = {
            "value": "true",
            "versions": [{"value": "true", "source-type": "EMAIL", "timestamp": 1680448200000}],
        }
        told = HubSpot().normalise(
            Delivery("mail", "1", "workflow", 1_795_000_000_000, claim.headers, json.dumps(captured["body"]).encode()),
            StoreInfo(),
        )
        assert [(one.state, one.at) for one in told.consents] == [("unsubscribed", 1680448200000)]
        assert (told.contact, told.identifiers[0].kind) == ("251", "email")


def test_a_hundred_events_are_a_hundred_deliveries_and_a_repeat_is_the_same() -> None:
    events = [
        {
            "eventId": 7,  # not unique, which HubSpot says itself
            "portalId": 1,
            "subscriptionId": 2,
            "objectId": 500 + number,
            "occurredAt": 1_795_000_000_000,
            "subscriptionType": "contact.propertyChange",
            "propertyName": "hs_email_optout",
            "propertyValue": "true",
            "attemptNumber": 0,
        }
        for number in range(100)
    ]
    first = HubSpot().claim(RawRequest("POST", "/", {}, json.dumps(events).encode()))
    again = HubSpot().claim(
        RawRequest("POST", "/", {}, json.dumps([{**e, "attemptNumber": 3} for e in events]).encode())
    )
    assert len({claim.delivery_id for claim in first}) == 100
    assert [claim.delivery_id for claim in first] == [claim.delivery_id for claim in again]
    assert len({claim.key for claim in first}) == 100


def test_an_opt_out_of_one_subscription_type_counts_where_it_is_named() -> None:
    body = json.dumps(
        {
            "subscriptionType": "contact.propertyChange",
            "objectId": 1,
            "occurredAt": 1_795_000_000_000,
            "propertyName": "hs_email_optout_101",
            "propertyValue": "true",
        }
    ).encode()
    delivery = Delivery("mail", "1", "contact.propertyChange", 1_795_000_000_001, {}, body)
    named = configured(HubSpot(), {"subscription": 101, "destination": "hubspot"})
    assert [one.state for one in named.normalise(delivery, StoreInfo()).consents] == ["unsubscribed"]
    assert HubSpot().normalise(delivery, StoreInfo()).skipped == "not_used"


# --- Klaviyo ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "stamp", "body", "signature"),
    [
        (
            "0123456789abcdef0123",
            "Sat, 21 Nov 2026 10:00:00 GMT",
            b'{"data":[],"meta":{"klaviyo_webhook_id":"x"}}',
            "c24ac3cd0603c6d8000175740a5496e5d14193fbafdd94d07667e91494b1aa08",
        ),
        (  # made by others, in the shape of Klaviyo's documented example
            "klaviyo-test-secret",
            "Thu, 04 Jan 2024 18:05:25 GMT",
            b'{"data":[{"external_id":"4L3cwQae2TX","topic":"event:klaviyo.sent_sms"}],"meta":{"klaviyo_webhook_id":'
            b'"a8b890458b4bbfaa26d961471b83c101d6de23bd826e7e5173a15310985ec3cb"}}',
            "5aa0e720d80b3a04ca04baf3c65cdfe31da57504af69fee8da29c35d45f0596b",
        ),
    ],
)
def test_klaviyo_signatures(secret: str, stamp: str, body: bytes, signature: str) -> None:
    at = {"Sat": "2026-11-21T10:00:00Z", "Thu": "2024-01-04T18:05:25Z"}[stamp[:3]]
    now = parse_instant(at)
    headers = {"klaviyo-signature": signature, "klaviyo-timestamp": stamp}
    Klaviyo().verify(RawRequest("POST", "/", headers, body, "", now + 299_000), ["older", secret])
    late = RawRequest("POST", "/", headers, body, "", now + 301_000)
    assert refused(Klaviyo(), late, secret) == "stale_signature"
    for other in (
        RawRequest("POST", "/", headers, body + b" ", "", now),
        RawRequest("POST", "/", headers | {"klaviyo-timestamp": stamp.replace(":0", ":1", 1)}, body, "", now),
        RawRequest("POST", "/", headers | {"klaviyo-timestamp": ""}, body, "", now),
        RawRequest("POST", "/", headers | {"klaviyo-timestamp": "yesterday"}, body, "", now),
        RawRequest("POST", "/", headers | {"klaviyo-signature": signature[:-2]}, body, "", now),
    ):
        assert refused(Klaviyo(), other, secret) == "bad_signature"
    assert refused(Klaviyo(), RawRequest("POST", "/", headers, body, "", now), "older") == "bad_signature"


def test_the_webhook_of_a_klaviyo_request_is_the_one_of_its_body() -> None:
    body = b'{"data":[{"external_id":"1","topic":"event:klaviyo.opened_email"}],"meta":{"klaviyo_webhook_id":"x"}}'
    headers = {"klaviyo-signature": "00", "klaviyo-timestamp": ""}
    assert len(Klaviyo().claim(RawRequest("POST", "/", headers | {"klaviyo-webhook-id": "x"}, body))) == 1
    for other in ({"klaviyo-webhook-id": "y"}, {}):
        with pytest.raises(RejectedDelivery) as rejected:
            Klaviyo().claim(RawRequest("POST", "/", headers | other, body))
        assert rejected.value.status == 401


PATH = "/webhooks/klaviyo/mail"


def test_a_flow_needs_both_the_token_and_the_secret() -> None:
    token = url_token(PATH, "flow-secret")
    secret = {"x-storecue-token": "flow-secret"}
    Klaviyo().verify(RawRequest("POST", PATH, secret, b"{}", f"token={token}"), ["older", "flow-secret"])
    for path, headers, query in (
        (PATH, secret, ""),
        (PATH, {}, f"token={token}"),
        (PATH, {"x-storecue-token": token}, f"token={token}"),
        (PATH, {"x-storecue-token": "older"}, "token=flow-secret"),
        ("/webhooks/klaviyo/other", secret, f"token={token}"),
        (PATH, secret, f"token={token[:-1]}"),
        (PATH, secret, "token=%ff"),
    ):
        assert refused(Klaviyo(), RawRequest("POST", path, headers, b"{}", query), "flow-secret") == "bad_signature"


def test_the_template_is_json_names_every_event_and_shows_no_secret() -> None:
    address = f"https://cues.example.com{PATH}"
    told = Klaviyo().paste(address, ["flow-secret", "older"])
    template = json.loads(told[told.index("{\n") : told.rindex("}") + 1])
    assert {"event", "email", "message", "variation"} <= template.keys()
    assert f"{address}?token={url_token(PATH, 'flow-secret')}" in told
    assert "flow-secret" not in told
    assert all(name in told for name in METRICS)
    assert {METRICS[name] for name in METRICS} <= MEANINGS.keys()


def test_a_template_filled_in_twice_is_one_fact_without_the_events_id_and_two_with_it() -> None:
    def key(received_at: int, **more: str) -> str:
        body = {"event": "Opened Email", "email": "ada@example.com", "message": "M1", "event_id": "", **more}
        [claim] = Klaviyo().claim(RawRequest("POST", PATH, {}, json.dumps(body).encode()))
        told = Delivery("mail", claim.delivery_id, claim.topic, received_at, claim.headers, json.dumps(body).encode())
        return Klaviyo().normalise(told, StoreInfo()).events[0].id

    assert key(1_795_000_000_000) == key(1_795_000_900_000)
    assert key(1_795_000_000_000, message="M2") != key(1_795_000_000_000)
    assert key(1_795_000_000_000, event_id="a") != key(1_795_000_000_000, event_id="b")


# --- Mailchimp --------------------------------------------------------------------------------------------------------

HOOK = "/webhooks/mailchimp/mail"
SIGNED = (
    b"type=unsubscribe&fired_at=2026-11-21+10%3A00%3A00&data%5Baction%5D=unsub"
    b"&data%5Bemail%5D=ada%40example.com&data%5Blist_id%5D=a6b5da1054"
)
SIGNATURE = "t=1718000000,v1=b9a0cf8a1ef6a2ea0c3efa10835ac571f4f53027c79efdd2fe1ba2108b9d9ad9"


def hook(signature: str | None, *, token: str = "", body: bytes = SIGNED, at: int = 1_718_000_000_000) -> RawRequest:
    headers = {} if signature is None else {"x-mailchimp-signature": signature}
    return RawRequest("POST", HOOK, headers, body, f"token={token or url_token(HOOK, 'ours')}", at)


def test_mailchimp_signatures_and_the_token_beside_them() -> None:
    secrets = ("ours", "mc-test-secret")
    for source in (Mailchimp(), Mailchimp(signed=True)):
        source.verify(hook(SIGNATURE), secrets)
        source.verify(hook(f"t=1718000000,v1={'0' * 64},{SIGNATURE.partition(',')[2]}"), secrets)
        assert refused(source, hook(SIGNATURE, at=1_718_000_301_000), *secrets) == "stale_signature"
        assert refused(source, hook(SIGNATURE, token="guessed"), *secrets) == "bad_signature"
        for wrong in (
            "",
            "v1=00",
            SIGNATURE.replace("t=1718000000", "t=1718000001"),
            SIGNATURE.replace("v1=b9", "v1=c9"),
        ):
            assert refused(source, hook(wrong), *secrets) == "bad_signature"
        assert refused(source, hook(SIGNATURE, body=SIGNED + b"&x=1"), *secrets) == "bad_signature"
    Mailchimp().verify(hook(None), secrets)  # older webhooks are not signed
    assert refused(Mailchimp(signed=True), hook(None), *secrets) == "bad_signature"


def test_mailchimp_tries_the_address_by_a_get() -> None:
    token = url_token(HOOK, "ours")
    assert Mailchimp().greet(RawRequest("GET", HOOK, {}, b"", f"token={token}"), ["ours"]) == Reply()
    assert Mailchimp().greet(RawRequest("POST", HOOK, {}, b"", f"token={token}"), ["ours"]) is None
    with pytest.raises(RejectedDelivery) as rejected:
        Mailchimp().greet(RawRequest("GET", HOOK, {}, b"", "token=x"), ["ours"])
    assert rejected.value.status == 401


def test_what_is_pasted_shows_no_secret() -> None:
    told = Mailchimp().paste(f"https://cues.example.com{HOOK}", ["ours-secret"])
    assert url_token(HOOK, "ours-secret") in told and "ours-secret" not in told
    assert "hs_email_optout_101" in HubSpot(["v3"], "101").paste(
        "https://cues.example.com/webhooks/hubspot/mail", ["s"]
    )


@pytest.mark.parametrize("body", [b"", b"type=", b"type=%00", b"\xff=1", b"type=Sub!"])
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedDelivery) as rejected:
        Mailchimp().claim(RawRequest("POST", HOOK, {}, body))
    assert rejected.value.status == 400


def test_a_form_without_an_address_is_a_dead_letter() -> None:
    for body in (b"type=subscribe&data[email]=nobody", b"type=upemail&data[old_email]=ada@example.com"):
        with pytest.raises(UnprocessableEvent):
            Mailchimp().normalise(Delivery("mail", "1", "x", 1_795_000_000_000, {}, body), StoreInfo())


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "pointer"),
    [
        (Klaviyo(), {"destination": 1}, "/destination"),
        (Klaviyo(), {"sinatures": ["v3"]}, "/sinatures"),
        (HubSpot(), {"signatures": ["v4"]}, "/signatures"),
        (HubSpot(), {"signatures": []}, "/signatures"),
        (HubSpot(), {"subscription": "Newsletter"}, "/subscription"),
        (Mailchimp(), {"signed": "yes"}, "/signed"),
    ],
)
def test_options_are_looked_at(source: Any, options: dict[str, Any], pointer: str) -> None:
    with pytest.raises(DefinitionError) as wrong:
        configured(source, options)
    assert wrong.value.pointer == pointer


def test_the_destination_that_a_source_names_is_there() -> None:
    text = """version: 1
sources:
  mail: {kind: hubspot, secrets: [hush-hush-hush], options: {destination: hubspto}}
destinations:
  hubspot: {kind: hubspot, credentials: {access_token: pat-1}}
"""
    with pytest.raises(InvalidConfiguration) as wrong:
        configuration_from(parse(text))
    assert '/sources/mail/options/destination: there is no destination "hubspto"; did you mean "hubspot"?' in str(
        wrong.value
    )
    assert configuration_from(parse(text.replace("hubspto", "hubspot"))).sources["mail"].options
