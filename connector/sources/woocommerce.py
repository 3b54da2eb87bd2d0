"""WooCommerce: webhooks of the REST API v3 (`order.updated`, `customer.created`, ...); a body is the resource itself.

An order is bought once it is paid, or taken without payment (cash on delivery): status `processing` or `completed`, or
a date of payment. Before that it is a checkout under way, because WooCommerce makes the order before anybody pays.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema

from connector.clock import Millis, isoformat
from connector.domain import Delivery, Entity, Event, Identifier, Json, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Claim, Reply
from connector.sources import signatures
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import json_object, known
from connector.sources.fields import Part, Parts, Reader, Value, id_text, instant, money, text, whole
from connector.sources.filing import ADDRESS, NUMBER, customer_key, delivery_id, email_key, search, words_id
from connector.sources.instants import happened_at, version_at

_SIGNED = signatures.Scheme(signatures.body_signed("x-wc-webhook-signature"))
_HINT = "WooCommerce shows it as Secret under WooCommerce > Settings > Advanced > Webhooks, in the webhook itself"
_TOPIC = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PING = re.compile(rb"webhook_id=\d{1,20}")

_KEYS = {
    "customer": (search("customer", b'"id"', NUMBER),),
    "order": (
        search("customer", b'"customer_id"', rb'\s*:\s*"?([1-9]\d{0,19})(?!\d)'),
        search("email", b'"email"', ADDRESS),
        search("order", b'"id"', NUMBER),
    ),
    "product": (search("product", b'"id"', NUMBER),),
}
_SOLD = {"processing", "completed", "refunded"}
_LOST = {"cancelled", "failed", "trash"}
_OPEN = {"checkout-draft", "pending"}
_NOT_USED = {"coupon", "action"}


class WooCommerce:
    """The source of kind `woocommerce`."""

    kind = "woocommerce"

    def greet(self, request: RawRequest, secrets: Sequence[str]) -> Reply | None:
        """200 for the unsigned ping that WooCommerce sends when a webhook is saved; it wants exactly that."""
        unsigned = "x-wc-webhook-topic" not in request.headers
        return Reply() if request.method == "POST" and unsigned and _PING.fullmatch(request.body) else None

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the raw body; RejectedDelivery 401 otherwise."""
        signatures.verify(_SIGNED, request, secrets, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data: from headers and a search in the raw bytes. RejectedDelivery 400 without a topic."""
        topic = request.headers.get("x-wc-webhook-topic", "")
        if not _TOPIC.fullmatch(topic):
            raise RejectedDelivery("the X-WC-Webhook-Topic header is missing or not a topic", reason="missing_topic")
        # The delivery id is a hash of the webhook and the second (class-wc-webhook.php, 2026-11): two orders saved
        # within one second share it.
        stated = request.headers.get("x-wc-webhook-delivery-id", "").strip()
        id_ = words_id(stated, request.body) if stated else delivery_id(None, topic, request.body)
        key = customer_key(request.body, _KEYS.get(topic.partition(".")[0], ()))
        return (Claim(id_, topic, key or f"delivery:{id_}", {}),)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the delivery means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        resource, _, action = delivery.topic.partition(".")
        handler = _HANDLERS.get(resource)
        if handler is None:
            return Normalised(skipped="not_used" if resource in _NOT_USED else "unknown_topic")
        reader, meaning, deletion = handler
        found = reader(json_object(delivery.body))
        if found.get("id") is None:
            raise UnprocessableEvent("/id: is missing", reason="bad_id")
        return (deletion if action == "deleted" else meaning)(found, _Arrival(delivery, store))


@dataclass(frozen=True, slots=True)
class _Arrival:
    delivery: Delivery
    store: StoreInfo

    def at(self, *stated: Millis | None) -> Millis:
        return happened_at(self.delivery.received_at, *stated)

    def version(self, found: Mapping[str, Any]) -> Millis:
        return version_at(self.delivery.received_at, found.get("date_modified_gmt"), found.get("date_created_gmt"))

    def key(self, *parts: str) -> str:
        return ":".join(("woocommerce", self.delivery.source, *parts))

    def customer(self, id_: str) -> Identifier:
        return Identifier("customer_id", f"{self.delivery.source}:{id_}")


# --- the used fields --------------------------------------------------------------------------------------------------


def _plain(value: Any) -> str:
    """A text without WordPress' HTML entities: names come as `Ship Your Idea &ndash; Black`."""
    return html.unescape(text(value))


class _Address(Schema):
    first_name = Value(text)
    last_name = Value(text)
    city = Value(text)
    country = Value(text)
    email = Value(text)
    phone = Value(text)


class _Dated(Schema):
    # The *_gmt fields lack a zone suffix, and an instant without one is read as UTC.
    id = Value(id_text)
    date_created_gmt = Value(instant)
    date_modified_gmt = Value(instant)


class _Customer(_Dated):
    email = Value(text)
    first_name = Value(text)
    last_name = Value(text)
    billing = Part(_Address)


class _Line(Schema):
    product_id = Value(id_text)
    variation_id = Value(id_text)
    sku = Value(text)
    name = Value(_plain)
    quantity = Value(whole)
    price = Value(money)


class _Coupon(Schema):
    code = Value(text)


class _Refund(Schema):
    id = Value(id_text)
    total = Value(money)
    reason = Value(text)


class _Order(_Dated):
    number = Value(text)
    order_key = Value(text)
    status = Value(text)
    currency = Value(text)
    date_paid_gmt = Value(instant)
    date_completed_gmt = Value(instant)
    total = Value(money)
    discount_total = Value(money)
    shipping_total = Value(money)
    total_tax = Value(money)
    customer_id = Value(id_text)
    created_via = Value(text)
    payment_url = Value(text)
    billing = Part(_Address)
    line_items = Parts(_Line, most=100)
    coupon_lines = Parts(_Coupon, most=20)
    refunds = Parts(_Refund, most=250)


class _Named(Schema):
    name = Value(_plain)


class _Image(Schema):
    src = Value(text)


class _Product(_Dated):
    name = Value(_plain)
    slug = Value(text)
    status = Value(text)
    permalink = Value(text)
    price = Value(money)
    categories = Parts(_Named, most=50)
    tags = Parts(_Named, most=250)
    images = Parts(_Image, most=1)


# --- what bodies mean -------------------------------------------------------------------------------------------------


def _customer(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The customer in full, with the shop's authority on the e-mail."""
    billing = found.get("billing") or {}
    who = [arrival.customer(found["id"])]
    if email := read_email(found.get("email")):
        who.append(Identifier("email", email))
    if phone := read_phone(billing.get("phone"), billing.get("country")):
        who.append(Identifier("phone", phone))
    created = found.get("date_created_gmt")
    data = known(
        first_name=found.get("first_name") or billing.get("first_name"),
        last_name=found.get("last_name") or billing.get("last_name"),
        email=email,
        phone=phone,
        city=billing.get("city"),
        country=billing.get("country"),
        created_at=None if created is None else isoformat(arrival.at(created)),
    )
    entity = Entity("customer", found["id"], arrival.version(found), data)
    return Normalised(identifiers=tuple(who), entities=(entity,), authoritative=True)


def _customer_deleted(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    entity = Entity("customer", found["id"], arrival.version(found), deleted=True)
    return Normalised(identifiers=(arrival.customer(found["id"]),), entities=(entity,), authoritative=True)


def _order(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The order as it is now, its refunds, its buyer, and what has happened to it so far under natural keys."""
    id_, status = found["id"], found.get("status")
    if status is None or found.get("total") is None:
        raise UnprocessableEvent("/status: status and total are needed", reason="bad_order")
    as_of = arrival.version(found)
    lost = status in _LOST
    sold = status in _SOLD or found.get("date_paid_gmt") is not None
    entities = [_buyer(found, as_of)]
    own = found.get("currency") in (None, "", arrival.store.currency)  # other currencies are not added up
    if own and (sold or lost):
        entities += [_order_entity(found, as_of, arrival, lost=lost), *_refund_entities(found, as_of, arrival)]
    return Normalised(
        identifiers=_who(found, arrival),
        events=tuple(_happened(found, as_of, arrival, sold=sold, lost=lost)),
        entities=tuple(one for one in entities if one is not None),
        order_ref=id_,
    )


def _order_deleted(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The body is the id."""
    return Normalised(
        entities=(Entity("order", found["id"], arrival.version(found), deleted=True),), order_ref=found["id"]
    )


def _product(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    categories = [one["name"] for one in found.get("categories") or () if one.get("name")]
    images = found.get("images") or [{}]
    data = known(
        title=found.get("name"),
        handle=found.get("slug"),
        product_type=categories[0] if categories else None,
        status=found.get("status"),
        image_url=images[0].get("src"),
        price=found.get("price"),
        url=found.get("permalink"),
    )
    data["tags"] = [one["name"] for one in found.get("tags") or () if one.get("name")]
    return Normalised(entities=(Entity("product", found["id"], arrival.version(found), data),))


def _product_deleted(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    return Normalised(entities=(Entity("product", found["id"], arrival.version(found), deleted=True),))


_HANDLERS = {
    "customer": (Reader(_Customer), _customer, _customer_deleted),
    "order": (Reader(_Order), _order, _order_deleted),
    "product": (Reader(_Product), _product, _product_deleted),
}


# --- parts of an order ------------------------------------------------------------------------------------------------


def _who(found: Mapping[str, Any], arrival: _Arrival) -> tuple[Identifier, ...]:
    """customer_id is 0 for a guest; who has no account is known by the billing e-mail."""
    billing = found.get("billing") or {}
    who = []
    if id_ := found.get("customer_id"):
        who.append(arrival.customer(id_))
    if email := read_email(billing.get("email")):
        who.append(Identifier("email", email))
    if phone := read_phone(billing.get("phone"), billing.get("country")):
        who.append(Identifier("phone", phone))
    if token := found.get("order_key"):
        who.append(Identifier("checkout_token", token))
    return tuple(who)


def _buyer(found: Mapping[str, Any], as_of: Millis) -> Entity | None:
    """What the order says of its buyer: a guest is told nowhere else, and has no id but the address."""
    billing = found.get("billing") or {}
    email = read_email(billing.get("email"))
    id_ = found.get("customer_id") or (email_key(email.encode()) if email else None)
    if id_ is None:
        return None
    names = ("first_name", "last_name", "city", "country")
    data = known(email=email, **{name: billing.get(name) for name in names})
    return Entity("customer", id_, as_of, data)


def _order_entity(found: Mapping[str, Any], as_of: Millis, arrival: _Arrival, *, lost: bool) -> Entity:
    data = known(
        total=found["total"],
        currency=found.get("currency") or arrival.store.currency,
        placed_at=arrival.at(found.get("date_created_gmt"), as_of),
        cancelled_at=arrival.at(as_of) if lost else None,
        name=found.get("number"),
        checkout_token=found.get("order_key"),
        financial_status="paid" if found.get("date_paid_gmt") is not None else None,
        fulfillment_status="fulfilled" if found["status"] == "completed" else None,
    )
    bought = (line.get("product_id") for line in found.get("line_items") or ())
    data["products"] = list(dict.fromkeys(id_ for id_ in bought if id_))
    return Entity("order", found["id"], as_of, data)


def _refunds(found: Mapping[str, Any]) -> Iterator[tuple[str, float, str | None]]:
    """Id, amount and reason; the amounts are negative in the order's list."""
    for one in found.get("refunds") or ():
        if one.get("id") and one.get("total") is not None:
            yield one["id"], abs(one["total"]), one.get("reason")


def _refund_entities(found: Mapping[str, Any], as_of: Millis, arrival: _Arrival) -> Iterator[Entity]:
    for id_, amount, _ in _refunds(found):
        yield Entity("refund", id_, as_of, {"order_id": found["id"], "amount": amount, "at": arrival.at(as_of)})


def _happened(found: Mapping[str, Any], as_of: Millis, arrival: _Arrival, *, sold: bool, lost: bool) -> Iterator[Event]:
    id_ = found["id"]
    placed_at = arrival.at(found.get("date_created_gmt"), as_of)
    properties = _properties(found, arrival)
    if sold:
        at = arrival.at(found.get("date_paid_gmt"), placed_at)
        yield Event(arrival.key("order", id_, "completed"), "Order Completed", at, properties)
    elif found["status"] in _OPEN:
        key = arrival.key("order", id_, "started")
        yield Event(key, "Checkout Started", placed_at, properties | known(url=found.get("payment_url")))
    if lost:
        properties = {**properties, "reason": found["status"]}
        yield Event(arrival.key("order", id_, "cancelled"), "Order Cancelled", arrival.at(as_of), properties)
    if found["status"] == "completed":
        at = arrival.at(found.get("date_completed_gmt"), as_of)
        yield Event(arrival.key("order", id_, "fulfilled"), "Order Fulfilled", at, properties)
    for refund, amount, reason in _refunds(found):
        # The list does not say when: the order was saved with it for the first time.
        stated = known(order_id=id_, refund_id=refund, total=amount, currency=properties["currency"], reason=reason)
        yield Event(arrival.key("refund", refund), "Order Refunded", arrival.at(as_of), stated)


def _properties(found: Mapping[str, Any], arrival: _Arrival) -> dict[str, Json]:
    properties = known(
        order_id=found["id"],
        order_name=found.get("number"),
        checkout_token=found.get("order_key"),
        total=found["total"],
        shipping=found.get("shipping_total"),
        tax=found.get("total_tax"),
        discount=found.get("discount_total"),
        coupon=next((one["code"] for one in found.get("coupon_lines") or () if one.get("code")), None),
        currency=found.get("currency") or arrival.store.currency,
        channel=found.get("created_via"),
    )
    properties["products"] = [
        known(
            product_id=line.get("product_id"),
            variant_id=line.get("variation_id"),
            sku=line.get("sku"),
            name=line.get("name"),
            price=None if line.get("price") is None else round(line["price"], 4),  # a quotient: 13.361344537815126
            quantity=line.get("quantity"),
        )
        for line in found.get("line_items") or ()
    ]
    return properties
