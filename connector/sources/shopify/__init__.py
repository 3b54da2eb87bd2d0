"""Shopify: webhooks of API versions 2023-07 to 2026-10, next-generation Events, forwarded web pixel events."""

from collections.abc import Sequence

from adapters.destination import Clock
from connector.domain import AdminConfig, Delivery, Normalised, RawRequest, StoreInfo
from connector.ports import Claim, History
from connector.sources import signatures
from connector.sources.documents import json_object
from connector.sources.shopify import claim, graphql, pixels, topics
from connector.sources.shopify.arrival import Arrival

# Next-generation Events drop the X- and sign in the same way (2026-10).
_SIGNED = signatures.Scheme(signatures.body_signed("x-shopify-hmac-sha256", "shopify-hmac-sha256"))
_HINT = (
    "Shopify has two kinds of secret: webhooks of an app are signed with the app's client secret, those made under "
    "Settings > Notifications with the signing key shown on that page"
)


class Shopify:
    """The source of kind `shopify`. `test_orders`: let test orders have events (see orders)."""

    kind = "shopify"

    def __init__(self, *, test_orders: bool = False) -> None:
        self._test_orders = test_orders

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the raw body; RejectedDelivery 401 otherwise."""
        signatures.verify(_SIGNED, request, secrets, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data: from headers and a search in the raw bytes. RejectedDelivery 400 without a topic."""
        return (claim.claim(request),)

    def history(self, name: str, config: AdminConfig, clock: Clock) -> History:
        """The shop's Admin API. Imported when it is asked for: whoever takes in webhooks has no use for it."""
        from connector.sources.shopify.admin import ShopHistory

        return ShopHistory(name, config, clock)

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
