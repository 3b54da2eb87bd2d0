import json
import time
from typing import Any

import pytest

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources.shopify import Shopify

ID = 9223372036854775001
GID = f"gid://shopify/Customer/{ID}"


def claimed(headers: dict[str, str], body: bytes) -> Claim:
    [claim] = Shopify().claim(RawRequest("POST", "/", headers, body))
    return claim


def key(topic: str, body: Any) -> str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return claimed({"x-shopify-topic": topic, "x-shopify-webhook-id": "w"}, raw).key


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("orders/create", {"id": 1, "email": "a@example.com", "customer": {"id": ID, "admin_graphql_api_id": GID}}),
        ("orders/create", {"id": 1, "email": "a@example.com", "customer": {"email": "a@example.com", "id": ID}}),
        ("orders/create", {"id": 1, "customer": {"id": 9223372036854775000, "admin_graphql_api_id": GID}}),
        ("customers/update", {"id": ID, "email": "a@example.com"}),
        ("customers/delete", {"id": 9223372036854775000, "admin_graphql_api_id": GID}),
        ("customers_email_marketing_consent/update", {"customer_id": ID, "email_address": "a@example.com"}),
        ("customers_marketing_consent/update", {"id": ID, "phone": "+491"}),
        ("customer.joined_segment", {"shop_id": "gid://shopify/Shop/1", "customer_id": GID}),
        ("customer.tags_added", {"customerId": GID, "tags": []}),
        ("customers/merge", {"admin_graphql_api_customer_kept_id": GID}),
        (
            "customers/merge",
            {
                "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/5",
                "admin_graphql_api_customer_kept_id": GID,
            },
        ),
        ("customers/redact", {"shop_id": 9, "customer": {"id": ID, "email": "a@example.com"}}),
        ("web_pixels/product_viewed", {"id": "e", "clientId": "c", "customer": {"id": str(ID)}}),
        ("orders/create", json.dumps({"customer": {"admin_graphql_api_id": GID}}).replace("/", "\\/").encode()),
        ("orders/create", json.dumps({"customer": {"id": ID}}, indent=4).encode()),
    ],
)
def test_every_spelling_of_a_customer_is_one_key(topic: str, body: Any) -> None:
    assert key(topic, body) == f"customer:{ID}"


def test_an_address_decides_when_there_is_no_customer_and_does_not_show() -> None:
    keys = {
        key("orders/create", {"id": 1, "customer": None, "email": "Gast@Example.com"}),
        key("checkouts/create", {"email": "gast@example.com", "token": "t", "cart_token": "c"}),
        key("customers/redact", {"customer": {"email": "GAST@example.com"}}),
    }
    assert len(keys) == 1
    assert "gast" not in keys.pop().lower()


@pytest.mark.parametrize(
    ("topic", "body", "expected"),
    [
        ("carts/update", {"id": "c1", "token": "c1"}, "cart:c1"),
        ("checkouts/update", {"email": None, "cart_token": "c1", "token": "t1"}, "cart:c1"),
        ("checkouts/update", {"email": "", "cart_token": None, "token": "t1"}, "checkout:t1"),
        ("orders/create", {"id": 7, "cart_token": "c1", "token": "orders-own", "customer": None}, "cart:c1"),
        ("orders/create", {"id": 7, "cart_token": None, "checkout_token": "t1", "customer": None}, "checkout:t1"),
        ("orders/create", {"id": 7, "customer": None, "token": "orders-own"}, "order:7"),
        ("refunds/create", {"id": 8, "order_id": 7}, "order:7"),
        ("orders/delete", {"id": 7}, "order:7"),
        ("web_pixels/checkout_started", {"id": "e", "clientId": "c", "data": {"email": "a@example.com"}}, "client:c"),
        ("products/update", {"id": 3}, "thing:3"),
        ("bulk_operations/finish", {"status": "completed"}, "delivery:w"),
        ("orders/create", b"\xff{not json", "delivery:w"),
        ("orders/create", b"", "delivery:w"),
    ],
)
def test_what_decides_when_nobody_is_named(topic: str, body: Any, expected: str) -> None:
    assert key(topic, body) == expected


@pytest.mark.parametrize("topic", ["", "a topic", "a/b\n", "x" * 101, "ördner/create"])
def test_a_topic_is_needed(topic: str) -> None:
    with pytest.raises(RejectedDelivery) as refused:
        Shopify().claim(RawRequest("POST", "/", {"x-shopify-topic": topic}, b"{}"))
    assert refused.value.status == 400
    assert refused.value.reason == "missing_topic"


def test_without_a_webhook_id_the_words_are_the_id() -> None:
    def id_(topic: str, body: bytes, **headers: str) -> str:
        return claimed({"x-shopify-topic": topic, **headers}, body).delivery_id

    assert id_("orders/paid", b'{"id":1}') == id_("orders/paid", b'{"id":1}')
    assert len({id_("orders/paid", b"{}"), id_("orders/create", b"{}"), id_("orders/paid", b"[]")}) == 3
    assert len(id_("orders/paid", b"{}", **{"x-shopify-webhook-id": "w" * 100_000})) < 100


def test_only_headers_that_are_needed_are_kept_in_one_spelling() -> None:
    headers = {
        "x-shopify-topic": "orders/paid",
        "x-shopify-hmac-sha256": "secret",
        "x-shopify-triggered-at": "2026-11-21T10:00:00Z",
        "cookie": "secret",
    }
    kept = claimed(headers, b"{}").headers
    assert kept == {"shopify-topic": "orders/paid", "shopify-triggered-at": "2026-11-21T10:00:00Z"}


@pytest.mark.parametrize("piece", [b'"customer":{', b'"customer"', b'email":"', b"shopify/Customer", b'"id":'])
def test_a_body_made_to_be_slow_to_search_is_not(piece: bytes) -> None:
    body = piece * (2_000_000 // len(piece))
    started = time.process_time()
    Shopify().claim(RawRequest("POST", "/", {"x-shopify-topic": "customers/update"}, body))
    assert time.process_time() - started < 5  # quadratic would be hours
