"""How a delivery is filed before anyone reads it: headers, and a search for the customer in the raw bytes.

The key chooses the partition, so that one person's deliveries are worked on one after the other. It decides order and
speed, never meaning: a key found in the wrong place costs nothing but that. The body is not parsed here.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources.filing import delivery_id, email_key

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
_TOPIC = re.compile(r"[A-Za-z0-9_./-]{1,100}")


class _Search(NamedTuple):
    """A value that follows `needle`. `bytes.find` skips most of the body; the pattern then looks at a few bytes."""

    kind: str
    needle: bytes
    value: re.Pattern[bytes]


def _search(kind: str, needle: bytes, value: bytes) -> _Search:
    return _Search(kind, needle, re.compile(value))


_NUMBER = rb'\s*:\s*"?(\d{1,20})(?!\d)'
_TOKEN = rb'\s*:\s*"([^"\\\s]{1,200})"'
_ADDRESS = rb'\s*:\s*"\s*([^"\\\s]{1,64}@[^"\\\s]{1,255})\s*"'

_KEPT_CUSTOMER = _search("customer", b'customer_kept_id"', rb'\s*:\s*"gid:\\?/\\?/shopify\\?/Customer\\?/(\d{1,20})"')
_OWN_ID = _search("customer", b'"id"', _NUMBER)
_CLIENT = _search("client", b'"clientId"', _TOKEN)
_CART = _search("cart", b'"token"', _TOKEN)
_GID_TAIL = rb'\\?/(\d{1,20})"'

# Shopify may escape slashes, so what is searched for begins with one.
_CUSTOMER = (
    _search("customer", b"/Customer", _GID_TAIL),
    _search("customer", b'"customer', rb'(?:_id"|Id"|"\s*:\s*\{[^{}]{0,2000}?"id")' + _NUMBER),
)
_EMAIL = _search("email", b"email", b'(?:_address)?"' + _ADDRESS)
_BASKET = (
    _search("cart", b'"cart_token"', _TOKEN),
    _search("checkout", b'"checkout_token"', _TOKEN),
)
_ORDER = (
    _search("order", b"/Order", _GID_TAIL),
    _search("order", b'"order_id"', _NUMBER),
)
_THING = _search("thing", b'"id"', _NUMBER)

# Beside these, every topic is searched for a customer, an e-mail, a basket, an order, a thing, in this order.
_FIRST: dict[str, tuple[_Search, ...]] = {"customers/merge": (_KEPT_CUSTOMER,)}
_AFTER_CUSTOMER: dict[str, tuple[_Search, ...]] = {
    "customers": (_OWN_ID,),
    "customers_marketing_consent": (_OWN_ID,),
    # A visitor stays in one partition while the e-mail appears at the checkout.
    "web_pixels": (_CLIENT,),
}
_AFTER_BASKET: dict[str, tuple[_Search, ...]] = {"carts": (_CART,), "checkouts": (_CART._replace(kind="checkout"),)}
_AFTER_ORDER: dict[str, tuple[_Search, ...]] = {"orders": (_OWN_ID._replace(kind="order"),)}


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
    for search in _searches(topic):
        found = _find(body, search)
        if found is None:
            continue
        if search.kind == "email":
            return email_key(found)
        return f"{search.kind}:{found.decode('utf-8', 'replace')}"
    return None


def _searches(topic: str) -> Iterator[_Search]:
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


def _find(body: bytes, search: _Search) -> bytes | None:
    needle, value = search.needle, search.value
    at = body.find(needle)
    while at >= 0:
        after = at + len(needle)
        if match := value.match(body, after):
            return match[1]
        at = body.find(needle, after)
    return None


def _headers(request: RawRequest) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _KEPT:
        value = request.headers.get(f"x-{name}") or request.headers.get(name)
        if value:
            found[name] = value
    return found
