"""Shopify: webhooks of API versions 2023-07 to 2026-10, next-generation Events, forwarded web pixel events."""

from collections.abc import Sequence

from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources.documents import json_object
from connector.sources.shopify import claim, graphql, pixels, topics
from connector.sources.shopify.arrival import Arrival
from connector.sources.signatures import Scheme, base64_bytes, is_genuine

# Next-generation Events drop the X- and sign in the same way (2026-10).
_SIGNED = Scheme(("x-shopify-hmac-sha256", "shopify-hmac-sha256"), "sha256", base64_bytes)


class Shopify:
    """The source of kind `shopify`. `test_orders`: let test orders have events (see orders)."""

    kind = "shopify"

    def __init__(self, *, test_orders: bool = False) -> None:
        self._test_orders = test_orders

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the raw body; RejectedDelivery 401 otherwise."""
        if not is_genuine(_SIGNED, request, secrets):
            raise RejectedDelivery(
                "the signature fits none of this source's secrets. Shopify has two kinds of secret: webhooks of an app "
                "are signed with the app's client secret, those made under Settings > Notifications with the signing "
                "key shown on that page",
                status=401,
                reason="bad_signature",
            )

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data: from headers and a search in the raw bytes. RejectedDelivery 400 without a topic."""
        return (claim.claim(request),)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the delivery means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        topic = delivery.topic
        arrival = Arrival.of(delivery, store, test_orders=self._test_orders)
        if handler := topics.TOPICS.get(topic):
            return handler(json_object(delivery.body), arrival)
        if "shopify-action" in delivery.headers:
            return graphql.event(json_object(delivery.body), arrival)
        if topic.startswith("web_pixels/"):
            return pixels.pixel(json_object(delivery.body), arrival)
        return Normalised(skipped=topics.skip_reason(topic))
