"""The computed traits, from stored orders, carts and views: never by adding one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from connector.clock import Millis, isoformat
from connector.domain import Json, StoreInfo

# Digits after the decimal point by ISO 4217 (2026-01): those that are not 2.
_EXPONENTS = dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0)
_EXPONENTS |= dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)


@dataclass(frozen=True, slots=True)
class Orders:
    """What a person's counting orders add up to; money in minor units of the shop's currency, instants in ms."""

    count: int
    total: int
    first_at: Millis | None
    last_at: Millis | None


def to_minor(amount: float | int, store: StoreInfo) -> int:
    """Minor units (cents) of an amount in major units, exactly as written."""
    return int((Decimal(str(amount)) * 10 ** _EXPONENTS.get(store.currency, 2)).to_integral_value())


def to_major(minor: int, store: StoreInfo) -> float | int:
    """Major units of an amount in minor units; a whole number stays one."""
    exponent = _EXPONENTS.get(store.currency, 2)
    major = minor / 10**exponent
    return int(major) if major.is_integer() else major


def from_orders(orders: Orders, store: StoreInfo) -> dict[str, Json]:
    """orders_count, total_spent, average_order_value, first_order_at, last_order_at; dates only when there are orders.

    Cancelled, deleted and test orders do not count; refunds are taken off. The average is rounded to minor units.
    """
    found: dict[str, Json] = {"orders_count": orders.count, "total_spent": to_major(orders.total, store)}
    if orders.count and orders.first_at is not None and orders.last_at is not None:
        found["average_order_value"] = to_major(round(orders.total / orders.count), store)
        found["first_order_at"] = isoformat(orders.first_at)
        found["last_order_at"] = isoformat(orders.last_at)
    return found


def from_views(views: Sequence[tuple[Millis, Mapping[str, Json]]]) -> dict[str, Json]:
    """last_viewed_product, last_viewed_at and last_viewed_products (up to 5 ids), of views given newest first."""
    ids: list[str] = []
    for _, properties in views:
        product = properties.get("product_id")
        if isinstance(product, str) and product not in ids:
            ids.append(product)
    if not ids:
        return {}
    at, newest = views[0]
    found: dict[str, Json] = {"last_viewed_products": ids[:5], "last_viewed_at": isoformat(at)}
    if name := newest.get("name"):
        found["last_viewed_product"] = name
    return found


def from_carts(carts: Sequence[tuple[Millis, Mapping[str, Json]]], ordered_tokens: set[str]) -> dict[str, Json]:
    """cart_items (count), cart_total, cart_products (ids), cart_lines (what a template loops over), cart_url,
    cart_updated_at: of the newest cart or checkout (given newest first) that is not empty and has become no order."""
    for at, cart in carts:
        if cart.get("completed_at") or {cart.get("token"), cart.get("cart_token")} & ordered_tokens:
            return {}  # the newest cart was bought: there is no open one
        items = [item for item in cart.get("items") or [] if isinstance(item, dict)]
        if not items:
            return {}
        found: dict[str, Json] = {
            "cart_items": sum(int(item.get("quantity") or 0) for item in items),
            "cart_products": list(dict.fromkeys(str(i["product_id"]) for i in items if i.get("product_id")))[:20],
            "cart_lines": items[:20],
            "cart_updated_at": isoformat(at),
        }
        if cart.get("total") is not None:
            found["cart_total"] = cart["total"]
        if cart.get("url"):
            found["cart_url"] = cart["url"]
        return found
    return {}


COMPUTED = {
    "orders": ("orders_count", "total_spent", "average_order_value", "first_order_at", "last_order_at"),
    "views": ("last_viewed_products", "last_viewed_at", "last_viewed_product"),
    "carts": ("cart_items", "cart_products", "cart_lines", "cart_updated_at", "cart_total", "cart_url"),
}
"""The traits each part computes: a part that is recomputed replaces all of its own."""
