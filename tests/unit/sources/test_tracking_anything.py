"""Any document, and the published ones: understood or refused with a reason, and never anything else."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.domain import Delivery, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.sources import SOURCES
from connector.sources.segment_api.calls import PIXEL, TYPES, Grant, open_call, split
from tests.published import PAYLOADS, PUBLISHED

NOW = 1_795_000_000_000
SOURCE = SOURCES["segment_api"]
CAPTURED = sorted((PAYLOADS / "sdk_requests").glob("*_captured*.json")) if PUBLISHED else []
PUBLISHED_EVENTS = sorted((PAYLOADS / "segment").glob("*.json")) if PUBLISHED else []

MISPRINTED = {
    "http-api_Batch__segment-docs": "bad_instant",  # 2015-2-02
    "webhooks_alias__segment-docs": "bad_id",  # "Previous ID" for previousId
}

texts = st.text(max_size=12) | st.sampled_from(["", "null", "ada@example.com", "+15550109999", "2026-11-18T10:00:00Z"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
names = [
    *"type event name userId anonymousId previousId groupId messageId timestamp sentAt".split(),
    *"traits properties context".split(),
    *"email phone address products price quantity order_id total currency page campaign consent pixel data id".split(),
    *"categoryPreferences productVariant cartLine cart checkout clientId customer batch writeKey".split(),
]
objects = st.recursive(
    st.dictionaries(st.sampled_from(names), scalars, max_size=8),
    lambda inner: st.dictionaries(st.sampled_from(names), inner | scalars | st.lists(inner, max_size=2), max_size=8),
    max_leaves=12,
)


def meant(topic: str, body: bytes, trust: str = "browser") -> None:
    """Understands it or says why not; what was understood can be stored."""
    delivery = Delivery("site", "d1", topic, NOW, {"trust": trust, "shop": "shopify:shop"}, body)
    try:
        found = SOURCE.normalise(delivery, StoreInfo())
    except UnprocessableEvent as error:
        assert error.reason
        return
    for event in found.events:
        assert len(orjson.dumps(event.properties)) < 200_000
        assert event.at <= NOW
    for entity in found.entities:
        orjson.dumps(entity.data)
    assert len({one.kind for one in found.identifiers}) == len(found.identifiers) <= 6


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((*TYPES, PIXEL)), objects, st.sampled_from(["browser", "server"]))
def test_any_event(topic: str, document: Any, trust: str) -> None:
    meant(topic, json.dumps({"userId": "u1", "event": "A", **document}).encode(), trust)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["/v1/batch", "/v1/track", "/v1/pixel", "/v1/t"]), objects | values)
def test_any_request(path: str, document: Any) -> None:
    request = RawRequest("POST", path, {}, json.dumps(document).encode())
    try:
        claims = split(open_call(request), Grant("browser"))
    except RejectedDelivery as error:
        assert error.status == 400
        return
    for claim in claims:
        assert claim.delivery_id and claim.key and claim.body is not None
        assert "@" not in claim.key.replace("email:", "")
        meant(claim.topic, claim.body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "br"]))
def test_any_bytes(body: bytes, encoding: str) -> None:
    try:
        split(open_call(RawRequest("POST", "/v1/batch", {"content-encoding": encoding}, body)), Grant("server"))
    except RejectedDelivery as error:
        assert error.status == 400


@pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")
def test_what_the_clients_were_seen_to_send_is_understood() -> None:
    seen = 0
    for path in CAPTURED:
        captured = json.loads(path.read_text())
        if not captured["path"].endswith("/v1/batch"):
            continue
        request = RawRequest("POST", "/v1/batch", {}, json.dumps(captured["body"]).encode())
        for claim in split(open_call(request), Grant("server")):
            delivery = Delivery("site", claim.delivery_id, claim.topic, NOW, claim.headers, claim.body or b"")
            found = SOURCE.normalise(delivery, StoreInfo())
            assert found.identifiers and found.skipped is None, path.name
            seen += 1
    assert seen >= 10


@pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")
@pytest.mark.parametrize("path", PUBLISHED_EVENTS, ids=lambda path: path.stem)
def test_a_published_event_is_understood(path: Any) -> None:
    """Of the specification's examples; those that name nobody are told of somebody."""
    document = json.loads(path.read_text())
    for event in document.get("batch", [document]):
        if event.get("type") not in TYPES:
            continue
        told = {"userId": "u1", "messageId": "m1", **{k: v for k, v in event.items() if v is not None}}
        delivery = Delivery("site", "m1", told["type"], NOW, {"trust": "server"}, json.dumps(told).encode())
        try:
            found = SOURCE.normalise(delivery, StoreInfo())
        except UnprocessableEvent as error:
            assert error.reason == MISPRINTED.get(path.stem), told
        else:
            assert found.events or found.entities or found.merged_from, told
