"""The simulated store's people and things as the Admin API has them (2026-10), beside the webhooks' bodies."""

import random
from collections.abc import Iterator
from typing import Any

from connector.clock import DAY, Millis, isoformat
from connector.simulator import bodies
from connector.simulator.bodies import CURRENCY, DOMAIN, Line, Order, money
from connector.simulator.catalogue import Product
from connector.simulator.people import Person
from connector.simulator.store import Shop

Node = dict[str, Any]
"""A thing with all its fields; connections within are {"nodes": [...]}."""


def things(shop: Shop, at: Millis) -> dict[str, list[Node]]:
    """Everything of a store by connection, each as of its own latest change; customers without one as of `at`."""
    latest = {order.person.id: order.updated for order in shop.orders}
    return {
        "products": [product(one, at) for one in shop.products],
        "customers": [customer(one, latest.get(one.id, one.joined or at)) for one in shop.people if one.known],
        "orders": [order(one) for one in shop.orders],
        "abandonedCheckouts": [checkout(**one) for one in shop.checkouts],
    }


def large(customers: int, orders_each: int, at: Millis, seed: int = 0) -> Iterator[tuple[Node, list[Node]]]:
    """Customers of a shop as large as wanted, each with their orders: nothing is kept."""
    rng = random.Random(seed)
    for number in range(customers):
        person = bodies.invented_order(rng, at).person
        person.email, person.joined = f"{number}.{person.email}", at - 400 * DAY
        found = []
        for _ in range(orders_each):
            bought = bodies.invented_order(rng, at - rng.randrange(1, 390 * DAY))
            bought.person = person
            found.append(order(bought))
        yield customer(person, at), found


def instant(at: Millis) -> str:
    """As the API spells it: to the second, in UTC."""
    return f"{isoformat(at)[:19]}Z"


def bag(cents: int) -> Node:
    """An amount in the shop's and the buyer's currency, which are the same here."""
    amount = {"amount": money(cents), "currencyCode": CURRENCY}
    return {"shopMoney": amount, "presentmentMoney": amount}


def product(one: Product, at: Millis) -> Node:
    """A product with its variants."""
    return {
        "id": f"gid://shopify/Product/{one.id}",
        "title": one.title,
        "handle": one.handle,
        "vendor": one.vendor,
        "productType": one.kind,
        "status": "ACTIVE",
        "tags": [one.kind.lower()],
        "createdAt": instant(at),
        "updatedAt": instant(at),
        "featuredMedia": {"preview": {"image": {"url": f"https://cdn.example.com/{one.handle}.jpg"}}},
        "variants": {
            "nodes": [
                {"id": f"gid://shopify/ProductVariant/{id_}", "price": money(one.price), "position": position}
                for position, (id_, _) in enumerate(one.variants, start=1)
            ]
        },
    }


def customer(person: Person, updated: Millis) -> Node:
    """A customer with what they allowed."""
    joined = person.joined or updated
    agreed = "SUBSCRIBED" if person.subscribed else "NOT_SUBSCRIBED"
    silent = {"state": "NOT_SUBSCRIBED", "optInLevel": None, "updatedAt": None}
    return {
        **_buyer(person, updated),
        "state": "ENABLED" if person.signs_in else "DISABLED",
        "note": None,
        "locale": person.place.locale,
        "verifiedEmail": True,
        "taxExempt": False,
        "tags": ["vip"] if person.loyal and person.orders >= 3 else [],
        "defaultAddress": _place(person),
        "defaultEmailAddress": {
            "emailAddress": person.email,
            "marketingState": agreed,
            "marketingOptInLevel": "SINGLE_OPT_IN",
            "marketingUpdatedAt": instant(joined) if person.subscribed else None,
        },
        "defaultPhoneNumber": person.phone
        and {"phoneNumber": person.phone, "smsMarketingConsent": silent, "whatsAppMarketingConsent": silent},
    }


