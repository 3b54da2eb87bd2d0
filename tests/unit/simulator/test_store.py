"""The simulated store repeats itself byte for byte, signs what it sends, and is understood by the Shopify source."""

import json
import random
from collections import Counter, defaultdict
from itertools import islice, pairwise, takewhile

import pytest

from connector.clock import DAY, HOUR, parse_instant
from connector.domain import Delivery, RawRequest, StoreInfo
from connector.errors import RejectedDelivery
from connector.simulator.catalogue import HERO
from connector.simulator.delivery import NONE, Disorder
from connector.simulator.store import Shop, order_body, sign
from connector.sources import SOURCES

START = parse_instant("2026-11-21T10:00:00Z")
STORE = StoreInfo("Aurora Outfitters", "Europe/Paris", "EUR")
SHOPIFY = SOURCES["shopify"]


def history(seed, **options):
    return list(Shop(seed, **options).history(START - 60 * DAY, START))


def live(seed, count=1500, **options):
    return list(islice(Shop(seed, **options).run(START), count))


def test_same_seed_gives_the_same_bytes():
    assert live(7, 400) == live(7, 400)
    assert history(7) == history(7)
    assert live(7, 400) != live(8, 400)


def test_deliveries_come_in_order_of_arrival_and_history_ends():
    for sent in (history(3), live(3)):
        assert [webhook.at for webhook in sent] == sorted(webhook.at for webhook in sent)
    assert history(3)[0].at >= START - 60 * DAY


def test_signature_and_headers_are_the_real_ones():
    for webhook in live(5, 200, secret="shpss_test"):
        assert webhook.headers["X-Shopify-Hmac-Sha256"] == sign(webhook.body, "shpss_test")
        assert webhook.headers["X-Shopify-Topic"] == webhook.topic
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        request = RawRequest("POST", "/webhooks/shopify/shop", headers, webhook.body)
        SHOPIFY.verify(request, ["shpss_old", "shpss_test"])
        with pytest.raises(RejectedDelivery):
            SHOPIFY.verify(request, ["shpss_other"])


def test_signature_fits_the_bytes_and_not_their_meaning():
    webhook = next(w for w in live(5) if w.topic == "orders/create")
    assert b"\\/" in webhook.body
    again = json.dumps(json.loads(webhook.body), separators=(",", ":")).encode()
    assert sign(again, "shpss_simulated") != webhook.headers["X-Shopify-Hmac-Sha256"]


def normalised(webhook):
    headers = {name.lower(): value for name, value in webhook.headers.items()}
    [claim] = SHOPIFY.claim(RawRequest("POST", "/webhooks/shopify/shop", headers, webhook.body))
    delivery = Delivery("shop", claim.delivery_id, claim.topic, webhook.at, claim.headers, webhook.body)
    return SHOPIFY.normalise(delivery, STORE)


def test_every_topic_means_something_to_the_source():
    seen, names = Counter(), Counter()
    for webhook in [*history(7, people=300), *live(7, 6000, people=300, sessions_per_hour=2000, pace=60)]:
        meant = normalised(webhook)
        assert meant.skipped is None, webhook.topic
        seen[webhook.topic] += 1
        names.update(event.name for event in meant.events)
    expected = {
        "products/create",
        "customers/create",
        "customers/update",
        "customers/merge",
        "customer.tags_added",
        "customers_email_marketing_consent/update",
        "customers_marketing_consent/update",
        "web_pixels/product_viewed",
        "web_pixels/search_submitted",
        "web_pixels/product_added_to_cart",
        "web_pixels/checkout_started",
        "carts/create",
        "carts/update",
        "checkouts/create",
        "checkouts/update",
        "orders/create",
        "orders/paid",
        "orders/updated",
        "orders/fulfilled",
        "orders/cancelled",
        "refunds/create",
    }
    assert expected <= set(seen), expected - set(seen)
    for name in ("Product Viewed", "Product Added", "Checkout Started", "Order Completed", "Order Refunded"):
        assert names[name] > 0, name


def test_customers_of_2026_carry_neither_tags_nor_consent():
    bodies = [json.loads(w.body) for w in history(7) if w.topic == "customers/create"]
    assert bodies
    for body in bodies:
        assert not {"tags", "email_marketing_consent", "orders_count", "total_spent"} & set(body)
        assert body["id"] > 2**53


