"""Shopify's own kinds of value: ids, global ids, and money in two currencies."""

import re
from typing import Any, NamedTuple

from connector.sources.fields import Unreadable, money, text

_GID = re.compile(r"gid://shopify/[A-Za-z]+/([0-9]{1,20})(?:\?.*)?")


def gid(value: Any) -> str | None:
    """The number of a global id; None for other texts, since anonymised bodies have an address here."""
    match = _GID.fullmatch(text(value))
    return match[1] if match else None


def id_(value: Any) -> str | None:
    """A numeric id as text, from an integer, digits or a gid; None for a float, which has lost its last digits."""
    if type(value) is int and value > 0:
        return str(value)
    if type(value) is str:
        if value.isdecimal() and value.isascii() and len(value) <= 20:
            return value
        if number := gid(value):
            return number
        if not value:
            return None
    if type(value) is float:
        return None
    raise Unreadable("bad_id", "must be a whole number of up to 64 bits")


class Price(NamedTuple):
    """A money bag: what it is in the shop's currency, and what the buyer saw."""

    shop: float | None
    currency: str | None
    presentment: float | None
    presentment_currency: str | None


def money_bag(value: Any) -> Price:
    """A `..._set` of shop and presentment money."""
    if type(value) is not dict:
        raise Unreadable("bad_money", "must be an object with shop_money")
    shop, presentment = value.get("shop_money"), value.get("presentment_money")
    return Price(*_amount(shop), *_amount(presentment))


def _amount(value: Any) -> tuple[float | None, str | None]:
    if value is None:
        return None, None
    if type(value) is not dict:
        raise Unreadable("bad_money", "must be an object with amount and currency_code")
    amount, currency = value.get("amount"), value.get("currency_code")
    return None if amount is None else money(amount), None if currency is None else text(currency)
