"""Adobe Commerce (Magento): events of customers, orders, credit memos and products, delivered by Adobe I/O Events.

Values are texts, and only those fields are there that the subscription names. Adobe's own webhooks are another thing:
Commerce waits for their answer before it goes on, so they are not for telling what has happened.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from marshmallow import Schema

from connector.clock import Millis, isoformat
from connector.domain import Delivery, Entity, Event, Identifier, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Claim, Reply
from connector.sources.contacts import read_email
from connector.sources.documents import json_object, known
from connector.sources.envelopes import dict_at, parsed
from connector.sources.fields import Parts, Reader, Value, id_text, instant, money, text
from connector.sources.filing import delivery_id, email_key, key_of
from connector.sources.generic import verifier
from connector.sources.instants import happened_at, version_at
from connector.sources.signatures import base64_bytes

_CHALLENGE = re.compile(r"[A-Za-z0-9_.~-]{1,200}")
_PEM = "-----BEGIN"
_SIGNATURES = ("x-adobe-digital-signature-1", "x-adobe-digital-signature-2")
_TOPIC = re.compile(r"(?:.*\.)?(?:observer|plugin)\.([a-z0-9_]{1,100})")
_SOLD = {"processing", "complete", "closed"}


class AdobeCommerce:
    """The source of kind `adobe_commerce`. Secrets are Adobe's public keys in PEM, or tokens of the address."""

    kind = "adobe_commerce"

    def __init__(self, client_id: str | None = None) -> None:
        self._client_id = client_id
        self._verify_token = verifier("token")

    def configured(self, options: Mapping[str, Json]) -> "AdobeCommerce":
        """A source for the project with this `client_id`."""
        for name, value in options.items():
            if name != "client_id" or type(value) is not str:
                raise DefinitionError("is not known here; use client_id, a text", pointer=f"/{name}")
        return AdobeCommerce(options.get("client_id"))

    def greet(self, request: RawRequest, secrets: Sequence[str]) -> Reply | None:
        """The challenge that Adobe I/O sends when a webhook is registered, back as it came."""
        if request.method != "GET":
            return None
        pairs = parse_qsl(request.query) if len(request.query) < 2000 else []
        challenge = next((value for name, value in pairs if name == "challenge"), "")
        return Reply(body=challenge.encode()) if _CHALLENGE.fullmatch(challenge) else None

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when Adobe signed the raw body, and for us, or a secret is the token; RejectedDelivery 401 otherwise.

        Adobe signs for all its customers with one pair of keys: without the client id of our own project in the body,
        somebody else's deliveries would be genuine.
        """
        keys = [secret for secret in secrets if secret.lstrip().startswith(_PEM)]
        if keys and self._client_id is not None and _signed(request, keys):
            if _client_of(request.body) == self._client_id:
                return
            raise RejectedDelivery("this delivery is for another client_id", status=401, reason="bad_signature")
        self._verify_token(request, [secret for secret in secrets if secret not in keys])

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data. RejectedDelivery 400 for what is no event."""
        document = parsed(request.body)
        if type(document) is not dict:
            raise RejectedDelivery("the body must be an object", reason="not_an_object")
        stated = request.headers.get("x-adobe-event-code") or document.get("type") or ""
        found = _TOPIC.fullmatch(stated) if type(stated) is str and len(stated) < 300 else None
        topic = found[1] if found else "unknown"
        value = _value(document)
        id_ = document.get("event_id") or document.get("id") or request.headers.get("x-adobe-event-id")
        filed = delivery_id(id_ if type(id_) is str else None, topic, request.body)
        return (Claim(filed, topic, _key(topic, value) or f"delivery:{filed}", {}),)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        handler = next((found for start, found in _HANDLERS.items() if delivery.topic.startswith(start)), None)
        if handler is None:
            return Normalised(skipped="unknown_topic" if delivery.topic == "unknown" else "not_used")
        read, meaning = handler
        found = read(_value(json_object(delivery.body)))
        if (id_ := found.get("entity_id") or found.get("id")) is None:
            raise UnprocessableEvent(
                "/value/entity_id: is missing; add it to the subscription's fields", reason="bad_id"
            )
        return meaning(id_, found, _Arrival(delivery, store, "delete" in delivery.topic))


