"""What one event means: Segment's calls, whose e-commerce events have our names already."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from connector.clock import Millis, isoformat
from connector.domain import Delivery, Entity, Event, Identifier, Json, Normalised, StoreInfo
from connector.errors import UnprocessableEvent
from connector.sources.contacts import read_email
from connector.sources.documents import json_object, known
from connector.sources.filing import delivery_id
from connector.sources.segment_api import people
from connector.sources.segment_api.arrival import Arrival
from connector.sources.segment_api.calls import LARGEST_EVENT, PIXEL, message_id
from connector.sources.segment_api.names import canonical_name
from connector.sources.segment_api.schemas import EVENT, PIXEL_EVENT
from connector.sources.segment_api.values import MOST_VALUES, pruned
from connector.sources.shopify.arrival import Arrival as PixelArrival
from connector.sources.shopify.pixels import pixel

_MARKETING = frozenset({"marketing", "advertising", "targeting", "c0004"})
"""The categories, in lower case, under which a visitor allows or refuses what StoreCue does. C0004: OneTrust's code."""

_BOT = re.compile(r"bot\b|crawl|spider|slurp|headlesschrome|lighthouse|pingdom|facebookexternalhit", re.IGNORECASE)
_TABLET = re.compile(r"ipad|tablet|android(?!.*mobile)", re.IGNORECASE)
_MOBILE = re.compile(r"mobi|iphone|ipod|android", re.IGNORECASE)


def meaning(delivery: Delivery, store: StoreInfo) -> Normalised:
    """What the delivery means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
    if len(delivery.body) > LARGEST_EVENT:
        raise UnprocessableEvent(f"/: an event may have {LARGEST_EVENT} bytes", reason="too_large")
    raw = json_object(delivery.body)
    id_ = delivery_id(message_id(raw), delivery.topic, delivery.body)
    arrival = Arrival.of(delivery, store.currency, id_)
    if delivery.topic == PIXEL:
        return _pixel(raw, delivery, store, arrival)
    told = _TOLD.get(delivery.topic)
    if told is None:
        return Normalised(skipped="unknown_topic")
    event = EVENT(raw)
    context = event.get("context") or {}
    if refuses((context.get("consent") or {}).get("categoryPreferences") or {}):
        return Normalised(skipped="no_consent")
    if not arrival.trusted and _BOT.search(context.get("userAgent") or ""):
        return Normalised(skipped="bot")
    who = people.identifiers(event, arrival)
    if not who:
        raise UnprocessableEvent("/: has neither a userId nor an anonymousId that names somebody", reason="nobody")
    at = arrival.at(event.get("timestamp") or event.get("originalTimestamp"), event.get("sentAt"))
    return replace(told(event, raw, at, arrival), identifiers=who, unverified=not arrival.trusted)


def refuses(preferences: Mapping[str, bool]) -> bool:
    """True when the visitor was asked and does not allow marketing: then nothing is made of the event."""
    return any(not allowed for name, allowed in preferences.items() if name.lower() in _MARKETING)


# --- the calls --------------------------------------------------------------------------------------------------------

Told = Callable[[dict[str, Any], dict[str, Any], Millis, Arrival], Normalised]


def _identify(event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    # Whoever holds the server's key may say whose an address is; it must say whose customer that is, too.
    owns = arrival.trusted and people.id_of(event.get("userId")) is not None
    return Normalised(entities=people.customer(event, raw, at, arrival), authoritative=owns)


def _track(event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    stated = (event.get("event") or "").strip()
    if not stated or len(stated) > 200 or not stated.isprintable():
        raise UnprocessableEvent("/event: must be a name of 1 to 200 characters", reason="no_name")
    name = canonical_name(stated)
    properties = _properties(event, raw)
    if name not in _ORDERS:
        return Normalised(events=(Event(_key(name, properties, arrival), name, at, properties),))
    if arrival.shop:
        return Normalised(skipped="shop_tells")  # its own deliveries are the truth about its orders
    return _order(name, properties, at, arrival)


def _page(event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    return _viewed("Page Viewed", event, raw, at, arrival)


def _screen(event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    return _viewed("Screen Viewed", event, raw, at, arrival)


def _viewed(name: str, event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    page = (event.get("context") or {}).get("page") or {}
    properties = known(**page, **known(name=event.get("name"), category=event.get("category")))
    properties |= _properties(event, raw)
    return Normalised(events=(Event(arrival.key("message", arrival.id), name, at, properties),))


def _group(event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    group = event.get("groupId")
    if not group:
        raise UnprocessableEvent("/groupId: is missing", reason="bad_id")
    traits = raw.get("traits")
    properties = {**_bounded(traits if type(traits) is dict else {}), "group_id": group}
    return Normalised(events=(Event(arrival.key("message", arrival.id), "Group Joined", at, properties),))


def _alias(event: dict[str, Any], raw: dict[str, Any], at: Millis, arrival: Arrival) -> Normalised:
    """A browser may say which visitor a person was, and a server also which user."""
    previous = people.id_of(event.get("previousId"))
    if previous is None:
        raise UnprocessableEvent("/previousId: is missing", reason="bad_id")
    if previous == event.get("userId"):
        return Normalised()
    if not arrival.trusted:
        return Normalised(skipped="unverified_alias")
    email = read_email(previous)
    was = (Identifier("email", email),) if email else (arrival.customer(previous), Identifier("anonymous_id", previous))
    return Normalised(merged_from=was)


_TOLD: dict[str, Told] = {
    "identify": _identify,
    "track": _track,
    "page": _page,
    "screen": _screen,
    "group": _group,
    "alias": _alias,
}


# --- orders -----------------------------------------------------------------------------------------------------------

_ORDERS = {
    "Order Completed": "completed",
    "Order Cancelled": "cancelled",
    "Order Updated": "updated",
    "Order Refunded": "refunded",
}


def _order(name: str, properties: dict[str, Json], at: Millis, arrival: Arrival) -> Normalised:
    """An order of a site without a shop's own deliveries: the event, and by a server's word the order itself.

    `Order Completed` and `Order Cancelled` are known by the order's id, so that the browser and the server may both
    tell of them. Refunds and updates may be several.
    """
    order = properties.get("order_id")
    if not order:
        raise UnprocessableEvent("/properties/order_id: is missing", reason="bad_id")
    once = name in ("Order Completed", "Order Cancelled")
    last = _ORDERS[name] if once else f"{_ORDERS[name]}:{arrival.id}"
    event = Event(arrival.key("order", order, last), name, at, properties)
    cancelled = name == "Order Cancelled"
    total = properties.get("total", 0.0 if cancelled else None)
    own = properties.get("currency") in (None, arrival.currency)  # other currencies are not added up
    if not arrival.trusted or total is None or not own or name == "Order Updated":  # which does not say when it was
        return Normalised(events=(event,))
    if name == "Order Refunded":
        thing = Entity("refund", arrival.id, at, {"order_id": order, "amount": total, "at": at})
    else:
        data = known(
            total=total,
            currency=arrival.currency,
            placed_at=at,
            cancelled_at=at if cancelled else None,
            products=[one["product_id"] for one in properties.get("products", ()) if one.get("product_id")],
        )
        thing = Entity("order", order, at, data)
    return Normalised(events=(event,), entities=(thing,))


def _key(name: str, properties: Mapping[str, Json], arrival: Arrival) -> str:
    """By the message's own id; a checkout that the shop tells of too, by its token."""
    if name == "Checkout Started" and arrival.shop and (token := properties.get("checkout_token")):
        return arrival.shop_key("checkout", token, "started")
    return arrival.key("message", arrival.id)


