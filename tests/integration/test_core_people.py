"""Who is meant, and what is left of them: tags alone, addresses that move, merges, requests to forget."""

from collections.abc import Callable
from typing import Any

import pytest

from connector.clock import DAY, MINUTE, SECOND
from tests.conftest import CONFIG, NOON, Shop, checkout, iso, order

ADA = "ada@example.com"


def _customer(id: int, email: str | None, at: int = NOON, **more: Any) -> dict[str, Any]:
    gid = f"gid://shopify/Customer/{id}"
    return {"id": id, "admin_graphql_api_id": gid, "email": email, "updated_at": iso(at), "first_name": "A", **more}


def test_tags_in_a_delivery_of_their_own_count(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.work()
    said = {"customerId": "gid://shopify/Customer/501", "tags": ["vip"], "occurredAt": iso(NOON)}
    shop.deliver("customer.tags_added", said)
    shop.work()
    assert "vip" in shop.segments()
    shop.deliver("customer.tags_removed", said | {"occurredAt": iso(NOON + SECOND)})
    shop.at(NOON + MINUTE)
    assert "vip" not in shop.segments()


def test_an_address_that_moves_leaves_its_former_holder_at_once(shop: Shop) -> None:
    shop.deliver("customers/create", _customer(501, ADA))
    shop.work()
    shop.time = NOON + MINUTE
    shop.deliver("customers/update", _customer(502, ADA, NOON + MINUTE))
    shop.work()
    assert shop.rows("SELECT id, email FROM profile ORDER BY id") == [(1, None), (2, ADA)]
    shop.deliver("customers/update", _customer(501, "new@example.com", NOON + SECOND))
    shop.work()
    assert shop.rows("SELECT id, email FROM profile ORDER BY id") == [(1, "new@example.com"), (2, ADA)]


def test_a_request_to_forget_makes_nobody(shop: Shop) -> None:
    shop.deliver("customers/redact", {"customer": {"id": 501, "email": ADA}, "orders_to_redact": []})
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]
    assert shop.rows("SELECT count(*) FROM identifier") == [(0,)]
    assert shop.rows("SELECT kind, profile_id, people FROM privacy_request") == [("erase", None, 0)]


def test_a_person_who_was_merged_while_their_window_lapsed_breaks_nothing(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.deliver("orders/create", order(1002, customer=502, email="bob@example.com"))
    shop.work()
    gone, kept = "gid://shopify/Customer/501", "gid://shopify/Customer/502"
    ids = {"admin_graphql_api_customer_kept_id": kept, "admin_graphql_api_customer_deleted_id": gone}
    shop.deliver("customers/merge", {**ids, "status": "completed"})
    shop.work()
    with shop.services.database.tx() as tx:
        shop.worker.pipeline.tick(tx, [1, 2], NOON + 7 * DAY)
    assert shop.segments(1) == set()


CARTED = (
    CONFIG
    + """  carted:
    name: Has filled a cart
    when: {event: Product Added, within: 7d}
destinations:
  k: {kind: klaviyo, credentials: {api_key: pk_test}, events: true}
"""
)


def _cart(token: str = "c1") -> dict[str, Any]:
    line = {"product_id": 632910392, "variant_id": 1, "quantity": 1, "price": "40.00"}
    return {"id": token, "token": token, "updated_at": iso(NOON), "line_items": [line]}


def _told(shop: Shop) -> list[tuple[Any, ...]]:
    query = "SELECT profile_id, name, json_extract(properties, '$.segment') AS segment FROM cue ORDER BY segment"
    return shop.rows(query)


def test_who_was_in_a_segment_before_there_was_an_address_is_told_of_with_it(
    make_shop: Callable[[str], Shop],
) -> None:
    shop = make_shop(CARTED)
    shop.deliver("carts/create", _cart())
    shop.work()
    assert "carted" in shop.segments()
    assert _told(shop) == []
    for _ in range(2):
        shop.deliver("checkouts/create", checkout(cart_token="c1"))
        shop.work()
    assert _told(shop) == [(1, "Segment Entered", "carted")]


@pytest.mark.parametrize("visitor_first", [True, False])
def test_what_a_visitor_did_is_told_of_the_customer_they_turn_out_to_be(
    make_shop: Callable[[str], Shop], visitor_first: bool
) -> None:
    """Whichever of the two profiles is the older; what was told of the customer before is not told again."""
    shop = make_shop(CARTED)
    steps = [("carts/create", _cart()), ("orders/create", order(checkout_token=None))]
    for topic, body in steps if visitor_first else reversed(steps):
        shop.deliver(topic, body)
        shop.work()
    assert [segment for _, _, segment in _told(shop)] == ["recent-buyers"]
    shop.deliver("checkouts/create", checkout("later", cart_token="c1"))
    shop.work()
    assert len(shop.rows("SELECT 1 FROM profile WHERE merged_into IS NULL")) == 1
    assert [(name, segment) for _, name, segment in _told(shop)] == [
        ("Segment Entered", "carted"),
        ("Segment Entered", "recent-buyers"),
    ]