def test_money_and_instants_of_an_order():
    body = next(json.loads(w.body) for w in live(7) if w.topic == "orders/create")
    lines = sum(round(float(line["price"]) * 100) * line["quantity"] for line in body["line_items"])
    discount, shipping = (
        round(float(x) * 100)
        for x in (body["total_discounts"], body["total_shipping_price_set"]["shop_money"]["amount"])
    )
    assert round(float(body["total_price"]) * 100) == lines - discount + shipping
    assert body["created_at"].endswith("+01:00")
    assert abs(parse_instant(body["created_at"]) - START) < 2 * HOUR
    assert "checkout_id" not in body


def test_checkout_order_and_cart_share_their_tokens():
    orders, checkouts, carts = {}, set(), set()
    for webhook in live(7, 4000):
        body = json.loads(webhook.body)
        if webhook.topic == "orders/create":
            orders[body["id"]] = body
        elif webhook.topic == "checkouts/create":
            checkouts.add((body["token"], body["cart_token"]))
        elif webhook.topic == "carts/create":
            carts.add(body["token"])
    assert orders
    for body in list(orders.values())[:20]:
        assert (body["checkout_token"], body["cart_token"]) in checkouts
        assert body["cart_token"] in carts
    assert len(checkouts) > len(orders)


def test_some_arrive_twice_some_late_some_out_of_order():
    sent = live(7, 6000, disorder=Disorder(duplicate=0.03, late=0.02, twice=0.3))
    ids = Counter(webhook.headers["X-Shopify-Webhook-Id"] for webhook in sent)
    repeats = sum(webhook.repeats for webhook in sent)
    assert sum(times - 1 for times in ids.values()) == pytest.approx(repeats, abs=2)  # a first may lie past the cut
    assert 0.02 < repeats / len(sent) < 0.04
    triggered = [parse_instant(webhook.headers["X-Shopify-Triggered-At"][:23] + "Z") for webhook in sent]
    assert any(earlier > later for earlier, later in pairwise(triggered))
    assert any(webhook.at - at > 60_000 for webhook, at in zip(sent, triggered, strict=True))
    subscriptions = defaultdict(set)
    for webhook in sent:
        if webhook.topic == "orders/create":
            subscriptions[webhook.headers["X-Shopify-Event-Id"]].add(webhook.headers["X-Shopify-Webhook-Id"])
    assert any(len(webhook_ids) == 2 for webhook_ids in subscriptions.values())


def test_without_disorder_everything_comes_once_and_in_order():
    sent = live(7, 1000, disorder=NONE)
    assert not any(webhook.repeats for webhook in sent)
    triggered = [webhook.headers["X-Shopify-Triggered-At"][:23] for webhook in sent]
    assert triggered == sorted(triggered)


def test_pace_hastens_visits():
    def bought(pace):
        shop = Shop(7, sessions_per_hour=3600, pace=pace)
        soon = takewhile(lambda webhook: webhook.at < START + 30_000, shop.run(START))
        return sum(webhook.topic == "orders/create" for webhook in soon)

    assert bought(60) > bought(1) == 0


def test_history_gives_the_example_segments_members():
    """Big spenders with few orders, viewers of the product in question, checkouts left standing, tags of VIPs."""
    spent, viewers, buyers, tagged = Counter(), set(), set(), 0
    for webhook in history(7):
        body = json.loads(webhook.body)
        if webhook.topic == "orders/create" and not webhook.repeats:
            spent[body["customer"]["id"]] += float(body["total_price"])
            buyers.add(body["email"])
        elif webhook.topic == "web_pixels/product_viewed" and webhook.at > START - 2 * DAY and "customer" in body:
            if body["data"]["productVariant"]["product"]["id"] == str(HERO):
                viewers.add(body["customer"]["email"])
        elif webhook.topic == "customer.tags_added":
            tagged += 1
    assert sum(total > 2000 for total in spent.values()) >= 2
    assert viewers - buyers
    assert tagged


def test_benchmark_orders_are_about_seven_kilobytes():
    rng = random.Random(1)
    sizes = [len(order_body(rng, START)) for _ in range(100)]
    assert 6_000 < sum(sizes) / len(sizes) < 8_500
    assert order_body(random.Random(2), START) == order_body(random.Random(2), START)
