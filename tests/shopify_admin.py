"""A StoreCue beside a fake Admin API that holds a simulated shop, on one frozen clock. Queries are held against the
published schema, where it is."""

import os
from pathlib import Path
from typing import Any

from connector.backfill import store
from connector.clock import DAY, isoformat
from connector.simulator.shopify_admin import FakeShopifyAdmin
from connector.simulator.shopify_things import things
from connector.simulator.store import Shop as SimulatedShop
from tests.conftest import NOON, Shop

SPECS = Path(os.environ.get("STORECUE_SHARED") or Path(__file__).parents[2] / "shared") / "specs"
_SCHEMA = SPECS / "shopify_admin_2026-10.introspection.json.gz"
SCHEMA = _SCHEMA if _SCHEMA.exists() else None


CONFIG = """
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  shop:
    kind: shopify
    secrets: [hush]
    admin:
      {{shop: aurora.myshopify.com, client_id: client, client_secret: hush, base_url: '{url}', allow_insecure: true}}
destinations:
  screen: {{kind: console, events: true}}
fields:
  total_spent: {{from: traits.total_spent}}
  orders_count: {{from: traits.orders_count}}
segments:
  buyers: {{when: {{trait: orders_count, ">=": 1}}}}
  vip: {{when: {{trait: tags, contains: vip}}}}
  abandoned-checkout:
    when: {{event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}}
"""


def config(admin: FakeShopifyAdmin) -> str:
    return CONFIG.format(url=admin.url)


def past(seed: int = 7, people: int = 40, orders: int = 60) -> SimulatedShop:
    """A shop with ninety days of history before NOON."""
    shop = SimulatedShop(seed, people=people)
    for _ in shop.history(NOON - 90 * DAY, NOON, orders=orders):
        pass
    return shop


def fake(held: dict[str, list[Any]] | None = None, **options: Any) -> FakeShopifyAdmin:
    """Nobody waits for its points: they come back at once."""
    return FakeShopifyAdmin(held, clock=lambda: NOON, schema=SCHEMA, **{"restore": 1e6, **options})


def held(shop: SimulatedShop) -> dict[str, list[Any]]:
    return things(shop, NOON)


def ask(shop: Shop, *kinds: str, since: int | None = None) -> None:
    with shop.services.database.tx() as tx:
        wanted = kinds or ("products", "customers", "orders", "checkouts")
        store.ask(tx, "shop", wanted, since, shop.time)


def fetch(shop: Shop, most: int = 10_000) -> None:
    """Let all backfills end, the clock going on while they wait, and work off what they put in line."""
    for _ in range(most):
        if not shop.worker.past.step_backfill():
            with shop.services.database.read() as connection:
                waiting = [row["due_at"] for row in store.all_of(connection) if row["state"] not in store.ENDED]
            if not waiting:
                break
            shop.work()
            shop.time = max(shop.time, min(waiting))
    shop.work()


def states(shop: Shop) -> dict[str, str]:
    with shop.services.database.read() as connection:
        return {row["kind"]: row["state"] for row in store.all_of(connection)}


def everything(shop: Shop) -> dict[str, Any]:
    """What is known of everybody, without instants of ours."""
    queries = {
        "orders": "SELECT id, updated_at, placed_at, total, refunded, counts FROM shop_order ORDER BY id",
        "things": "SELECT kind, id, updated_at, deleted FROM entity WHERE kind != 'shop' ORDER BY kind, id",
        "events": "SELECT id, name, at FROM event ORDER BY id",
        "people": "SELECT email, traits FROM profile WHERE merged_into IS NULL ORDER BY email",
    }
    return {name: shop.rows(query) for name, query in queries.items()}


def customer(id_: int = 501, *, at: int = NOON, email: str = "ada@example.com", **more: Any) -> dict[str, Any]:
    """A customer of the Admin API."""
    return {
        "id": f"gid://shopify/Customer/{id_}",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "state": "ENABLED",
        "note": None,
        "locale": "en",
        "verifiedEmail": True,
        "taxExempt": False,
        "tags": [],
        "createdAt": isoformat(NOON - 300 * DAY),
        "updatedAt": isoformat(at),
        "defaultAddress": None,
        "defaultEmailAddress": {
            "emailAddress": email,
            "marketingState": "NOT_SUBSCRIBED",
            "marketingOptInLevel": None,
            "marketingUpdatedAt": None,
        },
        "defaultPhoneNumber": None,
        **more,
    }


def order(
    id_: int = 1001, *, at: int = NOON, updated: int | None = None, total: str = "100.0", **more: Any
) -> dict[str, Any]:
    """An order of the Admin API."""
    money = {"shopMoney": {"amount": total, "currencyCode": "EUR"}, "presentmentMoney": None}
    return {
        "id": f"gid://shopify/Order/{id_}",
        "name": f"#{id_}",
        "email": "ada@example.com",
        "test": False,
        "checkoutToken": f"checkout-{id_}",
        "discountCodes": [],
        "createdAt": isoformat(at),
        "processedAt": isoformat(at),
        "updatedAt": isoformat(at if updated is None else updated),
        "displayFinancialStatus": "PAID",
        "displayFulfillmentStatus": "UNFULFILLED",
        "totalPriceSet": money,
        "fulfillments": [],
        "refunds": [],
        "customer": {
            "id": "gid://shopify/Customer/501",
            "updatedAt": isoformat(at),
            "defaultEmailAddress": {"emailAddress": "ada@example.com", "marketingState": "NOT_SUBSCRIBED"},
        },
        "lineItems": {"nodes": []},
        **more,
    }
