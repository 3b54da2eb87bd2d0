"""Callbacks: `{scope, store_id, data: {type, id}, hash, created_at, producer}`. They name a thing, and say no more."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from connector.clock import Millis
from connector.domain import Consent, Delivery, Entity, EntityKind, Fetch, Identifier, Normalised
from connector.errors import UnprocessableEvent
from connector.sources.fields import Part, Reader, Unreadable, Value, id_text, text
from connector.sources.instants import OLDEST, happened_at

_CHANNEL = re.compile(r"channel/[0-9*_]+/")
_PRODUCER = re.compile(r"stores/([a-z0-9]{4,32})")
_NUMBERED = re.compile(r"[0-9]{1,20}")
_CART = re.compile(r"[0-9A-Fa-f-]{8,64}")

_THINGS = {"customer": _NUMBERED, "order": _NUMBERED, "subscriber": _NUMBERED, "product": _NUMBERED, "cart": _CART}
_GONE: Mapping[str, EntityKind] = {"customer": "customer", "product": "product", "cart": "cart"}
_SILENT = re.compile(
    r"product/(inventory|assigned|unassigned|metafield|optionInUse)|customer/(payment|channel|metafield)|"
    r"order/(message|metafield|transaction)|cart/(lineItem/metafield|metafield|delayed)"
)
"""Scopes about parts of a thing that we do not read: to fetch it for each would cost calls and tell nothing."""


def _seconds(value: Any) -> Millis:
    if type(value) is int and 0 <= value < 2**40:
        return value * 1000
    raise Unreadable("bad_instant", "must be whole seconds since 1970")


class _Address(Schema):
    customer_id = Value(id_text)


class _Data(Schema):
    id = Value(id_text)
    orderId = Value(id_text)  # what a cart was converted to
    # Where `id` is not the thing's: an address' own, a line item's; scopes of a channel have none at all.
    address = Part(_Address)
    cartId = Value(id_text)
    cart_id = Value(id_text)
    customer_id = Value(id_text)
    order_id = Value(id_text)
    product_id = Value(id_text)


class _Callback(Schema):
    scope = Value(text)
    producer = Value(text)
    created_at = Value(_seconds)
    data = Part(_Data)


_READ = Reader(_Callback)


def meaning(body: Any, delivery: Delivery) -> Normalised:
    """What to fetch; or that the thing is gone, where the scope says so itself."""
    found = _READ(body)
    scope = _CHANNEL.sub("", delivery.topic.removeprefix("store/"), count=1)
    thing, _, action = scope.partition("/")
    pattern, data = _THINGS.get(thing), found.get("data") or {}
    if pattern is None:
        return Normalised(skipped="not_used")
    if _SILENT.match(scope):
        return Normalised(skipped="not_used")
    if scope == "cart/converted" and data.get("orderId"):
        return _named("order", data["orderId"], found)
    id_ = _id_of(thing, data)
    if id_ is None:
        raise UnprocessableEvent("/data/id: is missing", reason="bad_id")
    if not pattern.fullmatch(id_):
        raise UnprocessableEvent(f"/data/id: is not the id of a {thing}", reason="bad_id")
    at = happened_at(delivery.received_at, found.get("created_at"))
    if action == "deleted":
        if thing == "subscriber":
            return _unsubscribed(id_, at, delivery)
        if kind := _GONE.get(thing):
            return gone(kind, id_, at, delivery)
    if scope == "cart/abandoned":
        return _named("abandoned_cart", id_, found)
    return _named(thing, id_, found)


def _id_of(thing: str, data: Mapping[str, Any]) -> str | None:
    owner = (data.get("address") or {}).get("customer_id") or (data.get("cartId") if thing == "cart" else None)
    found: str | None = owner or data.get(f"{thing}_id") or data.get("id")
    return found


def gone(kind: EntityKind, id_: str, at: Millis, delivery: Delivery) -> Normalised:
    """The thing is there no more, as of `at`."""
    who = (Identifier("customer_id", f"{delivery.source}:{id_}"),) if kind == "customer" else ()
    entity = Entity(kind, id_, max(at, OLDEST), deleted=True)
    return Normalised(identifiers=who, entities=(entity,), known_only=bool(who))


def subscriber(id_: str, delivery: Delivery) -> Identifier:
    """How somebody on the newsletter's list is known again, when only the number of the entry is told."""
    return Identifier("anonymous_id", f"{delivery.source}:subscriber:{id_}")


def _unsubscribed(id_: str, at: Millis, delivery: Delivery) -> Normalised:
    """Who leaves the list has its entry deleted, and the callback has only the entry's number."""
    said = (Consent("email", "unsubscribed", at),)
    return Normalised(identifiers=(subscriber(id_, delivery),), consents=said, known_only=True)


def _named(kind: str, id_: str, found: Mapping[str, Any]) -> Normalised:
    if kind == "order" and not _NUMBERED.fullmatch(id_):
        raise UnprocessableEvent("/data/orderId: is not the id of an order", reason="bad_id")
    producer = _PRODUCER.fullmatch(found.get("producer") or "")
    return Normalised(fetch=(Fetch(kind, id_, producer[1] if producer else None),))
