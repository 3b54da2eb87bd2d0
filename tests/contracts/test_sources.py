"""What every source must do, held against recordings, and against the published payloads where that folder is there."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from recordings import STORE, Recording, fetched, recordings

from connector.domain import Delivery, RawRequest
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.sources import SOURCES
from connector.sources.shopify import Shopify
from connector.sources.shopify.topics import SKIPPED, TOPICS
from tests.published import ENTITIES, IMPLIED, MEANINGLESS, PAYLOADS, PUBLISHED, SHOPIFY, UNUSABLE, listed, sent

RECORDINGS = recordings()
FETCHED = fetched()
BY_DELIVERY = {"ga4", "mixpanel", "mparticle", "segment", "rudderstack", "cloudevents", "standard_webhooks", "generic"}
"""Kinds whose bodies need not say which fact they tell: the sender's id of the delivery is all there is."""

every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: f"{one.kind}/{one.name}")

with_payloads = pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")


def test_every_source_has_recordings_and_answers_to_its_name() -> None:
    assert {one.kind for one in (*RECORDINGS, *FETCHED)} == set(SOURCES)
    assert all(source.kind == kind for kind, source in SOURCES.items())


def test_every_topic_that_is_read_is_recorded() -> None:
    recorded = {one.document["claim"]["topic"] for one in RECORDINGS if one.kind == "shopify"}
    recorded |= {one.document["fetched"] for one in FETCHED if one.kind == "shopify"}
    assert set(TOPICS) - recorded == {
        "orders/paid",  # read by the same function as orders/create
        "customers/enable",
        "products/create",
        "collections/create",
    }


@every_recording
def test_a_recording_is_genuine_and_no_other_body_is(recording: Recording) -> None:
    secrets = recording.document.get("secrets")
    if secrets is None:
        pytest.skip("recorded without its secret")
    recording.source.verify(recording.request, secrets)
    request = recording.request
    changed = [] if recording.document.get("token") else [(replace(request, body=request.body + b" "), secrets)]
    for forged, known in (
        *changed,
        (request, ["another-secret"]),
        (request, []),
        (replace(request, headers={}, query="", body=b"{}"), secrets),
    ):
        with pytest.raises(RejectedDelivery) as rejected:
            recording.source.verify(forged, known)
        assert rejected.value.status == 401
        assert rejected.value.reason == "bad_signature"


@every_recording
def test_a_recording_is_filed_as_stated(recording: Recording) -> None:
    assert recording.claimed() == recording.document["claim"]


@every_recording
def test_a_recording_means_what_it_states(recording: Recording) -> None:
    assert recording.normalised() == recording.document["normalised"]


@pytest.mark.parametrize("recording", FETCHED, ids=lambda one: f"{one.kind}/{one.name}")
def test_what_was_fetched_means_what_it_states(recording: Recording) -> None:
    assert recording.normalised() == recording.document["normalised"]
    [delivery] = recording.deliveries
    later = replace(delivery, received_at=delivery.received_at + 3_600_000, id="another-id")
    events = [recording.source.normalise(one, STORE).events for one in (delivery, later)]
    assert [event.id for event in events[0]] == [event.id for event in events[1]]


@every_recording
def test_a_key_never_shows_an_address(recording: Recording) -> None:
    assert not [claim for claim in recording.source.claim(recording.request) if "@" in claim.key]


@every_recording
def test_an_event_keeps_its_id_when_the_delivery_is_repeated_later(recording: Recording) -> None:
    ids = set()
    for first in recording.deliveries:
        later = first.received_at + 3_600_000
        again = replace(first, received_at=later, id=first.id if recording.kind in BY_DELIVERY else "another-id")
        events = [recording.source.normalise(one, STORE).events for one in (first, again)]
        assert [event.id for event in events[0]] == [event.id for event in events[1]]
        assert not ids & {event.id for event in events[0]}, "two deliveries of one request are one event"
        assert len({event.id for event in events[0]}) == len(events[0])
        ids |= {event.id for event in events[0]}


@every_recording
def test_nothing_happens_after_it_was_received(recording: Recording) -> None:
    for delivery in recording.deliveries:
        meant = recording.source.normalise(delivery, STORE)
        for fact in (*meant.events, *meant.consents, *meant.tag_changes):
            assert 946_684_800_000 <= fact.at <= delivery.received_at


# --- published payloads -----------------------------------------------------------------------------------------------


@with_payloads
@pytest.mark.parametrize("entry", SHOPIFY, ids=lambda entry: entry["file"])
def test_a_published_shopify_payload_means_what_its_topic_implies(entry: dict[str, Any]) -> None:
    source = Shopify(test_orders=True)  # Shopify's own samples are all test orders
    request = sent(entry)
    [claim] = source.claim(request)
    delivery = Delivery("shop", claim.delivery_id, claim.topic, 1_795_255_205_000, claim.headers, request.body)
    unusable = listed(entry, UNUSABLE)
    if unusable:
        with pytest.raises(UnprocessableEvent) as refused:
            source.normalise(delivery, STORE)
        assert refused.value.reason == unusable
        return
    meant = source.normalise(delivery, STORE)
    json.dumps([event.properties for event in meant.events])
    expected_skip = listed(entry, MEANINGLESS)
    if claim.topic not in TOPICS or expected_skip:
        assert meant.skipped in ({expected_skip} if expected_skip else {"not_used", "unknown_topic", *SKIPPED.values()})
        assert not meant.events and not meant.entities
        return
    assert meant.skipped is None
    assert IMPLIED.get(claim.topic, set()) <= {event.name for event in meant.events}
    family, _, action = claim.topic.partition("/")
    if meant.privacy is not None:
        assert action in ("redact", "data_request") and not meant.entities
        return
    if family in ENTITIES and action != "edited":
        kinds = [entity.kind for entity in meant.entities if entity.deleted == (action == "delete")]
        assert ENTITIES[family] in kinds


@with_payloads
def test_every_published_topic_is_known() -> None:
    topics = json.loads((PAYLOADS / "shopify_topics_2026-07.json").read_text())
    source = SOURCES["shopify"]
    unknown = [
        topic
        for topic in topics
        if topic not in TOPICS
        and source.normalise(Delivery("shop", "1", topic, 0, {}, b"{}"), STORE).skipped == "unknown_topic"
    ]
    assert unknown == []


@with_payloads
def test_published_signatures() -> None:
    vectors = json.loads((PAYLOADS / "hmac_vectors.json").read_text())["shopify_webhook"]
    assert len(vectors) >= 10
    for vector in vectors:
        headers = {vector["header"].lower(): vector["signature"]}
        request = RawRequest("POST", "/", headers, base64.b64decode(vector["body_b64"]))
        secrets = vector.get("secrets", [vector["secret"]])
        if vector["valid"]:
            SOURCES["shopify"].verify(request, secrets)
        else:
            with pytest.raises(RejectedDelivery):
                SOURCES["shopify"].verify(request, secrets)
