"""Events in the shape of Google Analytics 4's Measurement Protocol, from whoever sends it: a server-side tag manager,
an app, a till. Google's names of e-commerce events become those of Segment's spec."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from connector.clock import Millis
from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import UnprocessableEvent
from connector.ports import Claim
from connector.sources.envelopes import dict_at, dicts_at, opened, parsed, parts, renamed
from connector.sources.filing import delivery_id, key_of
from connector.sources.generic import verifier
from connector.sources.segment_api.values import pruned
from connector.sources.spoken import spoken

_NAMES = {
    "view_item": "Product Viewed",
    "view_item_list": "Product List Viewed",
    "select_item": "Product Clicked",
    "add_to_cart": "Product Added",
    "remove_from_cart": "Product Removed",
    "add_to_wishlist": "Product Added to Wishlist",
    "view_cart": "Cart Viewed",
    "begin_checkout": "Checkout Started",
    "add_payment_info": "Payment Info Entered",
    "purchase": "Order Completed",
    "refund": "Order Refunded",
    "search": "Products Searched",
    "view_search_results": "Products Searched",
    "view_promotion": "Promotion Viewed",
    "select_promotion": "Promotion Clicked",
    "page_view": "Page Viewed",
    "screen_view": "Screen Viewed",
}
_ONE_PRODUCT = {"Product Viewed", "Product Clicked", "Product Added", "Product Removed", "Product Added to Wishlist"}
_PARAMS = {
    "transaction_id": "order_id",
    "value": "total",
    "search_term": "query",
    "item_list_id": "list_id",
    "page_location": "url",
    "page_title": "title",
    "page_referrer": "referrer",
}
_ITEM = {
    "item_id": "product_id",
    "item_name": "name",
    "item_brand": "brand",
    "item_category": "category",
    "item_variant": "variant",
}
_NOT_KEPT = {"items", "session_id", "engagement_time_msec", "debug_mode"}


class Ga4:
    """The source of kind `ga4`."""

    kind = "ga4"

    def __init__(self) -> None:
        self._verify = verifier("token")

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when `api_secret` in the query, or the token, is one of `secrets`; RejectedDelivery 401 otherwise."""
        stated = next((value for name, value in _query(request) if name == "api_secret"), None)
        headers = request.headers if stated is None else {"x-storecue-token": stated}
        self._verify(RawRequest(request.method, request.path, headers, b"", request.query), secrets)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event. RejectedDelivery 400 without `events`."""
        document = parsed(request.body)
        body = document if type(document) is dict else {}
        envelope = {name: value for name, value in body.items() if name != "events"}
        if "timestamp_micros" not in envelope:
            # An event has no id. Without an instant two equal ones are told apart by when they came.
            envelope["received_at"] = request.received_at
        who = envelope.get("user_id") or envelope.get("client_id") or envelope.get("app_instance_id")
        claims = []
        for event, part in zip(body.get("events") or (), parts(envelope, body.get("events")), strict=True):
            name = event.get("name") if type(event) is dict else None
            topic = name if type(name) is str and name.isidentifier() and len(name) <= 40 else "event"
            id_ = delivery_id(None, topic, part)
            key = key_of("user", str(who)) if type(who) in (str, int) and who else f"delivery:{id_}"
            claims.append(Claim(id_, topic, key, {}, part))
        return tuple(claims)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        envelope, event = opened(delivery)
        if "DENIED" in (dict_at(envelope, "consent").get("ad_user_data"), dict_at(envelope, "consent").get("ads")):
            return Normalised(skipped="no_consent")
        stated = event.get("name")
        if type(stated) is not str:
            raise UnprocessableEvent("/event/name: must be a text", reason="no_name")
        name = _NAMES.get(stated, stated)
        params = dict_at(event, "params")
        properties: dict[str, Json] = renamed({k: v for k, v in params.items() if k not in _NOT_KEPT}, _PARAMS)
        products = [renamed(item, _ITEM) for item in dicts_at(params, "items")]
        if name in _ONE_PRODUCT and len(products) == 1:
            properties = products[0] | properties
        elif products:
            properties["products"] = products
        traits = {
            key: pruned(value.get("value"))
            for key, value in dict_at(envelope, "user_properties").items()
            if type(value) is dict
        }
        visitor = envelope.get("client_id") or envelope.get("app_instance_id")
        about = {
            "userId": envelope.get("user_id"),
            "anonymousId": visitor,
            "messageId": delivery.id.partition("#")[0],
        }
        at = _micros(event.get("timestamp_micros") or envelope.get("timestamp_micros"))
        return spoken(name, properties, traits, about, at, delivery, store)


def _query(request: RawRequest) -> list[tuple[str, str]]:
    return parse_qsl(request.query) if request.query.count("&") < 100 else []


def _micros(value: Any) -> Millis | None:
    if value is None:
        return None
    digits = str(value)
    if type(value) not in (int, str) or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise UnprocessableEvent("/envelope/timestamp_micros: must be microseconds since 1970", reason="bad_instant")
    return int(digits) // 1000
