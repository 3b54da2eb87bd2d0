"""products/*, collections/*, shop/update and app/uninstalled: things of the shop, about nobody."""

from typing import Any
from urllib.parse import quote

from connector.domain import Entity, Json, Normalised
from connector.sources.documents import known
from connector.sources.shopify.arrival import Arrival, is_stub, record_id
from connector.sources.shopify.schemas import COLLECTION, PRODUCT, SHOP


def product(body: Any, arrival: Arrival) -> Normalised:
    """products/create, products/update. The price is the first variant's."""
    found = PRODUCT(body)
    id_ = record_id(found)
    if is_stub(found):
        return Normalised(skipped="stub")
    variants, image, handle = found.get("variants") or [], found.get("image") or {}, found.get("handle")
    data = known(
        title=found.get("title"),
        handle=handle,
        vendor=found.get("vendor"),
        product_type=found.get("product_type"),
        status=found.get("status"),
        image_url=image.get("src"),
        price=variants[0].get("price") if variants else None,
        url=_url(arrival, "products", handle),
    )
    data["tags"] = found.get("tags") or []
    as_of = arrival.version(found.get("updated_at"), found.get("created_at"))
    return Normalised(entities=(Entity("product", id_, as_of, data),))


def product_deleted(body: Any, arrival: Arrival) -> Normalised:
    """products/delete: the body is the id."""
    return Normalised(entities=(Entity("product", record_id(PRODUCT(body)), arrival.version(), deleted=True),))


def collection(body: Any, arrival: Arrival) -> Normalised:
    """collections/create, collections/update."""
    found = COLLECTION(body)
    id_ = record_id(found)
    if is_stub(found):
        return Normalised(skipped="stub")
    handle = found.get("handle")
    data = known(title=found.get("title"), handle=handle, url=_url(arrival, "collections", handle))
    return Normalised(entities=(Entity("collection", id_, arrival.version(found.get("updated_at")), data),))


def collection_deleted(body: Any, arrival: Arrival) -> Normalised:
    """collections/delete."""
    return Normalised(entities=(Entity("collection", record_id(COLLECTION(body)), arrival.version(), deleted=True),))


def shop(body: Any, arrival: Arrival) -> Normalised:
    """shop/update: the shop's name, address, currency and time zone as Shopify has them."""
    return _shop(body, arrival, installed=True)


def uninstalled(body: Any, arrival: Arrival) -> Normalised:
    """app/uninstalled: deliveries by the app end here; the body is the shop."""
    return _shop(body, arrival, installed=False)


def _shop(body: Any, arrival: Arrival, *, installed: bool) -> Normalised:
    found = SHOP(body)
    data: dict[str, Json] = known(
        name=found.get("name"),
        domain=found.get("domain") or found.get("myshopify_domain") or arrival.domain,
        currency=found.get("currency"),
        timezone=found.get("iana_timezone"),
    )
    data["installed"] = installed
    # The body's updated_at is the shop's own: older than the uninstalling, which is a fact about us.
    as_of = arrival.version(found.get("updated_at")) if installed else arrival.version()
    return Normalised(entities=(Entity("shop", record_id(found), as_of, data),))


def _url(arrival: Arrival, path: str, handle: str | None) -> str | None:
    return f"https://{arrival.domain}/{path}/{quote(handle)}" if arrival.domain and handle else None
