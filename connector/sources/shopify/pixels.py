"""web_pixels/<name>: Shopify's web pixel events, forwarded by the merchant's own server and signed like webhooks.

The topic is StoreCue's, the body is the pixel's envelope: {id, clientId, name, timestamp, data} and, for visitors who
are logged in, `customer` {id, email}. Ids are texts here and money is a number (@shopify/web-pixels-extension 2.18).
The visitor's word is no authority: an e-mail ties a profile, but moves from nobody, and nothing here is consent.
"""

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import Schema

from connector.clock import Millis
from connector.domain import Event, Identifier, Json, Normalised
from connector.errors import UnprocessableEvent
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import known
from connector.sources.fields import Part, Parts, Reader, Value, instant, money, text, token_text, whole
from connector.sources.shopify.arrival import Arrival
from connector.sources.shopify.carts import cart_total, checkout_started
from connector.sources.shopify.schemas import MOST_PRODUCTS
from connector.sources.shopify.values import id_


class _Money(Schema):
    amount = Value(money)
    currencyCode = Value(text)


class _Product(Schema):
    id = Value(id_)
    title = Value(text)
    vendor = Value(text)
    type = Value(text)
    url = Value(text)


class _Image(Schema):
    src = Value(text)


class _Variant(Schema):
    id = Value(id_)
    sku = Value(text)
    title = Value(text)
    price = Part(_Money)
    product = Part(_Product)
    image = Part(_Image)


class _CartLine(Schema):
    merchandise = Part(_Variant)
    quantity = Value(whole)


class _CartCost(Schema):
    totalAmount = Part(_Money)


class _Cart(Schema):
    id = Value(token_text)
    lines = Parts(_CartLine, most=MOST_PRODUCTS)
    cost = Part(_CartCost)


class _Collection(Schema):
    id = Value(id_)
    title = Value(text)
    productVariants = Parts(_Variant, most=MOST_PRODUCTS)


class _SearchResult(Schema):
    query = Value(text)


class _CheckoutLine(Schema):
    title = Value(text)
    quantity = Value(whole)
    variant = Part(_Variant)


class _Customer(Schema):
    id = Value(id_)
    email = Value(text)


class _Order(Schema):
    id = Value(id_)
    customer = Part(_Customer)


class _ShippingLine(Schema):
    price = Part(_Money)


class _Address(Schema):
    countryCode = Value(text)


class _Checkout(Schema):
    token = Value(token_text)
    email = Value(text)
    phone = Value(text)
    currencyCode = Value(text)
    order = Part(_Order)
    lineItems = Parts(_CheckoutLine, most=MOST_PRODUCTS)
    totalPrice = Part(_Money)
    subtotalPrice = Part(_Money)
    totalTax = Part(_Money)
    shippingLine = Part(_ShippingLine)
    shippingAddress = Part(_Address)


class _Data(Schema):
    productVariant = Part(_Variant)
    collection = Part(_Collection)
    searchResult = Part(_SearchResult)
    cartLine = Part(_CartLine)
    cart = Part(_Cart)
    checkout = Part(_Checkout)


class _Envelope(Schema):
    id = Value(token_text)
    clientId = Value(token_text)
    timestamp = Value(instant)
    customer = Part(_Customer)
    data = Part(_Data)


_ENVELOPE = Reader(_Envelope)

Properties = dict[str, Json]
Tell = Callable[[Mapping[str, Any]], Properties | None]
"""The properties of an event from the envelope's `data`; None when the visitor's page had nothing to tell."""


def pixel(body: Any, arrival: Arrival) -> Normalised:
    """One visitor's act, by an anonymous id and whatever else is known of the visitor."""
    envelope = _ENVELOPE(body)
    data = envelope.get("data") or {}
    checkout = data.get("checkout") or {}
    who = _visitor(envelope, checkout, arrival)
    if not who:
        raise UnprocessableEvent("/clientId: is missing", reason="nobody")
    name = arrival.topic.partition("/")[2]
    at = arrival.at(envelope.get("timestamp"))
    if name == "checkout_started":
        token = checkout.get("token")
        events = (checkout_started(token, at, _checkout(checkout), arrival),) if token else ()
        return Normalised(identifiers=who, events=events)
    if name == "checkout_completed":
        return Normalised(identifiers=who)  # orders/create is the truth; this ties the visitor to it
    known_event = _EVENTS.get(name)
    if known_event is None:
        return Normalised(identifiers=who, skipped="not_used")
    title, tell = known_event
    properties = tell(data)
    if properties is None:
        return Normalised(identifiers=who, skipped="empty")
    return Normalised(identifiers=who, events=(_event(envelope, title, at, properties, arrival),))


