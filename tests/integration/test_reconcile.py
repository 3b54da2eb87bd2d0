"""The hourly look at a source: subscriptions made again, what was missed fetched, and what may start something."""

from collections.abc import Callable
from typing import Any

import pytest

from connector import asking
from connector.backfill import store
from connector.backfill.reconcile import AGAIN, EVERY, NEWS, is_news
from connector.clock import DAY, HOUR, MINUTE
from connector.simulator.shopify_admin import FakeShopifyAdmin
from connector.sources.shopify.admin.subscriptions import TOPICS
from connector.sources.shopify.topics import TOPICS as HANDLED
from tests.conftest import NOON, Shop
from tests.conftest import order as webhook_order
from tests.shopify_admin import config, customer, fake, order

Make = Callable[[str], Shop]


def look(shop: Shop) -> int:
    """The steps that the hourly look took."""
    steps = 0
    while shop.worker.past.step_reconcile():
        shop.work()
        steps += 1
        assert steps < 500
    return steps


def test_topics_that_we_subscribe_to_are_those_that_we_read() -> None:
    assert set(TOPICS) <= set(HANDLED)


def test_missing_subscriptions_are_made_once_an_hour(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server))
        look(shop)
        address = "http://127.0.0.1:8080/webhooks/shopify/shop"
        assert server.subscriptions == {topic.enum: {address} for topic in TOPICS.values()}
        server.subscriptions["ORDERS_CREATE"].clear()  # Shopify gave up
        assert look(shop) == 0
        shop.time += EVERY
        look(shop)
        assert server.subscriptions["ORDERS_CREATE"] == {address}
        assert server.refused == []


def test_no_subscriptions_whose_deliveries_would_be_refused(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server).replace("[hush]", "[another]"))
        look(shop)
        assert server.subscriptions == {}
        words = {one.name: one for one in asking.report(shop.services, "shop", shop.time).findings}
        assert not words["subscriptions"].good
        assert "not among the secrets of shop" in words["subscriptions"].hint


def test_topics_without_their_scope_are_left_out(make_shop: Make) -> None:
    with fake(scopes=["read_products"]) as server:
        shop = make_shop(config(server))
        look(shop)
        assert "PRODUCTS_UPDATE" in server.subscriptions
        assert "ORDERS_CREATE" not in server.subscriptions


def test_what_was_missed_is_fetched_and_what_is_here_is_not_again(make_shop: Make) -> None:
    with fake({"orders": [order(1001, at=NOON - 30 * MINUTE), order(1002, at=NOON - 20 * MINUTE)]}) as server:
        shop = make_shop(config(server))
        shop.deliver("orders/create", webhook_order(1001, at=NOON - 30 * MINUTE))
        shop.work()
        shop.time += EVERY
        with shop.services.database.tx() as tx:
            store.note(tx, "shop", "orders", until=NOON - HOUR, at=NOON)
        look(shop)
        topics = dict(shop.rows("SELECT label, count FROM counter WHERE name = 'deliveries'"))
        assert topics == {"shop/orders/create": 1, "shop/backfill/orders": 1}
        assert shop.rows("SELECT id FROM shop_order ORDER BY id") == [("1001",), ("1002",)]
        assert shop.rows("SELECT missed FROM reconciliation WHERE kind = 'orders'") == [(1,)]


def missed(shop: Shop, server: FakeShopifyAdmin, **held: Any) -> list[tuple[Any, ...]]:
    """The cues after a look that finds what is held, an order of a known customer say."""
    shop.deliver("customers/create", {"id": 501, "email": "ada@example.com", "updated_at": "2026-01-01T00:00:00Z"})
    shop.work()
    with shop.services.database.tx() as tx:
        for kind in ("orders", "checkouts", "customers", "products"):
            store.note(tx, "shop", kind, until=shop.time - DAY, at=shop.time)
    server.held |= held
    look(shop)
    return shop.rows("SELECT name, json_extract(properties, '$.segment') FROM cue ORDER BY key")


def test_a_purchase_of_the_last_hour_starts_what_its_webhook_would_have(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server))
        assert missed(shop, server, orders=[order(at=NOON - HOUR)]) == [("Segment Entered", "buyers")]


def test_one_of_this_morning_is_counted_and_starts_nothing(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server))
        assert missed(shop, server, orders=[order(at=NOON - 5 * HOUR)]) == []
        assert "buyers" in shop.segments()


