"""Other shops' deliveries from the signed request to segments: bought once, abandoned, refunded, in any order."""

import base64
import hmac
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connector.domain import RawRequest
from tests.conftest import NOON, Shop, iso
from tests.integration.emptied import empty

CONFIG = """
version: 1
store: {name: Teehaus, timezone: Europe/Berlin, currency: EUR}
sources:
  woo: {kind: woocommerce, secrets: [hush]}
  pay: {kind: stripe, secrets: [whsec_hush]}
segments:
  buyers: {when: {event: Order Completed, within: 7d}}
  abandoned:
    when: {event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}
"""
MINUTE = 60_000


@pytest.fixture
def shop(make_shop: Callable[[str], Shop]) -> Iterator[Shop]:
    yield make_shop(CONFIG)


def gmt(at: int) -> str:
    return iso(at)[:19]


def woo_order(status: str, *, paid: int | None = None, modified: int = NOON, **more: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "status": status,
        "currency": "EUR",
        "total": "40.00",
        "customer_id": 0,
        "order_key": "wc_order_7",
        "billing": {"email": "ada@example.com", "first_name": "Ada", "phone": "", "country": "DE"},
        "date_created_gmt": gmt(NOON - MINUTE),
        "date_modified_gmt": gmt(modified),
        "date_paid_gmt": None if paid is None else gmt(paid),
        "line_items": [{"product_id": 3, "name": "Assam", "quantity": 2, "price": 20}],
        "refunds": [],
        **more,
    }


def woo(shop: Shop, body: Any, topic: str = "order.updated") -> int:
    raw = json.dumps(body).encode()
    signature = base64.b64encode(hmac.digest(b"hush", raw, "sha256")).decode()
    # WooCommerce's delivery id is the same for everything that a webhook sends within a second.
    headers = {"x-wc-webhook-topic": topic, "x-wc-webhook-signature": signature, "x-wc-webhook-delivery-id": "a" * 32}
    request = RawRequest("POST", "/webhooks/woocommerce/woo", headers, raw, received_at=shop.time)
    return shop.receiver.receive("woocommerce", "woo", request).status


def pay(shop: Shop, id: str, type: str, thing: dict[str, Any]) -> int:
    event = {"id": id, "object": "event", "type": type, "created": shop.time // 1000, "livemode": True}
    raw = json.dumps(event | {"data": {"object": thing}}).encode()
    stamp = str(shop.time // 1000)
    signature = hmac.digest(b"whsec_hush", f"{stamp}.".encode() + raw, "sha256").hex()
    headers = {"stripe-signature": f"t={stamp},v1={signature}"}
    request = RawRequest("POST", "/webhooks/stripe/pay", headers, raw, received_at=shop.time)
    return shop.receiver.receive("stripe", "pay", request).status


def traits(shop: Shop) -> dict[str, Any]:
    [(text,)] = shop.rows("SELECT traits FROM profile WHERE merged_into IS NULL")
    found: dict[str, Any] = json.loads(text)
    return found


def test_an_unpaid_order_is_an_abandoned_checkout_until_it_is_paid(shop: Shop) -> None:
    assert woo(shop, woo_order("pending"), "order.created") == 200
    shop.work()
    assert traits(shop).get("total_spent", 0) == 0
    shop.at(NOON + 31 * MINUTE)
    assert shop.segments() == {"abandoned"}
    assert woo(shop, woo_order("processing", paid=shop.time, modified=shop.time)) == 200
    shop.work()
    assert shop.segments() == {"buyers"}
    assert (traits(shop)["total_spent"], traits(shop)["orders_count"], traits(shop)["first_name"]) == (40, 1, "Ada")


def test_two_deliveries_of_one_second_are_two(shop: Shop) -> None:
    assert woo(shop, woo_order("processing", paid=NOON)) == 200
    assert woo(shop, woo_order("processing", paid=NOON) | {"id": 8, "order_key": "wc_order_8"}) == 200
    shop.work()
    assert traits(shop)["orders_count"] == 2


def test_the_order_in_which_an_orders_versions_come_does_not_matter(shop: Shop) -> None:
    refund = {"id": 70, "total": "-15.00", "reason": ""}
    versions = [
        woo_order("pending", modified=NOON - 3 * MINUTE),
        woo_order("processing", paid=NOON - 2 * MINUTE, modified=NOON - 2 * MINUTE),
        woo_order("completed", paid=NOON - 2 * MINUTE, modified=NOON - MINUTE, refunds=[refund]),
    ]
    outcomes = []
    for order in itertools.permutations(versions):
        empty(shop)
        for body in order:
            assert woo(shop, body) == 200
            shop.work()
        told = traits(shop)
        events = set(shop.rows("SELECT id, name FROM event WHERE name <> 'Checkout Started'"))
        outcomes.append((told["total_spent"], told["orders_count"], shop.segments(), events))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][0] == 25


def test_the_charge_and_the_checkout_of_one_purchase_are_one_order(shop: Shop) -> None:
    session = {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "payment",
        "payment_status": "paid",
        "payment_intent": "pi_1",
        "amount_total": 4790,
        "currency": "eur",
        "customer": None,
        "customer_details": {"email": "ada@example.com", "name": "Ada Lind"},
    }
    charge = {
        "id": "ch_1",
        "object": "charge",
        "payment_intent": "pi_1",
        "amount": 4790,
        "currency": "eur",
        "customer": None,
        "billing_details": {"email": "ada@example.com"},
    }
    assert pay(shop, "evt_2", "charge.succeeded", charge) == 200
    assert pay(shop, "evt_1", "checkout.session.completed", session) == 200
    assert pay(shop, "evt_1", "checkout.session.completed", session) == 200
    refund = {"id": "re_1", "object": "refund", "amount": 790, "currency": "eur", "payment_intent": "pi_1"}
    assert pay(shop, "evt_3", "refund.created", refund) == 200
    shop.work()
    assert (traits(shop)["orders_count"], traits(shop)["total_spent"]) == (1, 40)
    assert sorted(shop.rows("SELECT name FROM event")) == [("Order Completed",), ("Order Refunded",)]


def test_a_replayed_signature_is_refused(shop: Shop) -> None:
    stamp = str(shop.time // 1000 - 301)
    signature = hmac.digest(b"whsec_hush", f"{stamp}.".encode() + b"{}", "sha256").hex()
    headers = {"stripe-signature": f"t={stamp},v1={signature}"}
    request = RawRequest("POST", "/webhooks/stripe/pay", headers, b"{}", received_at=shop.time)
    answer = shop.receiver.receive("stripe", "pay", request)
    assert answer.status == 401
    assert json.loads(answer.body)["reason"] == "stale_signature"
    assert shop.work() == 0
