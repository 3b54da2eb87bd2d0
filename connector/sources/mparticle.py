"""mParticle as a sender: its event batches, each event with the identities and attributes of its user."""

from collections.abc import Mapping, Sequence
from typing import Any

from connector.clock import Millis
from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import UnprocessableEvent
from connector.ports import Claim
from connector.sources.envelopes import dict_at, dicts_at, opened, parsed, parts, renamed
from connector.sources.filing import delivery_id, key_of
from connector.sources.generic import verifier
from connector.sources.segment_api.values import pruned
from connector.sources.spoken import spoken

_ACTIONS = {
    "purchase": "Order Completed",
    "refund": "Order Refunded",
    "add_to_cart": "Product Added",
    "remove_from_cart": "Product Removed",
    "view_detail": "Product Viewed",
    "click": "Product Clicked",
    "checkout": "Checkout Started",
    "checkout_option": "Checkout Step Completed",
    "add_to_wishlist": "Product Added to Wishlist",
    "remove_from_wishlist": "Product Removed from Wishlist",
}
_ONE_PRODUCT = {"add_to_cart", "remove_from_cart", "view_detail", "click", "add_to_wishlist", "remove_from_wishlist"}
_ACTION = {
    "transaction_id": "order_id",
    "total_amount": "total",
    "tax_amount": "tax",
    "shipping_amount": "shipping",
    "coupon_code": "coupon",
}
_PRODUCT = {"id": "product_id", "coupon_code": "coupon"}
_TRAITS = {"$FirstName": "first_name", "$LastName": "last_name", "$City": "city", "$Country": "country"}
_ENVELOPE = ("user_identities", "user_attributes", "mpid", "environment", "device_info", "consent_state", "batch_id")


class MParticle:
    """The source of kind `mparticle`."""

    kind = "mparticle"

    def __init__(self) -> None:
        self._verify = verifier("token")

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret is the token; RejectedDelivery 401 otherwise."""
        self._verify(request, secrets)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event of a batch, or of a list of batches. RejectedDelivery 400 without events."""
        document = parsed(request.body)
        claims: list[Claim] = []
        for batch in document if type(document) is list else [document]:
            found = batch if type(batch) is dict else {}
            envelope = {name: found[name] for name in _ENVELOPE if name in found}
            identities = _identities(envelope)
            who = identities.get("customerid") or identities.get("email") or envelope.get("mpid")
            for event, part in zip(found.get("events") or (), parts(envelope, found.get("events")), strict=True):
                kind = event.get("event_type") if type(event) is dict else None
                topic = kind if type(kind) is str and kind.isidentifier() and len(kind) <= 60 else "event"
                stated = dict_at(event, "data").get("event_id") if type(event) is dict else None
                id_ = delivery_id(str(stated) if type(stated) in (str, int) else None, topic, part)
                key = key_of("user", str(who).lower()) if type(who) in (str, int) and who else f"delivery:{id_}"
                claims.append(Claim(id_, topic, key, {}, part))
        return tuple(claims)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        envelope, event = opened(delivery)
        if envelope.get("environment") == "development":
            return Normalised(skipped="test")
        data = dict_at(event, "data")
        name, properties = _told(event.get("event_type"), data)
        if name == "":
            return Normalised(skipped="not_used")
        identities = _identities(envelope)
        device = dict_at(envelope, "device_info")
        visitor = envelope.get("mpid") or device.get("ios_advertising_id") or device.get("android_uuid")
        about = {
            "userId": identities.get("customerid"),
            "anonymousId": visitor,
            "messageId": delivery.id.partition("#")[0],
        }
        traits = {key.lstrip("$"): pruned(value) for key, value in dict_at(envelope, "user_attributes").items()}
        traits |= {ours: traits.pop(theirs[1:]) for theirs, ours in _TRAITS.items() if theirs[1:] in traits}
        traits |= {
            ours: identities[theirs]
            for theirs, ours in (("email", "email"), ("mobile_number", "phone"))
            if theirs in identities
        }
        return spoken(name, properties, traits, about, _millis(data.get("timestamp_unixtime_ms")), delivery, store)


def _told(kind: Any, data: Mapping[str, Any]) -> tuple[str | None, dict[str, Json]]:
    """The event's name and properties; `""` for what is not used, None for news of the person alone."""
    own: dict[str, Json] = dict(dict_at(data, "custom_attributes"))
    if kind == "custom_event":
        name = data.get("event_name")
        if type(name) is not str or not name:
            raise UnprocessableEvent("/event/data/event_name: must be a name", reason="no_name")
        return name, own
    if kind == "screen_view":
        return "Screen Viewed", own | {"name": data.get("screen_name")}
    if kind in ("user_attribute_change", "user_identity_change"):
        return None, {}
    action = dict_at(data, "product_action")
    act = str(action.get("action"))
    if kind != "commerce_event" or act not in _ACTIONS:
        return "", {}
    products = [renamed(one, _PRODUCT) for one in dicts_at(action, "products")]
    stated = {key: value for key, value in action.items() if key not in ("action", "products")}
    properties = own | renamed(stated, _ACTION)
    if type(data.get("currency_code")) is str:
        properties["currency"] = data["currency_code"]
    if act in _ONE_PRODUCT and len(products) == 1:
        properties = products[0] | properties
    elif products:
        properties["products"] = products
    return _ACTIONS[act], properties


def _identities(envelope: Mapping[str, Any]) -> dict[str, Json]:
    """By kind, in lower case without _. Sent as an object, or as a list of pairs."""
    found = envelope.get("user_identities")
    if type(found) is list:
        pairs = [(one.get("identity_type"), one.get("identity")) for one in found if type(one) is dict]
    else:
        pairs = list(found.items()) if type(found) is dict else []
    named = {str(kind).lower(): value for kind, value in pairs if type(value) in (str, int)}
    if "customer_id" in named:
        named.setdefault("customerid", named["customer_id"])
    return named


def _millis(value: Any) -> Millis | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 10**14:
        raise UnprocessableEvent(
            "/event/data/timestamp_unixtime_ms: must be milliseconds since 1970", reason="bad_instant"
        )
    return value
