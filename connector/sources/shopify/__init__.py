"""Shopify: webhooks of API versions 2023-07 to 2026-10, next-generation Events, forwarded web pixel events."""

from collections.abc import Sequence
from typing import Any

import orjson

from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Claim
from connector.sources.shopify import claim, graphql, pixels, topics
from connector.sources.shopify.arrival import Arrival
from connector.sources.signatures import SCHEMES, is_genuine


class Shopify:
    """The source of kind `shopify`. `test_orders`: let test orders have events (see orders)."""

    kind = "shopify"

    def __init__(self, *, test_orders: bool = False) -> None:
        self._test_orders = test_orders

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the raw body; RejectedDelivery 401 otherwise."""
        if not is_genuine(SCHEMES["shopify"], request, secrets):
            raise RejectedDelivery(
                "the signature fits none of this source's secrets. Shopify has two kinds of secret: webhooks of an app "
                "are signed with the app's client secret, those made under Settings > Notifications with the signing "
                "key shown on that page",
                status=401,
                reason="bad_signature",
            )

    def claim(self, request: RawRequest) -> Claim:
        """The filing data: from headers and a search in the raw bytes. RejectedDelivery 400 without a topic."""
        return claim.claim(request)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the delivery means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        topic = delivery.topic
        arrival = Arrival.of(delivery, store, test_orders=self._test_orders)
        if handler := topics.TOPICS.get(topic):
            return handler(_document(delivery.body), arrival)
        if "shopify-action" in delivery.headers:
            return graphql.event(_document(delivery.body), arrival)
        if topic.startswith("web_pixels/"):
            return pixels.pixel(_document(delivery.body), arrival)
        return Normalised(skipped=topics.skip_reason(topic))


def _document(body: bytes) -> Any:
    """The body as JSON: orjson refuses NaN, numbers beyond a double, lone surrogates and nesting past 1024."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise UnprocessableEvent(f"/: the body is not JSON: {fault}", reason="not_json") from None
    if type(document) is not dict:
        raise UnprocessableEvent("/: the body must be an object", reason="not_an_object")
    if rb"\u0000" in body and (pointer := _nul(document)) is not None:
        raise UnprocessableEvent(f"{pointer}: holds a NUL character", reason="nul_character")
    return document


def _nul(document: Any) -> str | None:
    """The pointer of a text with a NUL, which databases cannot store."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        pointer, value = left.pop()
        if isinstance(value, str):
            if "\0" in value:
                return pointer
        elif isinstance(value, dict):
            for key, inner in value.items():
                if "\0" in key:
                    return pointer or "/"
                left.append((f"{pointer}/{key}", inner))
        elif isinstance(value, list):
            left.extend((f"{pointer}/{index}", inner) for index, inner in enumerate(value))
    return None
