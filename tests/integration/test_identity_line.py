"""One customer's deliveries in any order, some twice: the same person comes of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.clock import DAY, HOUR, MINUTE
from tests.conftest import CONFIG, NOON, Shop, checkout, iso, order
from tests.integration.emptied import empty

ADA = "ada@example.com"
RULES = """
  refunded:
    name: Got money back
    when: {event: Order Refunded}
  subscribed:
    name: May be written to
    when: {consent: email, in: [subscribed]}
  two-orders:
    name: Bought twice
    when: {event: Order Completed, count: {">=": 2}}
"""
REFUND = {
    "id": 77,
    "order_id": 1001,
    "created_at": iso(NOON + 3 * HOUR),
    "processed_at": iso(NOON + 3 * HOUR),
    "refund_line_items": [],
    "order_adjustments": [],
    "transactions": [{"id": 1, "kind": "refund", "status": "success", "amount": "30.00", "currency": "EUR"}],
}


def customer(at: int, email: str = ADA, **more: Any) -> dict[str, Any]:
    return {"id": 501, "email": email, "created_at": iso(NOON - DAY), "updated_at": iso(at), **more}


def consent(state: str, at: int) -> dict[str, Any]:
    said = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": iso(at)}
    return {"customer_id": 501, "email_address": ADA, "email_marketing_consent": said}


def tags(at: int, *tags: str) -> dict[str, Any]:
    return {"customerId": "gid://shopify/Customer/501", "tags": list(tags), "occurredAt": iso(at)}


CART_LINES = [{"id": 9, "product_id": 9, "variant_id": 9, "quantity": 1, "price": "9.00", "title": "Cup"}]
SMS = {"state": "subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": iso(NOON + 5 * MINUTE)}
PHONE = "+33612345678"
DELIVERIES: list[tuple[str, dict[str, Any]]] = [
    ("checkouts/create", checkout("checkout-1001", at=NOON, email=ADA)),
    ("checkouts/create", checkout("left-behind", at=NOON + 4 * HOUR, email=ADA)),
    ("orders/create", order(1001, at=NOON + MINUTE, total="600.00")),
    ("orders/create", order(1002, at=NOON + HOUR, total="700.00", checkout_token="other")),
    ("orders/cancelled", order(1002, at=NOON + HOUR, updated=NOON + 2 * HOUR, total="700.00", checkout_token="other")
        | {"cancelled_at": iso(NOON + 2 * HOUR)}),
    ("orders/edited", {"order_edit": {"id": 5, "order_id": 1001, "created_at": iso(NOON + 30 * MINUTE)}}),
    ("refunds/create", REFUND),
    ("orders/updated", order(1001, at=NOON + MINUTE, updated=NOON + 3 * HOUR, total="600.00", refunds=[REFUND])),
    ("customers/create", customer(NOON - DAY, first_name="Ada", last_name="Byron")),
    ("customers/update", customer(NOON + 2 * HOUR, first_name="Ada", last_name="Lovelace", phone=PHONE)),
    ("customers_email_marketing_consent/update", consent("subscribed", NOON + 10 * MINUTE)),
    ("customers_email_marketing_consent/update", consent("unsubscribed", NOON + 20 * MINUTE)),
    ("customers/update", customer(NOON + 5 * HOUR, "ada@new.example", first_name="Ada", last_name="Lovelace")),
    ("customers_marketing_consent/update", {"id": 501, "phone": PHONE, "sms_marketing_consent": SMS}),
    ("checkouts/create", checkout("by-phone", at=NOON + 2 * HOUR, email="", phone=PHONE)),
    ("carts/update", {"id": "c-1", "token": "c-1", "updated_at": iso(NOON + MINUTE), "line_items": CART_LINES}),
    ("checkouts/create", checkout("after-cart", at=NOON + 5 * MINUTE, email="", cart_token="c-1")),
    ("orders/create", order(1003, at=NOON + 6 * MINUTE, total="9.00", cart_token="c-1", checkout_token="after-cart")),
    ("customer.tags_added", tags(NOON + MINUTE, "vip", "early")),
    ("customer.tags_removed", tags(NOON + 2 * MINUTE, "early")),
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("identity"), CONFIG + RULES)
    yield shop
    shop.close()


def content(shop: Shop) -> dict[str, Any]:
    """All that is known of everybody, without the ids that we gave."""
    segments = "SELECT segment FROM membership WHERE matched = 1 ORDER BY 1"
    people = shop.rows("SELECT traits, consent, email FROM profile WHERE merged_into IS NULL")
    return {
        "people": [(json.loads(traits), json.loads(consent), email) for traits, consent, email in people],
        "segments": shop.rows(segments),
        "events": shop.rows("SELECT id, at, name, properties FROM event ORDER BY id"),
        "owned": shop.rows(
            "SELECT count(*) FROM event LEFT JOIN profile ON profile.id = profile_id"
            " WHERE profile.id IS NULL OR merged_into IS NOT NULL"
        ),
        "identifiers": shop.rows("SELECT kind, value FROM identifier ORDER BY 1, 2"),
        "orders": shop.rows("SELECT id, total, refunded, counts FROM shop_order ORDER BY 1"),
        "letters": shop.rows("SELECT * FROM dead_letter"),
    }


def told(shop: Shop, deliveries: list[tuple[str, dict[str, Any]]], pauses: list[bool]) -> dict[str, Any]:
    """What comes of these deliveries; after those with a pause everything that waits is worked off."""
    empty(shop)
    shop.time = NOON + DAY
    for (topic, body), pause in zip(deliveries, pauses, strict=True):
        shop.time += 1
        assert shop.deliver(topic, body).status == 200
        if pause:
            shop.work()
    shop.at(NOON + 2 * DAY)
    return content(shop)


@pytest.fixture(scope="module")
def in_order(shop: Shop) -> dict[str, Any]:
    """As it happened: oldest first, one after the other."""
    return told(shop, DELIVERIES, [True] * len(DELIVERIES))


def test_as_it_happened(in_order: dict[str, Any]) -> None:
    [(traits, consents, email)] = in_order["people"]
    assert email == traits["email"] == "ada@new.example"
    assert traits["orders_count"] == 2
    assert traits["total_spent"] == 579
    assert consents["sms"]["state"] == "subscribed"
    assert traits["last_name"] == "Lovelace"
    assert traits["tags"] == ["vip"]
    assert consents["email"]["state"] == "unsubscribed"
    assert [segment for (segment,) in in_order["segments"]] == sorted(
        ["abandoned-checkout", "recent-buyers", "refunded", "two-orders", "vip"]
    )
    assert Counter(name for _, _, name, _ in in_order["events"]) == {
        "Checkout Started": 4,
        "Order Cancelled": 1,
        "Order Completed": 3,
        "Order Refunded": 1,
        "Order Updated": 1,
        "Product Added": 1,
    }
    assert in_order["owned"] == [(0,)]
    assert in_order["letters"] == []


@st.composite
def shuffled(draw: Callable[..., Any]) -> tuple[list[tuple[str, dict[str, Any]]], list[bool]]:
    """Every delivery at least once, some twice, in any order, and where the worker catches up in between."""
    twice = draw(st.lists(st.sampled_from(range(len(DELIVERIES))), max_size=4))
    order = draw(st.permutations([*range(len(DELIVERIES)), *twice]))
    pauses = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    return [DELIVERIES[number] for number in order], pauses


@given(way=shuffled())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_of_arrival_makes_the_same_person(
    shop: Shop, in_order: dict[str, Any], way: tuple[list[tuple[str, dict[str, Any]]], list[bool]]
) -> None:
    assert told(shop, *way) == in_order
