"""backfill/*: things as the Admin API has them, put into the words of the webhooks and read by the same handlers.

So an order means the same, under the same natural keys, whichever way it came, and the later version counts.
"""

import re
from dataclasses import replace
from typing import Any

from connector.domain import Normalised
from connector.sources.instants import OLDEST
from connector.sources.shopify import carts, catalogue, customers, orders
from connector.sources.shopify.arrival import Arrival
from connector.sources.shopify.graphql import classic
from connector.sources.shopify.schemas import CUSTOMER, WHATSAPP_CONSENT

# A checkout has no token of its own in GraphQL, but its address has: /70311/checkouts/ac/<token>/recover?key=...
# and, once it is bought, /orders/690933842/<token>?recovered=1.
_TOKEN = re.compile(r"/(?:checkouts(?:/[a-z]{2})?|orders/[0-9]+)/([A-Za-z0-9_-]{1,200})(?:[/?]|$)")


def customer(body: Any, arrival: Arrival) -> Normalised:
    """A customer with tags and consent. Consent without an instant counts as of the customer's beginning, so that
    whatever was said at a known time wins over it: the record's own `updatedAt` is of any other change."""
    found = classic(body)
    meant = customers.customer(found, arrival)
    read = CUSTOMER(found)
    begun = arrival.at(read.get("created_at"), OLDEST)
    said = list(customers.consents(read, arrival, undated=begun))
    if whatsapp := found.get("whats_app_marketing_consent"):
        word = WHATSAPP_CONSENT({"whats_app_marketing_consent": whatsapp})["whats_app_marketing_consent"]
        stated = word.get("updated_at")
        at = begun if stated is None or stated < OLDEST else min(stated, arrival.received_at)
        if consent := customers.consent("whatsapp", word, at):
            said.append(consent)
    return replace(meant, consents=tuple(said))


def order(body: Any, arrival: Arrival) -> Normalised:
    """An order with its lines and refunds; the lines of a refund are not in it, its amount is."""
    return orders.order(classic(body), arrival)


def product(body: Any, arrival: Arrival) -> Normalised:
    """A product; its price is that of the first variant."""
    found = classic(body)
    variants = found.get("variants") or []
    if isinstance(variants, list):  # whatever else it is, the reader refuses it by its place
        found["variants"] = sorted(variants, key=_position)
    if image := _object(_object(found.pop("featured_media", None)).get("preview")).get("image"):
        found["image"] = image
    return catalogue.product(found, arrival)


def checkout(body: Any, arrival: Arrival) -> Normalised:
    """A checkout with somebody's address in it, whether left standing or bought since."""
    found = classic(body)
    address = found.get("abandoned_checkout_url")
    match = _TOKEN.search(address) if isinstance(address, str) else None
    if match is None:
        return Normalised(skipped="no_token")
    found["token"] = match[1]
    found["total_discount_set"] = found.get("total_discount_set") or found.get("total_discounts_set")
    for name, bag in _TOTALS.items():
        shop = _object(_object(found.pop(bag, None)).get("shop_money"))
        if shop.get("amount") is not None:
            found[name] = shop["amount"]
            found["currency"] = shop.get("currency_code")
    return carts.checkout(found, arrival)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _position(variant: Any) -> int:
    stated = _object(variant).get("position")
    return stated if isinstance(stated, int) else 0


_TOTALS = {
    "total_price": "total_price_set",
    "subtotal_price": "subtotal_price_set",
    "total_tax": "total_tax_set",
    "total_discounts": "total_discount_set",
}
