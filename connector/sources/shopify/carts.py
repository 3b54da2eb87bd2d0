"""carts/* and checkouts/*: what somebody is about to buy. Carts name nobody until a checkout shares their token."""

from collections.abc import Iterator
from typing import Any

from connector.clock import Millis
from connector.domain import Entity, Event, Identifier, Json, Normalised
from connector.errors import UnprocessableEvent
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import known
from connector.sources.shopify import customers
from connector.sources.shopify.arrival import Arrival, is_stub
from connector.sources.shopify.line_items import add_up, items, products
from connector.sources.shopify.orders import coupon_of, shipping_of
from connector.sources.shopify.schemas import CART, CHECKOUT


def cart(body: Any, arrival: Arrival) -> Normalised:
    """carts/create, carts/update: the cart, and each variant that is in it as added, once per cart and variant."""
    found = CART(body)
    token = found.get("token") or found.get("id")
    if not token:
        raise UnprocessableEvent("/token: is missing", reason="bad_id")
    who = (Identifier("cart_token", token),)
    if "line_items" not in found:
        return Normalised(identifiers=who, skipped="stub")
    wanted = products(found["line_items"])
    data = known(token=token, total=cart_total(wanted), items=items(wanted))
    as_of = arrival.version(found.get("updated_at"), found.get("created_at"))
    at = arrival.at(found.get("updated_at"), found.get("created_at"))
    bags = (line.get("price_set") for line in found["line_items"] or ())
    currency = next((bag.currency for bag in bags if bag and bag.currency), arrival.currency)
    return Normalised(
        identifiers=who,
        events=tuple(_added(token, wanted, currency, at, arrival)),
        entities=(Entity("cart", token, as_of, data),),
    )


def checkout(body: Any, arrival: Arrival) -> Normalised:
    """checkouts/create, checkouts/update: the checkout, who it is, and `Checkout Started` once per token.

    Joined by token everywhere: `id` left checkouts, and `checkout_id` orders, with API version 2026-04.
    """
    found = CHECKOUT(body)
    token = found.get("token")
    if not token:
        if is_stub(found):
            return Normalised(skipped="stub")
        raise UnprocessableEvent("/token: is missing", reason="bad_id")
    who = [Identifier("checkout_token", token)]
    if cart_token := found.get("cart_token"):
        who.append(Identifier("cart_token", cart_token))
    if "line_items" not in found and "total_price" not in found:
        return Normalised(identifiers=tuple(who), skipped="stub")
    as_of = arrival.version(found.get("updated_at"), found.get("created_at"))
    entities: tuple[Entity, ...] = ()
    consents: tuple[Any, ...] = ()
    customer = found.get("customer")
    if customer and (customer.get("id") or customer.get("admin_graphql_api_id")):
        who.extend(customers.identifiers(customer, arrival))
        if not is_stub(customer):
            stated = arrival.version(customer.get("updated_at"), as_of)
            entities = (customers.entity(customer, stated, found.get("customer_locale")),)
            consents = customers.consents(customer, arrival, undated=None)
    kinds = {identifier.kind for identifier in who}
    if "email" not in kinds and (email := read_email(found.get("email"))):
        who.append(Identifier("email", email))
    address = found.get("shipping_address") or found.get("billing_address") or {}
    stated_phone = found.get("phone") or found.get("sms_marketing_phone")
    if (
        stated_phone
        and not kinds & {"phone", "customer_id"}
        and (phone := read_phone(stated_phone, address.get("country_code")))
    ):
        who.append(Identifier("phone", phone))
    wanted = products(found.get("line_items"))
    currency = found.get("currency") or arrival.currency
    started_at = arrival.at(found.get("created_at"), found.get("updated_at"))
    completed_at = found.get("completed_at")
    data = known(
        token=token,
        cart_token=cart_token,
        url=found.get("abandoned_checkout_url"),
        total=found.get("total_price"),
        currency=currency,
        items=items(wanted),
        created_at=started_at,
        completed_at=None if completed_at is None else arrival.at(completed_at),
    )
    properties = known(
        checkout_token=token,
        cart_token=cart_token,
        total=found.get("total_price"),
        subtotal=found.get("subtotal_price"),
        shipping=shipping_of(found),
        tax=found.get("total_tax"),
        discount=found.get("total_discounts"),
        coupon=coupon_of(found),
        currency=currency,
        url=found.get("abandoned_checkout_url"),
    )
    if found.get("presentment_currency") not in (None, "", currency):
        properties["presentment_currency"] = found["presentment_currency"]
    properties["products"] = wanted
    return Normalised(
        identifiers=tuple(who),
        events=(checkout_started(token, started_at, properties, arrival),),
        entities=(*entities, Entity("checkout", token, as_of, data)),
        consents=consents,
    )


def checkout_deleted(body: Any, arrival: Arrival) -> Normalised:
    """checkouts/delete: has the old id and perhaps the cart's token, while checkouts are kept by their own token."""
    found = CHECKOUT(body)
    token = found.get("token")
    if not token:
        return Normalised(skipped="no_token")
    return Normalised(
        identifiers=(Identifier("checkout_token", token),),
        entities=(Entity("checkout", token, arrival.version(), deleted=True),),
    )


def checkout_started(token: str, at: Millis, properties: dict[str, Json], arrival: Arrival) -> Event:
    """`Checkout Started` by token: the webhook and the web pixel tell of the same fact."""
    return Event(arrival.key("checkout", token, "started"), "Checkout Started", at, properties)


def cart_total(wanted: list[dict[str, Json]]) -> float:
    """What the products of a cart come to before discounts, for bodies that have no total."""
    return add_up((one.get("price") or 0.0) * one.get("quantity", 1) for one in wanted)


def _added(token: str, wanted: list[dict[str, Json]], currency: str, at: Millis, arrival: Arrival) -> Iterator[Event]:
    seen: set[str] = set()
    for one in wanted:
        variant = one.get("variant_id") or one.get("product_id")
        if variant is None or variant in seen or one.get("quantity", 1) <= 0:
            continue
        seen.add(variant)
        properties = {"cart_token": token, "currency": currency, **one}
        yield Event(arrival.key("cart", token, "variant", variant), "Product Added", at, properties)