def _event(envelope: Mapping[str, Any], name: str, at: Millis, properties: Properties, arrival: Arrival) -> Event:
    id_ = envelope.get("id")
    if not id_:
        raise UnprocessableEvent("/id: is missing", reason="bad_id")
    return Event(arrival.key("pixel", id_), name, at, properties)


def _visitor(envelope: Mapping[str, Any], checkout: Mapping[str, Any], arrival: Arrival) -> tuple[Identifier, ...]:
    who: list[Identifier] = []
    customer = envelope.get("customer") or {}
    buyer = (checkout.get("order") or {}).get("customer") or {}
    if number := customer.get("id") or buyer.get("id"):
        who.append(arrival.customer(number))
    if email := read_email(customer.get("email")) or read_email(checkout.get("email")):
        who.append(Identifier("email", email))
    country = (checkout.get("shippingAddress") or {}).get("countryCode")
    if not customer and (phone := read_phone(checkout.get("phone"), country)):
        who.append(Identifier("phone", phone))
    if token := checkout.get("token"):
        who.append(Identifier("checkout_token", token))
    if cart_token := _cart_token((envelope.get("data") or {}).get("cart") or {}):
        who.append(Identifier("cart_token", cart_token))
    if client := envelope.get("clientId"):
        who.append(Identifier("anonymous_id", client))
    return tuple(who)


def _cart_token(cart: Mapping[str, Any]) -> str | None:
    """The token that webhooks call the cart by: the storefront wraps it as gid://shopify/Cart/<token>?key=..."""
    return (cart.get("id") or "").rpartition("/")[2].partition("?")[0].strip() or None


def _variant(variant: Mapping[str, Any]) -> Properties:
    price, product = variant.get("price") or {}, variant.get("product") or {}
    return known(
        product_id=product.get("id"),
        variant_id=variant.get("id"),
        sku=variant.get("sku"),
        name=product.get("title") or variant.get("title"),
        variant=variant.get("title") if product.get("title") else None,
        brand=product.get("vendor"),
        category=product.get("type"),
        price=price.get("amount"),
        currency=price.get("currencyCode"),
        url=product.get("url"),
        image_url=(variant.get("image") or {}).get("src"),
    )


def _line(line: Mapping[str, Any]) -> Properties:
    return {**_variant(line.get("merchandise") or {}), **known(quantity=line.get("quantity"))}


def _product_viewed(data: Mapping[str, Any]) -> Properties | None:
    variant = data.get("productVariant")
    return _variant(variant) if variant else None


def _collection_viewed(data: Mapping[str, Any]) -> Properties | None:
    collection = data.get("collection")
    if not collection:
        return None
    properties = known(list_id=collection.get("id"), category=collection.get("title"))
    properties["products"] = [_variant(one) for one in collection.get("productVariants") or ()]
    return properties


def _searched(data: Mapping[str, Any]) -> Properties | None:
    query = (data.get("searchResult") or {}).get("query")
    return {"query": query} if query else None


def _cart_line(data: Mapping[str, Any]) -> Properties | None:
    line = data.get("cartLine")
    return _line(line) if line else None


def _cart_viewed(data: Mapping[str, Any]) -> Properties | None:
    cart = data.get("cart")
    if not cart:
        return None
    lines = [_line(line) for line in cart.get("lines") or ()]
    total = (cart.get("cost") or {}).get("totalAmount") or {}
    amount = total.get("amount")
    properties = known(
        cart_token=_cart_token(cart),
        total=cart_total(lines) if amount is None else amount,
        currency=total.get("currencyCode"),
    )
    properties["products"] = lines
    return properties


def _checkout(checkout: Mapping[str, Any]) -> Properties:
    total = checkout.get("totalPrice") or {}
    shipping = (checkout.get("shippingLine") or {}).get("price") or {}
    properties = known(
        checkout_token=checkout.get("token"),
        total=total.get("amount"),
        subtotal=(checkout.get("subtotalPrice") or {}).get("amount"),
        shipping=shipping.get("amount"),
        tax=(checkout.get("totalTax") or {}).get("amount"),
        currency=checkout.get("currencyCode") or total.get("currencyCode"),
    )
    properties["products"] = [
        {**known(name=line.get("title")), **_variant(line.get("variant") or {}), **known(quantity=line.get("quantity"))}
        for line in checkout.get("lineItems") or ()
    ]
    return properties


_EVENTS: dict[str, tuple[str, Tell]] = {
    "product_viewed": ("Product Viewed", _product_viewed),
    "collection_viewed": ("Product List Viewed", _collection_viewed),
    "search_submitted": ("Products Searched", _searched),
    "product_added_to_cart": ("Product Added", _cart_line),
    "product_removed_from_cart": ("Product Removed", _cart_line),
    "cart_viewed": ("Cart Viewed", _cart_viewed),
}
