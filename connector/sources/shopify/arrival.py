"""What is known of a delivery besides its body: whose it is, when it came, in which currency its shop counts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connector.clock import Millis
from connector.domain import Delivery, Identifier, StoreInfo
from connector.errors import UnprocessableEvent
from connector.sources.instants import happened_at, read_instant, version_at

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery's circumstances. `triggered_at` is Shopify's own word on when, `received_at` ours.

    `test`: Shopify marked the delivery as a trial (X-Shopify-Test). `test_orders`: may test orders have events.
    """

    source: str
    topic: str
    received_at: Millis
    triggered_at: Millis | None
    domain: str
    resource_id: str
    currency: str
    test: bool
    test_orders: bool

    @classmethod
    def of(cls, delivery: Delivery, store: StoreInfo, *, test_orders: bool) -> "Arrival":
        headers = delivery.headers
        return cls(
            source=delivery.source,
            topic=delivery.topic,
            received_at=delivery.received_at,
            triggered_at=_instant(headers.get("shopify-triggered-at")),
            domain=domain if _HOST.fullmatch(domain := headers.get("shopify-shop-domain", "")) else "",
            resource_id=headers.get("shopify-resource-id", ""),
            currency=store.currency,
            test=headers.get("shopify-test") == "true",
            test_orders=test_orders,
        )

    def at(self, *stated: Millis | None) -> Millis:
        """When it happened: the first plausible instant stated, else when Shopify sent it."""
        return happened_at(self.received_at, *stated, self.triggered_at)

    def version(self, *stated: Millis | None) -> Millis:
        """As of when the body describes its thing."""
        return version_at(self.received_at, *stated, self.triggered_at)

    def key(self, *parts: str) -> str:
        """The natural key of an event."""
        return ":".join(("shopify", self.source, *parts))

    def customer(self, id_: str) -> Identifier:
        return Identifier("customer_id", f"{self.source}:{id_}")


def _instant(text: str | None) -> Millis | None:
    try:
        return read_instant(text) if text else None
    except ValueError:
        return None


def record_id(document: Mapping[str, Any]) -> str:
    """The id of the thing a body describes: the gid's number first, because samples have ids rounded by JavaScript."""
    id_: str | None = document.get("admin_graphql_api_id") or document.get("id")
    if id_ is None:
        raise UnprocessableEvent("/id: must be a whole number of up to 64 bits", reason="bad_id")
    return id_


_IDENTITY = {"id", "admin_graphql_api_id", "created_at", "updated_at"}


def is_stub(document: Mapping[str, Any]) -> bool:
    """True when a body only says which thing it is about: Shopify sends that when the whole would be too large."""
    return document.keys() <= _IDENTITY