def _signed(request: RawRequest, keys: Sequence[str]) -> bool:
    for name in _SIGNATURES:
        try:
            signature = base64_bytes(request.headers.get(name, ""))
        except ValueError:
            continue
        for pem in keys:
            try:
                key = load_pem_public_key(pem.encode())
                if isinstance(key, RSAPublicKey):
                    key.verify(signature, request.body, PKCS1v15(), SHA256())
                    return True
            except (InvalidSignature, ValueError):
                continue
    return False


def _client_of(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    found = document.get("recipient_client_id") if type(document) is dict else None
    return found if type(found) is str else None


def _value(document: Mapping[str, Any]) -> dict[str, Any]:
    """The entity: in `event.data.value`, or in `data.value` where the event is a CloudEvent."""
    holder = dict_at(document, "event") or document
    data = dict_at(holder, "data")
    return dict_at(data, "value") or data


def _key(topic: str, value: Mapping[str, Any]) -> str | None:
    own = (value.get("entity_id") or value.get("id")) if topic.startswith("customer_") else None
    if type(id_ := own or value.get("customer_id")) in (str, int) and id_:
        return key_of("customer", str(id_))
    email = value.get("customer_email") or value.get("email")
    if type(email) is str and email:
        return key_of("email", email.strip())
    thing = value.get("order_id") or value.get("entity_id")
    kind = "order" if topic.startswith("sales_order") else "thing"
    return key_of(kind, str(thing)) if type(thing) in (str, int) and thing else None


@dataclass(frozen=True, slots=True)
class _Arrival:
    delivery: Delivery
    store: StoreInfo
    deleted: bool

    def at(self, *stated: Millis | None) -> Millis:
        return happened_at(self.delivery.received_at, *stated)

    def version(self, found: Mapping[str, Any]) -> Millis:
        return version_at(self.delivery.received_at, found.get("updated_at"), found.get("created_at"))

    def key(self, *parts: str) -> str:
        return ":".join(("adobe_commerce", self.delivery.source, *parts))


# --- the used fields --------------------------------------------------------------------------------------------------


class _Dated(Schema):
    id = Value(id_text)
    entity_id = Value(id_text)
    created_at = Value(instant)  # `2026-11-21 09:59:58`, UTC
    updated_at = Value(instant)


class _Customer(_Dated):
    email = Value(text)
    firstname = Value(text)
    lastname = Value(text)


class _Item(Schema):
    product_id = Value(id_text)
    sku = Value(text)
    name = Value(text)
    qty_ordered = Value(money)
    base_price = Value(money)
    parent_item_id = Value(id_text)


class _Order(_Dated):
    increment_id = Value(id_text)
    state = Value(text)
    base_grand_total = Value(money)
    base_currency_code = Value(text)
    base_total_paid = Value(money)
    base_tax_amount = Value(money)
    base_shipping_amount = Value(money)
    base_discount_amount = Value(money)
    coupon_code = Value(text)
    customer_id = Value(id_text)
    customer_email = Value(text)
    customer_firstname = Value(text)
    customer_lastname = Value(text)
    items = Parts(_Item, most=100)


class _CreditMemo(_Dated):
    order_id = Value(id_text)
    base_grand_total = Value(money)
    base_currency_code = Value(text)


class _Product(_Dated):
    name = Value(text)
    sku = Value(text)
    url_key = Value(text)
    price = Value(money)


# --- what events mean -------------------------------------------------------------------------------------------------


def _customer(id_: str, found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    who = [Identifier("customer_id", f"{arrival.delivery.source}:{id_}")]
    email = read_email(found.get("email"))
    if email and not arrival.deleted:
        who.append(Identifier("email", email))
    created = found.get("created_at")
    data = known(
        first_name=found.get("firstname"),
        last_name=found.get("lastname"),
        email=email,
        created_at=None if created is None else isoformat(arrival.at(created)),
    )
    if arrival.deleted:
        entity = Entity("customer", id_, arrival.at(), deleted=True)
    else:
        entity = Entity("customer", id_, arrival.version(found), data)
    return Normalised(identifiers=tuple(who), entities=(entity,), authoritative=True)


def _order(id_: str, found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The order as it is now. It is bought once it is invoiced or paid; amounts are in the shop's base currency."""
    total, state = found.get("base_grand_total"), found.get("state")
    if arrival.deleted:
        return Normalised(entities=(Entity("order", id_, arrival.at(), deleted=True),), order_ref=id_)
    if total is None or state is None:
        raise UnprocessableEvent(
            "/value/base_grand_total: state and base_grand_total are needed; add them to the subscription's fields",
            reason="bad_order",
        )
    as_of, currency = arrival.version(found), found.get("base_currency_code") or arrival.store.currency
    placed_at = arrival.at(found.get("created_at"), as_of)
    email = read_email(found.get("customer_email"))
    who = []
    if customer := found.get("customer_id"):
        who.append(Identifier("customer_id", f"{arrival.delivery.source}:{customer}"))
    if email:
        who.append(Identifier("email", email))
    entities = []
    if holder := customer or (email_key(email.encode()) if email else None):
        names = known(first_name=found.get("customer_firstname"), last_name=found.get("customer_lastname"), email=email)
        entities.append(Entity("customer", holder, as_of, names))
    sold, lost = state in _SOLD or bool(found.get("base_total_paid")), state == "canceled"
    products = [
        known(
            product_id=item.get("product_id"),
            sku=item.get("sku"),
            name=item.get("name"),
            price=item.get("base_price"),
            quantity=item.get("qty_ordered"),
        )
        for item in found.get("items") or ()
        if item.get("parent_item_id") is None  # the simple product within a configurable one: it has no price
    ]
    properties = known(
        order_id=id_,
        order_name=found.get("increment_id"),
        total=total,
        tax=found.get("base_tax_amount"),
        shipping=found.get("base_shipping_amount"),
        discount=None if found.get("base_discount_amount") is None else abs(found["base_discount_amount"]),
        coupon=found.get("coupon_code"),
        currency=currency,
    )
    properties["products"] = products
    events = []
    if sold:
        events.append(Event(arrival.key("order", id_, "completed"), "Order Completed", placed_at, properties))
    if lost:
        events.append(Event(arrival.key("order", id_, "cancelled"), "Order Cancelled", arrival.at(as_of), properties))
    if (sold or lost) and currency == arrival.store.currency:
        data = known(
            total=total,
            currency=currency,
            placed_at=placed_at,
            cancelled_at=arrival.at(as_of) if lost else None,
            name=found.get("increment_id"),
        )
        data["products"] = list(dict.fromkeys(one["product_id"] for one in products if "product_id" in one))
        entities.append(Entity("order", id_, as_of, data))
    return Normalised(identifiers=tuple(who), events=tuple(events), entities=tuple(entities), order_ref=id_)


def _credit_memo(id_: str, found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """A refund, which names its order alone."""
    order, amount = found.get("order_id"), found.get("base_grand_total")
    if order is None or amount is None:
        raise UnprocessableEvent("/value/order_id: order_id and base_grand_total are needed", reason="bad_id")
    at, currency = arrival.at(found.get("created_at")), found.get("base_currency_code") or arrival.store.currency
    properties: dict[str, Json] = {"order_id": order, "refund_id": id_, "total": amount, "currency": currency}
    event = Event(arrival.key("refund", id_), "Order Refunded", at, properties)
    entity = Entity("refund", id_, arrival.version(found), {"order_id": order, "amount": amount, "at": at})
    own = currency == arrival.store.currency
    return Normalised(events=(event,), entities=(entity,) if own else (), order_ref=order)


def _product(id_: str, found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    if arrival.deleted:
        return Normalised(entities=(Entity("product", id_, arrival.at(), deleted=True),))
    data = known(title=found.get("name"), handle=found.get("url_key"), price=found.get("price"))
    return Normalised(entities=(Entity("product", id_, arrival.version(found), data),))


_HANDLERS = {
    "customer_save": (Reader(_Customer), _customer),
    "customer_delete": (Reader(_Customer), _customer),
    "sales_order_creditmemo_save": (Reader(_CreditMemo), _credit_memo),
    "sales_order_save": (Reader(_Order), _order),
    "sales_order_place": (Reader(_Order), _order),
    "sales_order_delete": (Reader(_Order), _order),
    "catalog_product_save": (Reader(_Product), _product),
    "catalog_product_delete": (Reader(_Product), _product),
}
