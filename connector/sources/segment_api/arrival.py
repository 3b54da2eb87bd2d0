"""What is known of an event besides what it says: whose word it is, when it came, whose ids it uses."""

from dataclasses import dataclass

from connector.clock import Millis
from connector.domain import Delivery, Identifier
from connector.sources.instants import OLDEST, happened_at


@dataclass(frozen=True, slots=True)
class Arrival:
    """`shop` is `kind:name` of the source whose user and order ids these are; `id` is the event's own."""

    source: str
    shop: str
    trusted: bool
    received_at: Millis
    currency: str
    id: str

    @classmethod
    def of(cls, delivery: Delivery, currency: str, id_: str) -> "Arrival":
        headers = delivery.headers
        return cls(
            source=delivery.source,
            shop=headers.get("shop", ""),
            trusted=headers.get("trust") == "server",
            received_at=delivery.received_at,
            currency=currency,
            id=id_,
        )

    def at(self, stated: Millis | None, sent: Millis | None) -> Millis:
        """When it happened by our clock: the sender's may be wrong, but it is wrong by the same in both instants."""
        if stated is not None and sent is not None and stated >= OLDEST and sent >= OLDEST:
            return happened_at(self.received_at, self.received_at - max(0, sent - stated))
        return happened_at(self.received_at, stated)

    def key(self, *parts: str) -> str:
        """A natural key of our own."""
        return ":".join(("segment_api", self.source, *parts))

    def shop_key(self, *parts: str) -> str:
        """A natural key that the shop's own deliveries would give the same fact."""
        return ":".join((self.shop, *parts)) if self.shop else self.key(*parts)

    def customer(self, id_: str) -> Identifier:
        """The customer known by this user id: of the shop, or of the site itself."""
        return Identifier("customer_id", f"{self.shop.partition(':')[2] or self.source}:{id_}")
