"""What fetched documents mean. An order is bought by its status: BigCommerce makes it before anybody pays (0, 1, 7)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from marshmallow import Schema

from connector.clock import Millis, isoformat
from connector.domain import Consent, Delivery, Entity, Event, Identifier, Json, Normalised, StoreInfo
from connector.errors import UnprocessableEvent
from connector.sources.bigcommerce import callbacks
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import known
from connector.sources.fields import Part, Parts, Reader, Value, id_text, instant, money, text, token_text, whole
from connector.sources.filing import email_key
from connector.sources.instants import happened_at, version_at

# https://developer.bigcommerce.com/docs/rest-management/orders/order-status, read 2026-11
_INCOMPLETE, _PENDING, _SHIPPED, _PARTLY_SHIPPED, _REFUNDED, _CANCELLED, _DECLINED, _AWAITING_PAYMENT = range(8)
(
    _AWAITING_PICKUP,
    _AWAITING_SHIPMENT,
    _COMPLETED,
    _AWAITING_FULFILMENT,
    _TO_BE_LOOKED_AT,
    _DISPUTED,
    _PARTLY_REFUNDED,
) = range(8, 15)
_SOLD = {
    _SHIPPED, _PARTLY_SHIPPED, _REFUNDED, _AWAITING_PICKUP, _AWAITING_SHIPMENT, _COMPLETED, _AWAITING_FULFILMENT,
    _DISPUTED, _PARTLY_REFUNDED,
}  # fmt: skip
_LOST = {_CANCELLED: "cancelled", _DECLINED: "declined"}
_OPEN = {_INCOMPLETE, _PENDING, _AWAITING_PAYMENT}
_SENT = {_SHIPPED, _COMPLETED}


def meaning(way: str, kind: str, body: Any, delivery: Delivery, store: StoreInfo) -> Normalised:
    """What a document that was fetched means, or that there is none any more."""
    arrival, handler = _Arrival(delivery, store), _HANDLERS.get(kind)
    if handler is None or way not in ("fetched", "gone"):
        return Normalised(skipped="unknown_topic")
    if way == "gone":
        return _gone(kind, _ID(body), arrival)
    reader, meant = handler
    found = reader(body)
    about = found.get(kind)
    if about is None or about.get("id") is None:
        raise UnprocessableEvent(f"/{kind}/id: is missing", reason="bad_id")
    return meant(about, found, arrival)


@dataclass(frozen=True, slots=True)
class _Arrival:
    delivery: Delivery
    store: StoreInfo

    def at(self, *stated: Millis | None) -> Millis:
        return happened_at(self.delivery.received_at, *stated)

    def version(self, *stated: Millis | None) -> Millis:
        return version_at(self.delivery.received_at, *stated)

    def key(self, *parts: str) -> str:
        return ":".join(("bigcommerce", self.delivery.source, *parts))

    def customer(self, id_: str) -> Identifier:
        return Identifier("customer_id", f"{self.delivery.source}:{id_}")


# --- the used fields --------------------------------------------------------------------------------------------------


def _dated(value: Any) -> Millis | None:
    """V2 writes `Tue, 20 Nov 2012 00:00:00 +0000`, v3 ISO 8601; an order that was not shipped has an empty text."""
    if type(value) is str and "," in value:
        try:
            return int(parsedate_to_datetime(value).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            pass  # said by the next line
    return instant(value)


class _Named(Schema):
    id = Value(id_text)


class _Address(Schema):
    first_name = Value(text)
    last_name = Value(text)
    city = Value(text)
    country_iso2 = Value(text)
    country_code = Value(text)
    phone = Value(text)
    email = Value(text)


class _CustomerFields(Schema):
    id = Value(id_text)
    email = Value(text)
    first_name = Value(text)
    last_name = Value(text)
    phone = Value(text)
    date_created = Value(_dated)
    date_modified = Value(_dated)
    addresses = Parts(_Address, most=1)


class _SubscriberFields(Schema):
    id = Value(id_text)
    email = Value(text)
    first_name = Value(text)
    last_name = Value(text)
    date_created = Value(_dated)
    date_modified = Value(_dated)


class _OrderFields(Schema):
    id = Value(id_text)
    status_id = Value(whole)
    customer_id = Value(id_text)
    cart_id = Value(token_text)
    date_created = Value(_dated)
    date_modified = Value(_dated)
    date_shipped = Value(_dated)
    total_inc_tax = Value(money)
    total_tax = Value(money)
    shipping_cost_inc_tax = Value(money)
    discount_amount = Value(money)
    coupon_discount = Value(money)
    currency_code = Value(text)
    default_currency_code = Value(text)
    order_source = Value(text)
    payment_status = Value(text)
    billing_address = Part(_Address)


class _Line(Schema):
    product_id = Value(id_text)
    variant_id = Value(id_text)
    sku = Value(text)
    name = Value(text)
    quantity = Value(whole)
    price_inc_tax = Value(money)


class _Refund(Schema):
    id = Value(id_text)
    total_amount = Value(money)
    reason = Value(text)
    created = Value(_dated)


class _Currency(Schema):
    code = Value(text)


class _Item(Schema):
    product_id = Value(id_text)
    variant_id = Value(id_text)
    sku = Value(text)
    name = Value(text)
    quantity = Value(whole)
    sale_price = Value(money)


class _Items(Schema):
    physical_items = Parts(_Item, most=100)
    digital_items = Parts(_Item, most=100)
    custom_items = Parts(_Item, most=100)


class _CartFields(Schema):
    id = Value(id_text)
    customer_id = Value(id_text)
    email = Value(text)
    currency = Part(_Currency)
    cart_amount = Value(money)
    line_items = Part(_Items)
    created_time = Value(_dated)
    updated_time = Value(_dated)


class _Image(Schema):
    url_standard = Value(text)


class _ProductFields(Schema):
    id = Value(id_text)
    name = Value(text)
    type = Value(text)
    price = Value(money)
    date_created = Value(_dated)
    date_modified = Value(_dated)
    primary_image = Part(_Image)


class _Customer(Schema):
    customer = Part(_CustomerFields)


class _Subscriber(Schema):
    subscriber = Part(_SubscriberFields)


class _Order(Schema):
    order = Part(_OrderFields)
    products = Parts(_Line, most=250)
    refunds = Parts(_Refund, most=250)


class _Cart(Schema):
    cart = Part(_CartFields)


class _Product(Schema):
    product = Part(_ProductFields)


_ID = Reader(_Named)


# --- what documents mean ----------------------------------------------------------------------------------------------


def _customer(about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The customer, with the shop's authority on the e-mail. Whether they want mail, the list of subscribers says."""
    place = (about.get("addresses") or [{}])[0]
    country = place.get("country_code") or place.get("country_iso2")
    who = [arrival.customer(about["id"])]
    if email := read_email(about.get("email")):
        who.append(Identifier("email", email))
    if phone := read_phone(about.get("phone") or place.get("phone"), country):
        who.append(Identifier("phone", phone))
    created = about.get("date_created")
    data = known(
        first_name=about.get("first_name"),
        last_name=about.get("last_name"),
        email=email,
        phone=phone,
        city=place.get("city"),
        country=country,
        created_at=None if created is None else isoformat(arrival.at(created)),
    )
    as_of = arrival.version(about.get("date_modified"), created)
    return Normalised(
        identifiers=tuple(who), entities=(Entity("customer", about["id"], as_of, data),), authoritative=True
    )


