"""`storecue backfill`, `storecue source verify` and their API, against a fake Admin API."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connector.app import create_app
from connector.cli import main
from connector.simulator.shopify_admin import FakeShopifyAdmin
from connector.web.current import of
from connector.web.store import create_token
from tests.conftest import NOON, Shop
from tests.shopify_admin import config, fake, fetch, order

ORDERS = {"orders": [order(1, at=NOON - 3_600_000), order(2, at=NOON - 3_600_000)]}


@pytest.fixture
def admin() -> Iterator[FakeShopifyAdmin]:
    with fake(dict(ORDERS)) as server:
        yield server


@pytest.fixture
def shop(admin: FakeShopifyAdmin, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, config(admin))
    yield made
    made.close()


@pytest.fixture
def storecue(shop: Shop) -> Any:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--data", str(shop.services.settings.data_dir)])

    return run


def test_start_status_cancel(shop: Shop, storecue: Any) -> None:
    assert storecue("backfill", "status").output == "There are none.\n"
    told = storecue("backfill", "start", "shop", "--only", "orders,customers", "--since", "2026-11-01")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("shop: orders, customers will be fetched")
    assert "it runs already" in storecue("backfill", "start", "shop", "--only", "orders").output
    assert "shop orders: about to begin, 0" in storecue("backfill", "status").output
    assert storecue("backfill", "cancel", "shop").output == "2 cancelled\n"
    fetch(shop)
    assert "shop orders: cancelled" in storecue("backfill", "status").output


def test_watching_ends_when_all_is_fetched(shop: Shop, storecue: Any) -> None:
    shop.time = int(time.time() * 1000) + 60_000  # the command asks the machine's clock
    assert storecue("backfill", "start", "shop", "--only", "orders").exit_code == 0
    fetch(shop)
    watched = storecue("backfill", "status", "--watch")
    assert watched.exit_code == 0
    assert "shop orders: done, 2 of 2" in watched.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("backfill", "start", "nobody"), "there is no source 'nobody'"),
        (("backfill", "start", "shop", "--only", "order"), 'did you mean "orders"?'),
        (("backfill", "start", "shop", "--since", "yesterday"), "not an instant"),
        (("source", "verify", "nobody"), "there is no source 'nobody'"),
    ],
)
def test_what_cannot_be_asked(arguments: tuple[str, ...], words: str, storecue: Any) -> None:
    told = storecue(*arguments)
    assert told.exit_code == 2
    assert words in told.output


def test_a_source_without_an_api_says_so(shop: Shop, storecue: Any) -> None:
    shop.configure("version: 1\nsources:\n  shop: {kind: shopify, secrets: [hush]}\n")
    told = storecue("source", "verify", "shop")
    assert told.exit_code == 2
    assert "has no `admin` in storecue.yaml" in told.output


def test_verify_says_what_is_missing(storecue: Any) -> None:
    told = storecue("source", "verify", "shop")
    assert told.exit_code == 1
    assert "ok login: Shopify knows us at aurora.myshopify.com" in told.output
    assert "FIX subscriptions: 28 of 28 are not made by the app" in told.output
    assert "hush" not in told.output


def test_the_api(shop: Shop) -> None:
    app = create_app(services=shop.services, now=lambda: shop.time)
    with shop.services.database.tx() as tx:
        headers = {"Authorization": f"Bearer {create_token(tx, 'test', shop.time)}"}
    http, here = app.test_client(), "/api/v1/sources/shop"
    try:
        assert http.get(f"{here}/backfills").status_code == 401
        assert http.get("/api/v1/sources/nobody/backfills", headers=headers).status_code == 404
        begun = http.post(f"{here}/backfills", headers=headers, json={"only": ["orders"], "since": "2026-11-01"})
        assert begun.get_json() == {"kinds": ["orders"]}
        wrong = http.post(f"{here}/backfills", headers=headers, json={"only": ["order"]})
        assert wrong.status_code == 422
        assert 'did you mean "orders"?' in wrong.get_json()["detail"]
        fetch(shop)
        (row,) = http.get(f"{here}/backfills", headers=headers).get_json()["items"]
        assert (row["state"], row["fetched"], row["expected"]) == ("done", 2, 2)
        http.post(f"{here}/backfills", headers=headers, json={})
        assert http.post(f"{here}/backfills/cancel", headers=headers).get_json() == {"count": 4}
        report = http.post(f"{here}/verify", headers=headers).get_json()
        assert report["good"] is False
        assert report["days"][-1] == {"day": "2026-11-18", "there": 2, "here": 2}
    finally:
        of(app).metrics.close()