def order(one: Order) -> Node:
    """An order with its lines; what was given back has an amount."""
    refunds = [
        {
            "id": f"gid://shopify/Refund/{refund['id']}",
            "createdAt": refund["created_at"],
            "processedAt": refund["processed_at"],
            "totalRefundedSet": bag(_cents(refund["transactions"])),
        }
        for refund in one.refunds
    ]
    sent = [{"status": "SUCCESS", "createdAt": instant(one.updated)}] if one.fulfilled else []
    tax = bodies.tax_within(one.total)
    return {
        "id": f"gid://shopify/Order/{one.id}",
        "name": f"#{one.number}",
        "email": one.person.email,
        "phone": one.person.phone,
        "test": False,
        "sourceName": "web",
        "customerLocale": one.person.place.locale,
        "checkoutToken": one.checkout_token,
        "cartToken": one.cart_token,
        "discountCodes": [one.code] if one.code else [],
        "createdAt": instant(one.created),
        "processedAt": instant(one.created),
        "updatedAt": instant(one.updated),
        "cancelledAt": instant(one.cancelled) if one.cancelled else None,
        "cancelReason": one.cancel_reason.upper() if one.cancel_reason else None,
        "closedAt": None,
        "displayFinancialStatus": bodies.status(one).upper(),
        "displayFulfillmentStatus": "FULFILLED" if one.fulfilled else "UNFULFILLED",
        "totalPriceSet": bag(one.total),
        "subtotalPriceSet": bag(one.subtotal),
        "totalTaxSet": bag(tax),
        "totalDiscountsSet": bag(one.discount),
        "totalShippingPriceSet": bag(one.shipping),
        "shippingAddress": _place(one.person),
        "fulfillments": sent,
        "refunds": refunds,
        "customer": _buyer(one.person, one.updated),
        "lineItems": {"nodes": [_line("LineItem", line) | {"vendor": line.product.vendor} for line in one.lines]},
    }


def checkout(token: str, person: Person, lines: list[Line], created: Millis, completed: Millis | None = None) -> Node:
    """A checkout with somebody's address in it."""
    subtotal = sum(line.total for line in lines)
    total = subtotal + (0 if subtotal >= bodies.FREE_SHIPPING else bodies.SHIPPING)
    return {
        "id": f"gid://shopify/AbandonedCheckout/{int(token[:12], 16)}",
        "abandonedCheckoutUrl": f"https://{DOMAIN}/70311/checkouts/ac/{token}/recover?key={token[:16]}",
        "createdAt": instant(created),
        "updatedAt": instant(completed or created),
        "completedAt": instant(completed) if completed else None,
        "discountCodes": [],
        "totalPriceSet": bag(total),
        "subtotalPriceSet": bag(subtotal),
        "totalTaxSet": bag(bodies.tax_within(total)),
        "totalDiscountSet": bag(0),
        "shippingAddress": _place(person),
        "customer": _buyer(person, completed or created),
        "lineItems": {"nodes": [_line("AbandonedCheckoutLineItem", line) for line in lines]},
    }


def _buyer(person: Person, updated: Millis) -> Node:
    return {
        "id": f"gid://shopify/Customer/{person.id}",
        "firstName": person.first_name,
        "lastName": person.last_name,
        "createdAt": instant(person.joined or updated),
        "updatedAt": instant(updated),
        "defaultEmailAddress": {
            "emailAddress": person.email,
            "marketingState": "SUBSCRIBED" if person.subscribed else "NOT_SUBSCRIBED",
            "marketingOptInLevel": "SINGLE_OPT_IN",
            "marketingUpdatedAt": instant(person.joined) if person.subscribed and person.joined else None,
        },
        "defaultPhoneNumber": person.phone and {"phoneNumber": person.phone},
    }


def _place(person: Person) -> Node:
    return {"city": person.place.city, "countryCodeV2": person.place.country_code}


def _line(kind: str, line: Line) -> Node:
    return {
        "id": f"gid://shopify/{kind}/{line.id}",
        "title": line.product.title,
        "quantity": line.quantity,
        "sku": f"AU-{line.variant[0] % 1_000_000:06d}",
        "variantTitle": None if line.variant[1] == "Default Title" else line.variant[1],
        "product": {"id": f"gid://shopify/Product/{line.product.id}"},
        "variant": {"id": f"gid://shopify/ProductVariant/{line.variant[0]}"},
        "originalUnitPriceSet": bag(line.product.price),
    }


def _cents(transactions: list[Node]) -> int:
    return round(sum(float(one["amount"]) for one in transactions) * 100)
