"""Line items as the products of an event, in the words of Segment's e-commerce events."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from connector.domain import Json
from connector.sources.documents import known


def products(lines: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Json]]:
    """One product per line: product_id, variant_id, sku, name, variant, brand, price (shop currency), quantity."""
    return [product(line) for line in lines or ()]


def product(line: Mapping[str, Any]) -> dict[str, Json]:
    """What is known of one line, without what is not."""
    return known(
        product_id=line.get("product_id"),
        variant_id=line.get("variant_id"),
        sku=line.get("sku"),
        name=line.get("title"),
        variant=line.get("variant_title"),
        brand=line.get("vendor"),
        price=in_shop_currency(line, "price"),
        quantity=line.get("quantity"),
    )


def items(found: Iterable[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The products as a cart or checkout keeps them: product_id, variant_id, title, quantity, price."""
    return [
        known(
            product_id=one.get("product_id"),
            variant_id=one.get("variant_id"),
            title=one.get("name"),
            quantity=one.get("quantity"),
            price=one.get("price"),
        )
        for one in found
    ]


def in_shop_currency(document: Mapping[str, Any], name: str) -> float | None:
    """The amount `name` of a document: the shop money of its set, else the plain amount, which is the shop's too."""
    bag = document.get(f"{name}_set")
    if bag is not None and bag.shop is not None:
        return float(bag.shop)
    amount: float | None = document.get(name)
    return amount


def add_up(amounts: Iterable[float | None]) -> float:
    """The sum in major units, without the dust of binary fractions (no currency has more than 3 decimals)."""
    return round(math.fsum(amount for amount in amounts if amount is not None), 3)
