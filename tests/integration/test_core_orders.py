"""Orders that are deleted, cancelled, reassigned or told of in an odd order."""

from typing import Any

from connector.clock import MINUTE, SECOND
from tests.conftest import NOON, Shop, iso, order


def _trait(shop: Shop, name: str, profile: int = 1) -> Any:
    return shop.rows(f"SELECT json_extract(traits, '$.{name}') FROM profile WHERE id = {profile}")[0][0]


def test_an_order_deleted_before_it_was_told_of_does_not_revive(shop: Shop) -> None:
    shop.time = NOON + MINUTE
    shop.deliver("orders/delete", {"id": 1001}, x_shopify_triggered_at=iso(NOON + MINUTE))
    shop.work()
    shop.deliver("orders/create", order(total="1200.00"))
    shop.work()
    assert _trait(shop, "orders_count") == 0
    assert "vip" not in shop.segments()


def test_of_two_words_of_one_instant_the_cancellation_counts(shop: Shop) -> None:
    cancelled = order(updated=NOON + SECOND, cancelled_at=iso(NOON + SECOND))
    shop.time = NOON + MINUTE
    for _ in range(2):
        shop.deliver("orders/cancelled", cancelled)
        shop.deliver("orders/updated", order(updated=NOON + SECOND))
        shop.work()
        assert _trait(shop, "orders_count") == 0


def test_an_order_given_to_another_customer_leaves_the_first(shop: Shop) -> None:
    shop.deliver("orders/create", order(total="1200.00"))
    shop.work()
    assert shop.segments(1) == {"vip", "recent-buyers"}
    shop.deliver("orders/updated", order(total="1200.00", customer=502, email="bob@example.com", updated=NOON + SECOND))
    shop.work()
    assert (_trait(shop, "orders_count", 1), _trait(shop, "total_spent", 1)) == (0, 0)
    assert shop.segments(1) == set()
    assert (_trait(shop, "orders_count", 2), _trait(shop, "total_spent", 2)) == (1, 1200)
    assert shop.segments(2) == {"vip", "recent-buyers"}
    assert shop.rows("SELECT profile_id FROM event WHERE name = 'Order Completed'") == [(2,)]
    shop.deliver("orders/create", order(total="1200.00"))  # late: as of when it was the first one's
    shop.work()
    assert (_trait(shop, "orders_count", 1), _trait(shop, "orders_count", 2)) == (0, 1)
    assert shop.rows("SELECT profile_id FROM event WHERE name = 'Order Completed'") == [(2,)]


def test_what_is_told_of_an_order_before_the_order_reaches_its_person(shop: Shop) -> None:
    amount = {"kind": "refund", "status": "success", "amount": "30.00", "currency": "EUR"}
    shop.deliver("refunds/create", {"id": 77, "order_id": 1001, "created_at": iso(NOON), "transactions": [amount]})
    shop.deliver("orders/edited", {"order_edit": {"id": 5, "order_id": 1001, "committed_at": iso(NOON)}})
    shop.work()
    assert shop.rows("SELECT count(*) FROM event") == [(0,)]
    shop.deliver("orders/create", order())
    shop.work()
    names = [name for (name,) in shop.rows("SELECT name FROM event WHERE profile_id = 1 ORDER BY name")]
    assert names == ["Order Completed", "Order Refunded", "Order Updated"]
    assert _trait(shop, "total_spent") == 70


def test_an_order_of_nobody_reaches_the_customer_it_is_given_to(shop: Shop) -> None:
    nobody = order(customer=None, email=None, checkout_token=None)
    shop.deliver("orders/create", nobody)
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]
    shop.deliver("orders/updated", order(updated=NOON + SECOND))
    shop.work()
    assert _trait(shop, "orders_count") == 1
    assert "recent-buyers" in shop.segments()
