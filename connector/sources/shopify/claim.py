"""How a delivery is filed before anyone reads it: headers, and a search for the customer in the raw bytes.

The key chooses the partition, so that one person's deliveries are worked on one after the other. It decides order and
speed, never meaning: a key found in the wrong place costs nothing but that. The body is not parsed here.
"""

import re
from collections.abc import Iterator

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources import filing
from connector.sources.filing import ADDRESS, NUMBER, TOKEN, Search, delivery_id, search

_KEPT = (
    "shopify-topic",
    "shopify-api-version",
    "shopify-triggered-at",
    "shopify-event-id",
    "shopify-shop-domain",
    "shopify-name",
    "shopify-test",
    "shopify-action",
    "shopify-handle",
    "shopify-resource-id",
)
_SPELLED = tuple((name, f"x-{name}") for name in _KEPT)
_TOPIC = re.compile(r"[A-Za-z0-9_./-]{1,100}")


_KEPT_CUSTOMER = search("customer", b'customer_kept_id"', rb'\s*:\s*"gid:\\?/\\?/shopify\\?/Customer\\?/(\d{1,20})"')
_OWN_ID = search("customer", b'"id"', NUMBER)
_CLIENT = search("client", b'"clientId"', TOKEN)
_CART = search("cart", b'"token"', TOKEN)
_GID_TAIL = rb'\\?/(\d{1,20})"'

# Shopify may escape slashes, so what is searched for begins with one.
_CUSTOMER = (
    search("customer", b"/Customer", _GID_TAIL),
    search("customer", b'"customer', rb'(?:_id"|Id"|"\s*:\s*\{[^{}]{0,2000}?"id")' + NUMBER),
)
_EMAIL = search("email", b"email", b'(?:_address)?"' + ADDRESS)
_BASKET = (
    search("cart", b'"cart_token"', TOKEN),
    search("checkout", b'"checkout_token"', TOKEN),
)
_ORDER = (
    search("order", b"/Order", _GID_TAIL),
    search("order", b'"order_id"', NUMBER),
)
_THING = search("thing", b'"id"', NUMBER)

# Beside these, every topic is searched for a customer, an e-mail, a basket, an order, a thing, in this order.
_FIRST: dict[str, tuple[Search, ...]] = {"customers/merge": (_KEPT_CUSTOMER,)}
_AFTER_CUSTOMER: dict[str, tuple[Search, ...]] = {
    "customers": (_OWN_ID,),
    "customers_marketing_consent": (_OWN_ID,),
    # A visitor stays in one partition while the e-mail appears at the checkout.
    "web_pixels": (_CLIENT,),
}
_AFTER_BASKET: dict[str, tuple[Search, ...]] = {"carts": (_CART,), "checkouts": (_CART._replace(kind="checkout"),)}
_AFTER_ORDER: dict[str, tuple[Search, ...]] = {"orders": (_OWN_ID._replace(kind="order"),)}


def claim(request: RawRequest) -> Claim:
    """The delivery's id, topic, customer key and the headers that normalise needs. RejectedDelivery without a topic."""
    headers = _headers(request)
    topic = headers.get("shopify-topic", "")
    if not _TOPIC.fullmatch(topic):
        raise RejectedDelivery("the X-Shopify-Topic header is missing or not a topic", reason="missing_topic")
    if action := headers.get("shopify-action"):
        topic = f"{topic}/{action}"
        if not _TOPIC.fullmatch(topic):
            raise RejectedDelivery("the shopify-action header is not an action", reason="missing_topic")
    stated = request.headers.get("x-shopify-webhook-id") or request.headers.get("shopify-webhook-id")
    id_ = delivery_id(stated, topic, request.body)
    return Claim(id_, topic, customer_key(topic, request.body) or f"delivery:{id_}", headers)


def customer_key(topic: str, body: bytes) -> str | None:
    """`customer:123`, else a hash of the e-mail, else a cart's, checkout's or visitor's token, else the thing's id."""
    return filing.customer_key(body, _searches(topic))


def _searches(topic: str) -> Iterator[Search]:
    family = topic.partition("/")[0]
    yield from _FIRST.get(topic, ())
    yield from _CUSTOMER
    yield from _AFTER_CUSTOMER.get(family, ())
    yield _EMAIL
    yield from _BASKET
    yield from _AFTER_BASKET.get(family, ())
    yield from _ORDER
    yield from _AFTER_ORDER.get(family, ())
    yield _THING


def _headers(request: RawRequest) -> dict[str, str]:
    given = request.headers
    return {name: value for name, older in _SPELLED if (value := given.get(older) or given.get(name))}