def _subscriber(about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """Somebody on the newsletter's list, since they were put on it: a later change is not a new consent."""
    who = [callbacks.subscriber(about["id"], arrival.delivery)]
    email = read_email(about.get("email"))
    if email is None:
        return Normalised(skipped="no_address")
    who.append(Identifier("email", email))
    as_of = arrival.version(about.get("date_modified"), about.get("date_created"))
    data = known(email=email, first_name=about.get("first_name"), last_name=about.get("last_name"))
    said = Consent("email", "subscribed", arrival.at(about.get("date_created")))
    entity = Entity("customer", email_key(email.encode()), as_of, data)
    return Normalised(identifiers=tuple(who), entities=(entity,), consents=(said,))


def _order(about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The order as it is now, its refunds, its buyer, and what has happened to it so far under natural keys."""
    status, total = about.get("status_id"), about.get("total_inc_tax")
    if status is None or total is None:
        raise UnprocessableEvent("/order: status_id and total_inc_tax are needed", reason="bad_order")
    as_of = arrival.version(about.get("date_modified"), about.get("date_created"))
    currency = about.get("default_currency_code") or about.get("currency_code") or arrival.store.currency
    entities = [_buyer(about, as_of)]
    if currency == arrival.store.currency and (status in _SOLD or status in _LOST):  # others are not added up
        entities += [_order_entity(about, found, as_of, currency, arrival), *_refund_entities(about, found, arrival)]
    return Normalised(
        identifiers=_who(about, arrival),
        events=tuple(_happened(about, found, as_of, currency, arrival)),
        entities=tuple(one for one in entities if one is not None),
        order_ref=about["id"],
    )


def _cart(about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The cart; once somebody has left an address in it, a checkout has begun: the two have one id."""
    token = about["id"]
    who = [Identifier("cart_token", token)]
    if id_ := about.get("customer_id"):
        who.append(arrival.customer(id_))
    if email := read_email(about.get("email")):
        who += [Identifier("email", email), Identifier("checkout_token", token)]
    held = about.get("line_items") or {}
    lines = [line for name in ("physical_items", "digital_items", "custom_items") for line in held.get(name) or ()]
    products = [_product_of(line, "sale_price") for line in lines]
    currency = (about.get("currency") or {}).get("code") or arrival.store.currency
    total, begun = about.get("cart_amount"), about.get("created_time")
    as_of = arrival.version(about.get("updated_time"), begun)
    at = arrival.at(about.get("updated_time"), begun)
    entities = [Entity("cart", token, as_of, known(token=token, total=total, items=products))]
    events = list(_added(token, products, currency, at, arrival))
    if email:
        shared = known(cart_token=token, total=total, currency=currency)
        checkout = known(token=token, created_at=arrival.at(begun, at), items=products, **shared)
        entities.append(Entity("checkout", token, as_of, checkout))
        properties = {"checkout_token": token, **shared, "products": products}
        events.append(Event(arrival.key("checkout", token, "started"), "Checkout Started", at, properties))
    return Normalised(identifiers=tuple(who), events=tuple(events), entities=tuple(entities))


def _product(about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    image = about.get("primary_image") or {}
    data = known(
        title=about.get("name"),
        product_type=about.get("type"),
        price=about.get("price"),
        image_url=image.get("url_standard"),
    )
    as_of = arrival.version(about.get("date_modified"), about.get("date_created"))
    return Normalised(entities=(Entity("product", about["id"], as_of, data),))


_HANDLERS: Mapping[str, tuple[Reader, Callable[[Mapping[str, Any], Mapping[str, Any], _Arrival], Normalised]]] = {
    "cart": (Reader(_Cart), _cart),
    "customer": (Reader(_Customer), _customer),
    "order": (Reader(_Order), _order),
    "product": (Reader(_Product), _product),
    "subscriber": (Reader(_Subscriber), _subscriber),
}


def _gone(kind: str, found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The thing was deleted before it could be read. A cart goes like that when it is bought or expires."""
    id_, at = found.get("id"), arrival.delivery.received_at
    if id_ is None:
        raise UnprocessableEvent("/id: is missing", reason="bad_id")
    if kind == "subscriber":
        said = (Consent("email", "unsubscribed", at),)
        return Normalised(identifiers=(callbacks.subscriber(id_, arrival.delivery),), consents=said, known_only=True)
    if kind == "order":
        return Normalised(entities=(Entity("order", id_, at, deleted=True),), order_ref=id_)
    if kind == "cart":
        return callbacks.gone("cart", id_, at, arrival.delivery)
    return callbacks.gone("customer" if kind == "customer" else "product", id_, at, arrival.delivery)


# --- parts of an order ------------------------------------------------------------------------------------------------


def _who(about: Mapping[str, Any], arrival: _Arrival) -> tuple[Identifier, ...]:
    """customer_id is 0 for a guest; who has no account is known by the billing e-mail."""
    billing = about.get("billing_address") or {}
    who = []
    if id_ := about.get("customer_id"):
        who.append(arrival.customer(id_))
    if email := read_email(billing.get("email")):
        who.append(Identifier("email", email))
    if phone := read_phone(billing.get("phone"), billing.get("country_iso2")):
        who.append(Identifier("phone", phone))
    if token := about.get("cart_id"):
        who += [Identifier("checkout_token", token), Identifier("cart_token", token)]
    return tuple(who)


def _buyer(about: Mapping[str, Any], as_of: Millis) -> Entity | None:
    """What the order says of its buyer: a guest is told nowhere else, and has no id but the address."""
    billing = about.get("billing_address") or {}
    email = read_email(billing.get("email"))
    id_ = about.get("customer_id") or (email_key(email.encode()) if email else None)
    if id_ is None:
        return None
    data = known(
        email=email,
        first_name=billing.get("first_name"),
        last_name=billing.get("last_name"),
        city=billing.get("city"),
        country=billing.get("country_iso2"),
    )
    return Entity("customer", id_, as_of, data)


def _order_entity(
    about: Mapping[str, Any], found: Mapping[str, Any], as_of: Millis, currency: str, arrival: _Arrival
) -> Entity:
    status = about["status_id"]
    data = known(
        total=about["total_inc_tax"],
        currency=currency,
        placed_at=arrival.at(about.get("date_created"), as_of),
        cancelled_at=arrival.at(as_of) if status in _LOST else None,
        name=about["id"],
        checkout_token=about.get("cart_id"),
        cart_token=about.get("cart_id"),
        financial_status=about.get("payment_status"),
        fulfillment_status="fulfilled" if status in _SENT else None,
    )
    bought = (line.get("product_id") for line in found.get("products") or ())
    data["products"] = list(dict.fromkeys(id_ for id_ in bought if id_))
    return Entity("order", about["id"], as_of, data)


def _refunds(
    about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival
) -> Iterator[tuple[str, float, Millis, str | None]]:
    """Id, amount, instant and reason. An order that somebody has only called refunded, because the money went back some
    other way, is refunded in full."""
    listed = [one for one in found.get("refunds") or () if one.get("id") and one.get("total_amount") is not None]
    for one in listed:
        yield one["id"], abs(one["total_amount"]), arrival.at(one.get("created")), one.get("reason")
    if not listed and about["status_id"] == _REFUNDED:
        yield f"order-{about['id']}", about["total_inc_tax"], arrival.at(about.get("date_modified")), None


def _refund_entities(about: Mapping[str, Any], found: Mapping[str, Any], arrival: _Arrival) -> Iterator[Entity]:
    for id_, amount, at, _ in _refunds(about, found, arrival):
        yield Entity("refund", id_, arrival.version(at), {"order_id": about["id"], "amount": amount, "at": at})


def _happened(
    about: Mapping[str, Any], found: Mapping[str, Any], as_of: Millis, currency: str, arrival: _Arrival
) -> Iterator[Event]:
    id_, status = about["id"], about["status_id"]
    placed_at, changed_at = arrival.at(about.get("date_created"), as_of), arrival.at(as_of)
    properties = _properties(about, found, currency)
    if status in _SOLD:
        yield Event(arrival.key("order", id_, "completed"), "Order Completed", placed_at, properties)
    elif status in _OPEN:
        # The same fact as that of its cart, where it has one.
        key = ("checkout", about["cart_id"]) if about.get("cart_id") else ("order", id_)
        yield Event(arrival.key(*key, "started"), "Checkout Started", placed_at, properties)
    if status in _LOST:
        told = {**properties, "reason": _LOST[status]}
        yield Event(arrival.key("order", id_, "cancelled"), "Order Cancelled", changed_at, told)
    if status in _SENT:
        at = arrival.at(about.get("date_shipped"), as_of)
        yield Event(arrival.key("order", id_, "fulfilled"), "Order Fulfilled", at, properties)
    for refund, amount, at, reason in _refunds(about, found, arrival):
        stated = known(order_id=id_, refund_id=refund, total=amount, currency=currency, reason=reason)
        yield Event(arrival.key("refund", refund), "Order Refunded", at, stated)


def _properties(about: Mapping[str, Any], found: Mapping[str, Any], currency: str) -> dict[str, Json]:
    reductions = [one for one in (about.get("discount_amount"), about.get("coupon_discount")) if one]
    properties = known(
        order_id=about["id"],
        order_name=about["id"],
        checkout_token=about.get("cart_id"),
        cart_token=about.get("cart_id"),
        total=about["total_inc_tax"],
        shipping=about.get("shipping_cost_inc_tax"),
        tax=about.get("total_tax"),
        discount=round(sum(reductions), 4) if reductions else None,
        currency=currency,
        channel=about.get("order_source"),
    )
    properties["products"] = [_product_of(line, "price_inc_tax") for line in found.get("products") or ()]
    return properties


def _product_of(line: Mapping[str, Any], price: str) -> dict[str, Json]:
    return known(
        product_id=line.get("product_id"),
        variant_id=line.get("variant_id"),
        sku=line.get("sku"),
        name=line.get("name"),
        price=line.get(price),
        quantity=line.get("quantity"),
    )


def _added(
    token: str, products: list[dict[str, Json]], currency: str, at: Millis, arrival: _Arrival
) -> Iterator[Event]:
    seen: set[str] = set()
    for one in products:
        variant = one.get("variant_id") or one.get("product_id")
        if variant is None or variant in seen or one.get("quantity", 1) <= 0:
            continue
        seen.add(variant)
        properties = {"cart_token": token, "currency": currency, **one}
        yield Event(arrival.key("cart", token, "variant", variant), "Product Added", at, properties)
