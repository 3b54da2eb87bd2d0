"""Whatever is done to a true body, there comes out a meaning or an UnprocessableEvent, never another exception."""

import copy
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.domain import Delivery, RawRequest, StoreInfo
from connector.errors import UnprocessableEvent
from connector.sources.shopify import Shopify
from connector.sources.shopify.topics import TOPICS

RECEIVED_AT = 1_795_255_205_000
SOURCE = Shopify(test_orders=True)
RECORDED = [
    document
    for path in sorted((Path(__file__).parents[2] / "recorded" / "sources" / "shopify").glob("*.json"))
    if "body" in (document := json.loads(path.read_text())) and "headers" in document
]
JUNK: list[Any] = [
    None,
    "",
    "x",
    "\u0000",
    " ",
    "-1",
    "1e400",
    "٣",
    "9" * 30,
    "0.0000000000000001",
    "gid://shopify/Customer/1",
    "gid://shopify/Cart/?key",
    "a@b.example",
    "ü@exämple.com",
    "+49 (0)40",
    "2999-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31",
    -1,
    0,
    1,
    2**53,
    2**63,
    2**64 - 1,
    1.5,
    1e308,
    -0.0,
    True,
    False,
    [],
    [None],
    [[]],
    ["x"],
    [{}],
    {},
    {"id": 1},
    {"nodes": [1]},
    {"edges": [None, {"node": {}}]},
    {"shop_money": {"amount": "1"}},
]
REMOVE = object()


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


def meant_or_refused(delivery: Delivery) -> None:
    try:
        meant = SOURCE.normalise(delivery, StoreInfo())
    except UnprocessableEvent as refused:
        assert refused.reason and refused.message.startswith("/")
        return
    for fact in (*meant.events, *meant.consents, *meant.tag_changes):
        assert 946_684_800_000 <= fact.at <= RECEIVED_AT
    for entity in meant.entities:
        assert entity.id and 0 < entity.updated_at <= RECEIVED_AT + 3_600_000
        assert b"\\u0000" not in orjson.dumps(dict(entity.data))
        if entity.kind == "order" and not entity.deleted:
            assert abs(entity.data["total"]) < 1e15 and entity.data["placed_at"] <= RECEIVED_AT
        if entity.kind == "refund":
            assert isinstance(entity.data["amount"], float) and entity.data["order_id"].isdecimal()
    for event in meant.events:
        orjson.dumps(dict(event.properties))
    assert all(identifier.value.strip() for identifier in (*meant.identifiers, *meant.merged_from))


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(RECORDED),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([*JUNK, REMOVE])), min_size=1, max_size=4),
)
def test_a_bent_body(recording: dict[str, Any], bends: list[tuple[float, Any]]) -> None:
    body = copy.deepcopy(recording["body"])
    for where, value in bends:
        if ways := places(body):
            put(body, ways[min(int(where * len(ways)), len(ways) - 1)], value)
    request = RawRequest("POST", "/", recording["headers"], orjson.dumps(body))
    [claim] = SOURCE.claim(request)
    meant_or_refused(Delivery("shop", claim.delivery_id, claim.topic, RECEIVED_AT, claim.headers, request.body))


@pytest.mark.parametrize("document", [one for one in RECORDED if len(json.dumps(one["body"])) < 3_000][::3])
def test_every_place_of_a_body_bent_in_every_way(document: dict[str, Any]) -> None:
    for path in places(document["body"]):
        for value in (*JUNK, REMOVE):
            body = copy.deepcopy(document["body"])
            put(body, path, value)
            headers = document["claim"]["headers"]
            topic = document["claim"]["topic"]
            meant_or_refused(Delivery("shop", "1", topic, RECEIVED_AT, headers, orjson.dumps(body)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*TOPICS, "web_pixels/product_viewed"]), st.binary(max_size=200))
def test_any_bytes(topic: str, body: bytes) -> None:
    meant_or_refused(Delivery("shop", "1", topic, RECEIVED_AT, {}, body))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*TOPICS, "web_pixels/product_viewed"]),
    st.dictionaries(
        st.sampled_from(["id", "customer", "email", "line_items", "token", "total_price", "data", "clientId", "tags"]),
        st.recursive(st.sampled_from(JUNK), lambda inner: st.lists(inner, max_size=3)),
    ),
)
def test_any_object(topic: str, body: dict[str, Any]) -> None:
    meant_or_refused(Delivery("shop", "1", topic, RECEIVED_AT, {}, orjson.dumps(body)))