def checkout(at: int) -> dict[str, Any]:
    from connector.simulator.shopify_things import bag, instant

    return {
        "id": "gid://shopify/AbandonedCheckout/7",
        "abandonedCheckoutUrl": "https://aurora.myshopify.com/70311/checkouts/ac/c0ffee/recover?key=1",
        "createdAt": instant(at),
        "updatedAt": instant(at),
        "totalPriceSet": bag(80_00),
        "customer": customer(at=at),
        "lineItems": {"nodes": []},
    }


def test_a_checkout_that_is_found_late_starts_no_mail(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server))
        assert missed(shop, server, abandonedCheckouts=[checkout(NOON - HOUR)]) == []
        assert "abandoned-checkout" in shop.segments()


def test_a_checkout_that_is_found_in_time_has_its_mail_on_time(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server))
        assert missed(shop, server, abandonedCheckouts=[checkout(NOON - 20 * MINUTE)]) == []
        shop.at(NOON + 11 * MINUTE)
        assert shop.rows("SELECT name, at FROM cue") == [("Segment Entered", NOON + 11 * MINUTE)]


@pytest.mark.parametrize(
    ("kind", "age", "news"),
    [("orders", NEWS, True), ("orders", NEWS + 1, False), ("customers", 0, True), ("checkouts", 0, False)],
)
def test_what_is_news(kind: str, age: int, news: bool) -> None:
    assert is_news(kind, NOON - age, NOON) is news


def test_a_look_that_was_interrupted_goes_on(make_shop: Make) -> None:
    orders = [order(number, at=NOON - HOUR + number * 1000) for number in range(1, 12)]
    with fake({"orders": orders}) as server:
        server.knobs.max_cost = 500
        shop = make_shop(config(server))
        with shop.services.database.tx() as tx:
            store.note(tx, "shop", "orders", until=NOON - 2 * HOUR, at=NOON)
        for _ in range(60):
            shop.worker.past.close()
            shop.worker.past = type(shop.worker.past)(shop.services, lambda: shop.time)
            if not shop.worker.past.step_reconcile():
                break
        shop.work()
        assert len(shop.rows("SELECT id FROM shop_order")) == 11


def test_a_look_that_fails_is_taken_again_soon_and_says_why(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server).replace("client_secret: hush", "client_secret: wrong"))
        look(shop)
        assert server.subscriptions == {}
        ((message,),) = shop.rows("SELECT message FROM reconciliation WHERE kind = ''")
        assert "client_secret is not the app's" in message
        assert "wrong" not in message
        shop.time += AGAIN
        assert look(shop) > 0


def test_the_report_compares_orders_day_by_day(make_shop: Make) -> None:
    with fake({"orders": [order(1, at=NOON - DAY), order(2, at=NOON - DAY), order(3, at=NOON - HOUR)]}) as server:
        shop = make_shop(config(server))
        shop.deliver("orders/create", webhook_order(1, at=NOON - DAY))
        shop.deliver("orders/create", webhook_order(3, at=NOON - HOUR))
        shop.deliver("orders/create", webhook_order(9), x_shopify_hmac_sha256="bad")
        shop.work()
        found = asking.report(shop.services, "shop", shop.time)
        assert [(day.day, day.there, day.here) for day in found.days][-2:] == [
            ("2026-11-17", 2, 1),
            ("2026-11-18", 1, 1),
        ]
        told = {one.name: one for one in found.findings}
        assert not found.good
        assert "2026-11-17: 1 of 2" in told["orders"].hint
        assert told["API version 2026-10"].good
        assert told["login"].good and told["read_orders"].good
        assert server.refused == []


def test_an_old_version_and_missing_scopes_are_found(make_shop: Make) -> None:
    with fake(scopes=["read_customers", "write_products"]) as server:
        shop = make_shop(config(server).replace("shop: aurora", "version: 2026-01, shop: aurora"))
        told = {one.name: one for one in asking.report(shop.services, "shop", shop.time).findings}
        assert not told["API version 2026-01"].good
        assert "2027-01-01" in told["API version 2026-01"].hint
        assert told["read_customers"].good and told["read_products"].good
        assert not told["read_orders"].good


def test_one_worker_at_a_time(make_shop: Make) -> None:
    with fake() as server:
        shop = make_shop(config(server))
        other = type(shop.worker.past)(shop.services, lambda: shop.time)
        assert shop.worker.past.step_reconcile()
        assert not other.step_reconcile()
        shop.worker.past.close()
        assert other.step_reconcile()
        other.close()