# --- properties -------------------------------------------------------------------------------------------------------


def _properties(event: dict[str, Any], raw: Mapping[str, Any]) -> dict[str, Json]:
    """The properties: those of the spec in their types, the site's own as they are, and a little of the context."""
    stated = raw.get("properties")
    properties = _bounded(stated if type(stated) is dict else {})
    read: dict[str, Any] = dict(event.get("properties") or {})
    if "products" in read:
        sent = stated.get("products") if type(stated) is dict else None
        pairs = zip(read.pop("products") or (), sent if type(sent) is list else (), strict=False)
        properties["products"] = [_product(one, _bounded(own)) for one, own in pairs]
    properties = _product(read, properties)
    if (total := _first(read, "total", "revenue", "value")) is not None and "order_id" in read:
        properties["total"] = total
    return {**_circumstances(event.get("context") or {}), **properties}


def _product(read: Mapping[str, Any], own: dict[str, Json]) -> dict[str, Json]:
    found = {**own, **{name: pruned(value) for name, value in read.items()}}
    if "product_id" not in found and "order_id" not in found and found.get("id"):
        found["product_id"] = found["id"]
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _bounded(stated: Mapping[str, Any]) -> dict[str, Json]:
    return {name[:100]: pruned(value, 1) for name, value in list(stated.items())[:MOST_VALUES]}


def _first(found: Mapping[str, Any], *names: str) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _circumstances(context: Mapping[str, Any]) -> dict[str, Json]:
    """Of the context: where the visitor came from, on which page, in which language, on what."""
    campaign, page = context.get("campaign") or {}, context.get("page") or {}
    agent = context.get("userAgent") or ""
    device = "tablet" if _TABLET.search(agent) else "mobile" if _MOBILE.search(agent) else "desktop"
    return known(
        utm_source=campaign.get("source"),
        utm_medium=campaign.get("medium"),
        utm_campaign=campaign.get("name"),
        page_url=page.get("url"),
        locale=context.get("locale"),
        device=device if agent else None,
    )


# --- the custom pixel -------------------------------------------------------------------------------------------------


def _pixel(raw: dict[str, Any], delivery: Delivery, store: StoreInfo, arrival: Arrival) -> Normalised:
    """A visitor's act as the shop's own pixel tells it: the shop's source knows what it means."""
    event = PIXEL_EVENT(raw)
    envelope = event.get("pixel")
    if envelope is None:
        raise UnprocessableEvent("/pixel: is missing", reason="bad_type")
    if refuses(event.get("consent") or {}):
        return Normalised(skipped="no_consent")
    at = arrival.at(envelope.get("timestamp"), event.get("sentAt"))
    told = Delivery(
        source=arrival.shop.partition(":")[2] or delivery.source,
        id=delivery.id,
        topic=f"web_pixels/{envelope.get('name')}",
        received_at=delivery.received_at,
        headers={},
        body=delivery.body,
    )
    meant = pixel({**raw["pixel"], "timestamp": isoformat(at)}, PixelArrival.of(told, store, test_orders=False))
    return replace(meant, unverified=not arrival.trusted)
