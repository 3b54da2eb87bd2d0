"""Every published Shopify payload through the whole line: receiver, log, worker, and what is in the database then."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest

from connector.domain import RawRequest
from connector.pipeline import Pipeline
from connector.sources.shopify import Shopify
from tests.conftest import SECRET, Shop
from tests.integration.emptied import empty
from tests.published import ENTITIES, IMPLIED, MEANINGLESS, SHOPIFY, UNUSABLE, listed, sent

pytestmark = pytest.mark.skipif(not SHOPIFY, reason="the published payloads are not beside this checkout")

# These name an order and not its buyer: their events are the buyer's, once the order has said who that is.
OF_AN_ORDER = {"refunds/create", "orders/edited"}


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("payloads"))
    services = shop.services
    services.source_kinds = {"shopify": Shopify(test_orders=True)}  # Shopify's own samples are all test orders
    shop.worker.pipeline = Pipeline(services.configuration(), services.ruleset(), services.source_kinds)
    yield shop
    shop.close()


@pytest.fixture
def shop(one_shop: Shop) -> Shop:
    return empty(one_shop)


def deliver(shop: Shop, entry: dict[str, Any]) -> None:
    """Hand it over as it was recorded, signed anew with our secret."""
    request = sent(entry)
    signature = base64.b64encode(hmac.new(SECRET.encode(), request.body, hashlib.sha256).digest()).decode()
    headers = {name: value for name, value in request.headers.items() if not name.endswith("hmac-sha256")}
    headers["x-shopify-hmac-sha256"] = signature
    path = "/webhooks/shopify/shop"
    answer = shop.receiver.receive("shopify", "shop", RawRequest("POST", path, headers, request.body, "", shop.time))
    assert answer.status == 200


@pytest.mark.parametrize("entry", SHOPIFY, ids=lambda entry: entry["file"])
def test_a_published_payload_has_its_effect(shop: Shop, entry: dict[str, Any]) -> None:
    deliver(shop, entry)
    assert shop.work() == 1
    letters = shop.rows("SELECT reason FROM dead_letter")
    unusable = listed(entry, UNUSABLE)
    if unusable:
        assert letters == [(unusable,)]
        assert shop.rows("SELECT count(*) FROM event") == [(0,)]
        return
    assert letters == []
    skipped = shop.rows("SELECT label FROM counter WHERE name = 'skipped'")
    topic = shop.rows("SELECT label FROM counter WHERE name = 'deliveries'")[0][0].removeprefix("shop/")
    if listed(entry, MEANINGLESS) or topic.partition("/")[0] not in {
        *ENTITIES,
        *(t.partition("/")[0] for t in IMPLIED),
    }:
        assert skipped or shop.rows("SELECT count(*) FROM profile") == [(1,)]  # a consent, tags
        return
    names = {name for (name,) in shop.rows("SELECT name FROM event")}
    if topic not in OF_AN_ORDER or shop.rows("SELECT count(*) FROM profile") != [(0,)]:
        assert IMPLIED.get(topic, set()) <= names
    for properties, at in shop.rows("SELECT properties, at FROM event"):
        assert isinstance(json.loads(properties), dict)
        assert at <= shop.time


def test_all_of_them_in_one_shop_and_again(one_shop: Shop) -> None:
    shop = empty(one_shop)
    for _ in range(2):
        for entry in SHOPIFY:
            deliver(shop, entry)
        shop.work()
    reasons = sorted(reason for (reason,) in shop.rows("SELECT DISTINCT reason FROM dead_letter"))
    assert reasons == sorted(set(UNUSABLE.values()))
    state = [shop.rows(f"SELECT * FROM {table}") for table in ("profile", "event", "membership", "shop_order")]
    assert all(state[:2])
    for entry in SHOPIFY:
        deliver(shop, entry)
    shop.work()
    assert state == [shop.rows(f"SELECT * FROM {table}") for table in ("profile", "event", "membership", "shop_order")]
