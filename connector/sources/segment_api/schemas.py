"""The used fields of Segment's calls (spec of 2026-11): other fields pass, wrong types do not."""

from typing import Any

from marshmallow import Schema

from connector.sources.fields import Part, Parts, Reader, Unreadable, Value, instant, money, text, texts, whole

MOST_PRODUCTS = 100
"""Products read of one event: an order of more is known by its total."""


def id_text(value: Any) -> str | None:
    """An id, which is a text however it is sent: 1001 and "1001" are the same thing."""
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise Unreadable("bad_type", "must be a text or a whole number")
    stripped = value.strip()
    if len(stripped) > 255:
        raise Unreadable("bad_token", "must have at most 255 characters")
    return stripped or None


def _switches(value: Any) -> dict[str, bool]:
    """Category -> allowed."""
    if type(value) is not dict:
        raise Unreadable("bad_type", "must be an object")
    return {str(name): allowed for name, allowed in value.items() if type(allowed) is bool}


class _Product(Schema):
    product_id = Value(id_text)
    id = Value(id_text)
    variant_id = Value(id_text)
    sku = Value(id_text)
    name = Value(text)
    brand = Value(text)
    category = Value(text)
    variant = Value(id_text)
    price = Value(money)
    quantity = Value(whole)
    coupon = Value(id_text)
    url = Value(text)
    image_url = Value(text)


class _Properties(_Product):
    products = Parts(_Product, most=MOST_PRODUCTS)
    order_id = Value(id_text)
    checkout_id = Value(id_text)
    cart_id = Value(id_text)
    checkout_token = Value(id_text)
    cart_token = Value(id_text)
    list_id = Value(id_text)
    query = Value(text)
    currency = Value(text)
    total = Value(money)
    revenue = Value(money)
    value = Value(money)
    subtotal = Value(money)
    shipping = Value(money)
    tax = Value(money)
    discount = Value(money)


class _Address(Schema):
    city = Value(text)
    country = Value(text)
    state = Value(text)
    postalCode = Value(id_text)
    street = Value(text)


class _Traits(Schema):
    email = Value(text)
    phone = Value(id_text)
    name = Value(text)
    firstName = Value(text)
    lastName = Value(text)
    first_name = Value(text)
    last_name = Value(text)
    locale = Value(text)
    address = Part(_Address)
    createdAt = Value(instant)
    tags = Value(texts)


class _Campaign(Schema):
    name = Value(text)
    source = Value(text)
    medium = Value(text)


class _Page(Schema):
    url = Value(text)
    path = Value(text)
    title = Value(text)
    referrer = Value(text)
    search = Value(text)


class _Consent(Schema):
    categoryPreferences = Value(_switches)


class _Context(Schema):
    locale = Value(text)
    userAgent = Value(text)
    campaign = Part(_Campaign)
    page = Part(_Page)
    consent = Part(_Consent)
    traits = Part(_Traits)


class _Event(Schema):
    type = Value(text)
    messageId = Value(text)
    userId = Value(id_text)
    anonymousId = Value(id_text)
    previousId = Value(id_text)
    groupId = Value(id_text)
    event = Value(text)
    name = Value(text)
    category = Value(text)
    timestamp = Value(instant)
    originalTimestamp = Value(instant)
    sentAt = Value(instant)
    properties = Part(_Properties)
    traits = Part(_Traits)
    context = Part(_Context)


class _Envelope(Schema):
    name = Value(text)
    timestamp = Value(instant)


class _PixelEvent(Schema):
    sentAt = Value(instant)
    consent = Value(_switches)
    pixel = Part(_Envelope)


EVENT = Reader(_Event)
PIXEL_EVENT = Reader(_PixelEvent)
