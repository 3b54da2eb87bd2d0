"""The published payloads beside this checkout, where they are, and what the Shopify ones must mean."""

import json
import os
from pathlib import Path
from typing import Any

from connector.domain import RawRequest

PAYLOADS = Path(os.environ.get("STORECUE_SHARED") or Path(__file__).parents[2] / "shared") / "payloads"
PUBLISHED: list[dict[str, Any]] = (
    json.loads((PAYLOADS / "INDEX.json").read_text()) if (PAYLOADS / "INDEX.json").exists() else []
)
SHOPIFY = [entry for entry in PUBLISHED if entry["source"].startswith("shopify")]

# What each topic's body must mean, whatever the API version.
IMPLIED: dict[str, set[str]] = {
    "orders/create": {"Order Completed"},
    "orders/updated": {"Order Completed"},
    "orders/paid": {"Order Completed"},
    "orders/partially_fulfilled": {"Order Completed"},
    "orders/cancelled": {"Order Completed", "Order Cancelled"},
    "orders/fulfilled": {"Order Completed", "Order Fulfilled"},
    "orders/edited": {"Order Updated"},
    "refunds/create": {"Order Refunded"},
    "carts/create": {"Product Added"},
    "carts/update": {"Product Added"},
    "checkouts/create": {"Checkout Started"},
    "checkouts/update": {"Checkout Started"},
}
ENTITIES: dict[str, str] = {
    "customers": "customer",
    "orders": "order",
    "refunds": "refund",
    "carts": "cart",
    "checkouts": "checkout",
    "products": "product",
    "collections": "collection",
    "shop": "shop",
    "app": "shop",
}
# Bodies anonymised to a resource, not a topic: every text replaced by a constant, also prices.
SHAPES: dict[str, str] = {
    "carts": "carts/update",
    "checkouts": "checkouts/update",
    "collections": "collections/update",
    "customers": "customers/update",
    "customers_marketing_consent": "customers_marketing_consent/update",
    "discounts": "discounts/update",
    "orders": "orders/updated",
    "products": "products/update",
    "refunds": "refunds/create",
    "shop": "shop/update",
}
UNUSABLE: dict[str, str] = {
    "shopify_shapes/carts__": "bad_money",
    "shopify_shapes/checkouts__gadget-2024-01-1.": "bad_instant",
    "shopify_shapes/checkouts__": "bad_money",
    "shopify_shapes/orders__gadget-2025-04-2.": "bad_id",  # an order edit
    "shopify_shapes/orders__gadget-2025-04-3.": "bad_id",  # a risk assessment
    "shopify_shapes/orders__": "bad_money",
    "shopify_shapes/products__": "bad_money",
    "shopify_shapes/refunds__": "bad_money",
    "shopify_rest/orders__": "bad_id",  # a list under a key, as the REST API answers
    "shopify_rest/carts__": "bad_id",
}
# Bodies of topics that are read, but which say nothing.
MEANINGLESS: dict[str, str] = {
    "shopify/checkouts_delete__": "no_token",
    "shopify_deliveries/checkouts_delete__": "no_token",
    "shopify/customers_merge__": "merge_not_completed",
    "shopify_rest/checkouts__": "stub",  # a list under a key, as the REST API answers
}


def listed(entry: dict[str, Any], reasons: dict[str, str]) -> str | None:
    """The reason that one of the tables above has for a payload."""
    return next((reason for start, reason in reasons.items() if entry["file"].startswith(start)), None)


def sent(entry: dict[str, Any]) -> RawRequest:
    """The payload as it was delivered: with its recorded headers, where it has any, and unsigned."""
    document = json.loads((PAYLOADS / entry["file"]).read_text())
    headers, body = (document["headers"], document["body"]) if "headers" in document else ({}, document)
    topic = SHAPES.get(entry["topic"], entry["topic"])
    return RawRequest("POST", "/", {**headers, "x-shopify-topic": topic}, json.dumps(body).encode())
