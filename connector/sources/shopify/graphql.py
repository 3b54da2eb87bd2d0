"""Next-generation Events (API version 2026-10): a resource, an action, and the data of the subscription's own query.

The query is the merchant's, so the data may hold much or nothing. It is put into the words of the classic bodies and
read by the same handlers; what does not say enough is skipped, and the classic webhooks still bring it.
"""

import re
from collections.abc import Callable
from typing import Any

from connector.domain import Normalised
from connector.errors import UnprocessableEvent
from connector.sources.shopify import catalogue, customers, orders
from connector.sources.shopify.arrival import Arrival

_DEEPEST = 24
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")

# By resource, which is also the key of its data: who reads it, and who reads its deletion.
_Handler = Callable[[Any, Arrival], Normalised]
_RESOURCES: dict[str, tuple[_Handler, _Handler | None]] = {
    "customer": (customers.customer, customers.customer_deleted),
    "order": (orders.order, orders.order_deleted),
    "refund": (orders.refund, None),
    "product": (catalogue.product, catalogue.product_deleted),
    "collection": (catalogue.collection, catalogue.collection_deleted),
}

# GraphQL's names for what the classic bodies call otherwise, after snake case.
_RENAMED = {
    "display_financial_status": "financial_status",
    "display_fulfillment_status": "fulfillment_status",
    "original_unit_price_set": "price_set",
    "country_code_v2": "country_code",
    "featured_image": "image",
    "price_v2": "price",
}
# GraphQL keeps contact data and the consent to use it together; classic bodies had them apart.
_CONTACTS = {
    "default_email_address": ("email", "emailAddress", "email_marketing_consent"),
    "default_phone_number": ("phone", "phoneNumber", "sms_marketing_consent"),
}
# Since 2026-07 each way of writing to a phone has a consent of its own.
_PHONE_CONSENTS = {
    "smsMarketingConsent": "sms_marketing_consent",
    "whatsAppMarketingConsent": "whats_app_marketing_consent",
}
_BY_ID = {"product", "variant", "order"}
_LOWER = {"financial_status", "fulfillment_status", "state", "cancel_reason", "kind", "status"}


def event(body: dict[str, Any], arrival: Arrival) -> Normalised:
    """What one Event means, or `thin_event` when its data does not say."""
    resource, _, action = arrival.topic.lower().partition("/")
    if resource not in _RESOURCES:
        return Normalised(skipped="unknown_topic")
    handler, deletion = _RESOURCES[resource]
    if action == "delete":
        gid = arrival.resource_id or _variable(body, f"{resource}Id")
        return deletion({"id": gid}, arrival) if gid and deletion else Normalised(skipped="thin_event")
    data = body.get("data")
    found = data.get(resource) if isinstance(data, dict) else None
    if not isinstance(found, dict) or not found.get("id"):
        return Normalised(skipped="thin_event")
    meant = handler(classic(found), arrival)
    return meant if meant.skipped is None else Normalised(skipped="thin_event")


def _variable(body: dict[str, Any], name: str) -> str | None:
    variables = body.get("query_variables")
    value = variables.get(name) if isinstance(variables, dict) else None
    return value if isinstance(value, str) else None


def classic(found: dict[str, Any]) -> dict[str, Any]:
    """A thing of the Admin API, an object, as a classic body spells it."""
    spelt: dict[str, Any] = _classic(found, 0)
    return spelt


def _classic(value: Any, depth: int) -> Any:
    """The same data as a classic body spells it: snake case, plain lists, flat e-mail, phone and product ids."""
    if depth > _DEEPEST:
        raise UnprocessableEvent("/data: nested too deeply", reason="too_deep")
    if isinstance(value, list):
        return [_classic(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(nodes := value.get("nodes"), list):
        return _classic(nodes, depth + 1)
    if isinstance(edges := value.get("edges"), list):
        return [_classic(edge.get("node"), depth + 1) for edge in edges if isinstance(edge, dict)]
    found: dict[str, Any] = {}
    for name, inner in value.items():
        snake = _HUMP.sub(r"_\1", name).lower()
        snake = _RENAMED.get(snake, snake)
        if snake in _CONTACTS and isinstance(inner, dict):
            snake, value_of, consent = _CONTACTS[snake]
            if inner.get("marketingState") is not None:
                found[consent] = {
                    "state": inner["marketingState"],
                    "opt_in_level": inner.get("marketingOptInLevel"),
                    "consent_updated_at": inner.get("marketingUpdatedAt"),
                }
            for channel, name_of in _PHONE_CONSENTS.items():
                if isinstance(said := inner.get(channel), dict):
                    found[name_of] = {
                        "state": said.get("state"),
                        "opt_in_level": said.get("optInLevel"),
                        "consent_updated_at": said.get("updatedAt"),
                        "updated_at": said.get("updatedAt"),
                    }
            inner = inner.get(value_of)
        elif snake in _BY_ID and isinstance(inner, dict):
            snake, inner = f"{snake}_id", inner.get("id")
        elif snake == "discount_codes" and isinstance(inner, list):
            inner = [{"code": code} for code in inner]
        elif snake in _LOWER and isinstance(inner, str):
            inner = inner.lower()
        elif snake == "image" and isinstance(inner, dict):
            inner = {"src": inner.get("url") or inner.get("src")}
        found[snake] = _classic(inner, depth + 1)
    return found
