"""Published payloads of other shops and tools, where their folder is there: what each implies, from the raw bytes."""

import base64
import json
import re
from typing import Any

import pytest
from recordings import STORE

from connector.domain import Delivery, Normalised, RawRequest
from connector.sources import SOURCES
from tests.published import PAYLOADS, PUBLISHED

pytestmark = pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")
RECEIVED_AT = 1_795_255_205_000
INDEX: list[dict[str, Any]] = json.loads((PAYLOADS / "INDEX.json").read_text()) if PUBLISHED else []


def of(*sources: str) -> list[dict[str, Any]]:
    return [entry for entry in INDEX if entry["source"] in sources]


def document(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PAYLOADS / entry["file"]).read_text())
    return found


def meant(kind: str, headers: dict[str, str], body: bytes) -> list[Normalised]:
    source = SOURCES[kind]
    request = RawRequest("POST", "/", headers, body, received_at=RECEIVED_AT)
    return [
        source.normalise(
            Delivery(
                "shop", one.delivery_id, one.topic, RECEIVED_AT, one.headers, body if one.body is None else one.body
            ),
            STORE,
        )
        for one in source.claim(request)
    ]


@pytest.mark.parametrize("entry", of("woocommerce"), ids=lambda entry: entry["file"])
def test_woocommerce(entry: dict[str, Any]) -> None:
    found = document(entry)
    body = json.dumps(found["body"] if entry["kind"] == "headers+body" else found).encode()
    [one] = meant("woocommerce", {"x-wc-webhook-topic": entry["topic"]}, body)
    family = entry["topic"].partition(".")[0]
    if family == "coupon":
        assert one.skipped == "not_used"
    elif family == "order":
        assert {"email"} <= {who.kind for who in one.identifiers}
        assert {"Order Completed", "Checkout Started"} & {event.name for event in one.events}
        assert all(event.properties["total"] > 0 for event in one.events if event.name != "Order Refunded")
    else:
        assert [entity.kind for entity in one.entities] == [family]


@pytest.mark.parametrize("entry", of("bigcommerce"), ids=lambda entry: entry["file"])
def test_bigcommerce(entry: dict[str, Any]) -> None:
    body = json.dumps(document(entry)["body"]).encode()
    [one] = meant("bigcommerce", {}, body)
    thing = re.sub(r"channel/[0-9*]+/", "", entry["topic"].removeprefix("store/")).partition("/")[0]
    if thing in ("customer", "order", "cart", "subscriber", "product") and one.skipped is None:
        [named] = one.fetch
        told = document(entry)["body"]["data"]
        owner = told.get("address", {}).get("customer_id") or told.get(f"{thing}_id") or told.get("id")
        assert (named.kind, named.id) == (("order", "252") if "orderId" in told else (thing, str(owner)))
    else:
        assert one.skipped == "not_used"


def test_stripe() -> None:
    [file] = [path for path in (PAYLOADS / "other_webhooks").glob("stripe*.json")]
    body = json.dumps(json.loads(file.read_text())["body"]).encode()
    [one] = meant("stripe", {}, body)
    assert one.skipped == "charge_tells"  # it is a subscription's
    assert ("email", "hook@me.com") in [(who.kind, who.value) for who in one.identifiers]


@pytest.mark.parametrize("entry", of("cloudevents"), ids=lambda entry: entry["file"])
def test_cloudevents(entry: dict[str, Any]) -> None:
    body = json.dumps(document(entry)).encode()
    request = RawRequest("POST", "/", {"content-type": "application/cloudevents+json"}, body, received_at=RECEIVED_AT)
    [claim] = SOURCES["cloudevents"].claim(request)
    assert claim.topic in (entry["topic"], "event")


# The documentation's own samples: those of its HTTP API are half a call, and its alias has no previousId.
CALLS = [
    entry
    for entry in of("segment")
    if entry["file"].startswith(("segment/ecommerce", "segment/email", "segment/webhooks", "segment/track"))
    and "alias" not in entry["file"]
]


@pytest.mark.parametrize("entry", CALLS, ids=lambda entry: entry["file"])
def test_segment(entry: dict[str, Any]) -> None:
    found = document(entry)
    if "type" not in found or not {"userId", "anonymousId"} & found.keys():
        found = {"type": "track", "userId": "u1", **found}
    [one] = meant("segment", {}, json.dumps(found).encode())
    if found["type"] == "delete":
        assert one.privacy == "erase"
        return
    assert one.identifiers
    if found["type"] == "track":
        assert [event.name for event in one.events]


def test_woocommerce_and_adobe_vectors_and_samples() -> None:
    [vector] = json.loads((PAYLOADS / "hmac_vectors.json").read_text())["woocommerce"]
    headers = {vector["header"].lower(): vector["signature"]}
    SOURCES["woocommerce"].verify(RawRequest("POST", "/", headers, vector["body"].encode()), [vector["secret"]])
    assert len(base64.b64decode(vector["signature"])) == 32
    body = (PAYLOADS / "adobe_commerce" / "sample-event__adobe-docs.json").read_bytes()
    code = "com.adobe.commerce.demo.observer.catalog_product_save_commit_after"
    [one] = meant("adobe_commerce", {"x-adobe-event-code": code}, body)
    [entity] = one.entities
    assert (entity.kind, entity.id, entity.data["price"], entity.data["handle"]) == ("product", "3", 123.0, "test2")
