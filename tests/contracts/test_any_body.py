"""Whatever is done to a recorded request of any source: a meaning, a RejectedDelivery or an UnprocessableEvent, and
never another exception. Nothing that comes out could not be stored."""

import copy
import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import STORE, Recording, fetched, recordings

from connector.domain import Delivery, RawRequest
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Greets, Source
from connector.sources import SOURCES

RECORDINGS = recordings()
BODIES = [one for one in RECORDINGS if "body" in one.document]
KINDS = sorted(SOURCES)
REMOVE = object()
JUNK: list[Any] = [
    None, "", " ", "x", "\u0000", "-1", "NaN", "1e400", "٣", "9" * 30, "0.0000000000000001", "a@b.example", "@",
    "+49 (0)40", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31", "#", "x" * 5000, -1, 0, 1, 2**53,
    2**63, 2**64 - 1, 1.5, 1e308, -0.0, True, False, [], [None], [[]], ["x"], [{}], {}, {"id": 1}, {"a": {"b": []}},
]  # fmt: skip


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, as the way to it."""
    steps = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [found for step, inner in steps for found in ((*path, step), *places(inner, (*path, step)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        document = document[step]
    if value is REMOVE:
        del document[path[-1]]
    else:
        document[path[-1]] = copy.deepcopy(value)


def meant_or_refused(recording: Recording, body: bytes) -> None:
    request = replace(recording.request, body=body)
    source = recording.source
    if isinstance(source, Greets):
        source.greet(request, [])
    try:
        claims = source.claim(request)
    except RejectedDelivery as refused:
        assert 400 <= refused.status < 500 and refused.reason and refused.message
        return
    for claim in claims:
        assert claim.delivery_id and len(claim.delivery_id) <= 250 and "#" not in claim.delivery_id
        assert claim.topic and len(claim.topic) <= 250 and claim.key and "@" not in claim.key
        orjson.dumps(claim.headers)
        part = body if claim.body is None else claim.body
        delivery = Delivery("shop", claim.delivery_id, claim.topic, request.received_at, claim.headers, part)
        understood_or_refused(source, delivery)


def understood_or_refused(source: Source, delivery: Delivery) -> None:
    try:
        meant = source.normalise(delivery, STORE)
    except UnprocessableEvent as refused:
        assert refused.reason and refused.message
        return
    for fact in (*meant.events, *meant.consents, *meant.tag_changes):
        assert 946_684_800_000 <= fact.at <= delivery.received_at
    for event in meant.events:
        assert event.id and len(event.id) <= 1000 and 0 < len(event.name) <= 200
        assert b"\\u0000" not in orjson.dumps([event.id, event.name, dict(event.properties)])
    for entity in meant.entities:
        assert entity.id and 0 < entity.updated_at <= delivery.received_at + 3_600_000
        assert b"\\u0000" not in orjson.dumps(dict(entity.data))
        if entity.kind == "order" and not entity.deleted:
            assert abs(entity.data["total"]) < 1e15 and entity.data["placed_at"] <= delivery.received_at
        if entity.kind == "refund":
            assert abs(entity.data["amount"]) < 1e15 and entity.data["order_id"] and entity.data["at"]
    for identifier in (*meant.identifiers, *meant.merged_from):
        assert identifier.value.strip() == identifier.value and 0 < len(identifier.value) <= 512


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from([one for one in BODIES if one.kind == kind] or BODIES)),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([*JUNK, REMOVE])), min_size=1, max_size=4),
)
def test_a_bent_body(recording: Recording, bends: list[tuple[float, Any]]) -> None:
    body = copy.deepcopy(recording.document["body"])
    for where, value in bends:
        if ways := places(body):
            put(body, ways[min(int(where * len(ways)), len(ways) - 1)], value)
    meant_or_refused(recording, orjson.dumps(body))


@pytest.mark.parametrize(
    "recording",
    [one for one in BODIES if one.kind != "shopify" and len(json.dumps(one.document["body"])) < 2_000],
    ids=lambda one: f"{one.kind}/{one.name}",
)
def test_every_place_of_a_body_bent_in_every_way(recording: Recording) -> None:
    for path in places(recording.document["body"]):
        for value in (*JUNK, REMOVE):
            body = copy.deepcopy(recording.document["body"])
            put(body, path, value)
            meant_or_refused(recording, orjson.dumps(body))


@pytest.mark.parametrize("recording", fetched(), ids=lambda one: f"{one.kind}/{one.name}")
def test_every_place_of_a_fetched_document_bent_in_every_way(recording: Recording) -> None:
    [delivery] = recording.deliveries
    for path in places(recording.document["body"]):
        for value in (*JUNK, REMOVE):
            body = copy.deepcopy(recording.document["body"])
            put(body, path, value)
            understood_or_refused(recording.source, replace(delivery, body=orjson.dumps(body)))


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(RECORDINGS), st.binary(max_size=200))
def test_any_bytes(recording: Recording, body: bytes) -> None:
    meant_or_refused(recording, body)


NOT_USABLE = [
    b"", b"null", b"[]", b"[1]", b'"x"', b"{}", b'{"a":NaN}', b'{"a":1e400}', b"[" * 100_000, b'{"a":' * 10_000,
    b'{"id":"\\ud800"}', "{}".encode("utf-16"), b"\xff\xfe", b'[{"id":1},', b"a=1&b=%ff", b'{"id":"a\\u0000b"}',
    b'{"n":' + b"9" * 6000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", NOT_USABLE, ids=lambda body: repr(body[:20]))
def test_what_is_nothing(kind: str, body: bytes) -> None:
    for recording in [one for one in RECORDINGS if one.kind == kind][:12]:
        meant_or_refused(recording, body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_made_to_be_slow_is_not(kind: str) -> None:
    """Quadratic would be hours."""
    for piece in (b'"id":', b'{"id":1},', b'"email":"', b"[", b'"customer_id":{', b"&a="):
        for recording in [one for one in RECORDINGS if one.kind == kind][:3]:
            body = piece * (300_000 // len(piece))
            started = time.process_time()
            with suppress(RejectedDelivery):
                recording.source.claim(replace(recording.request, body=body))
            assert time.process_time() - started < 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["", " ", "\ud800", "ä", "x" * 5000, "1,2", "v1,", "=", "\x00"])
def test_headers_of_any_kind(kind: str, value: str) -> None:
    for recording in [one for one in RECORDINGS if one.kind == kind][:6]:
        for header in recording.document["headers"]:
            request = replace(recording.request, headers={**recording.document["headers"], header: value})
            with suppress(RejectedDelivery):
                recording.source.verify(request, recording.document.get("secrets", ["s"]))
                recording.source.claim(request)


def test_requests_without_anything() -> None:
    for source in SOURCES.values():
        for method in ("GET", "POST", "OPTIONS"):
            request = RawRequest(method, "/", {}, b"")
            if isinstance(source, Greets):
                with suppress(RejectedDelivery):
                    source.greet(request, ["s"])
            with pytest.raises(RejectedDelivery):
                source.verify(request, ["s"])
