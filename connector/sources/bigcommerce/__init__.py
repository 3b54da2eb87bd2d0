"""BigCommerce: callbacks that only name what has changed, and the documents that are then fetched from its API."""

import hmac
import re
from collections.abc import Mapping, Sequence

from adapters.destination import Clock
from connector.domain import AdminConfig, Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery
from connector.ports import Access, Api, Claim
from connector.sources import signatures
from connector.sources.bigcommerce import callbacks, things
from connector.sources.documents import json_object
from connector.sources.filing import customer_key, delivery_id, search

# The scheme of Standard Webhooks; its key is the client secret as it is, not base64 (2026-04).
_SIGNED = signatures.STANDARD_WEBHOOKS._replace(key=str.encode)
_HINT = (
    "It is the client secret of the API account or app whose access token made the webhook, or what you have written "
    "into the webhook's own headers, where options.header names that header"
)
_SCOPE = re.compile(rb'"scope"\s*:\s*"(store/[A-Za-z0-9_/*.-]{1,180})"')
_HASH = re.compile(rb'"hash"\s*:\s*"([0-9a-f]{16,64})"')
_KEY = (search("thing", b'"id"', rb'\s*:\s*"?([A-Za-z0-9-]{1,64})'),)
_HEADER = re.compile(r"[a-z0-9-]{1,60}")


class BigCommerce:
    """The source of kind `bigcommerce`. `header`: where a secret may stand in place of the signature."""

    kind = "bigcommerce"
    access = Access(r"[a-z0-9]{4,32}", "the store hash, x4qr8mw2pt", (("access_token",),))

    def __init__(self, header: str | None = None) -> None:
        self._header = header

    def configured(self, options: Mapping[str, Json]) -> "BigCommerce":
        """The source with the one option that it has."""
        for name in options:
            if name != "header":
                raise DefinitionError("is not known to bigcommerce; it knows header", pointer=f"/{name}")
        header = options.get("header")
        if header is not None and not (isinstance(header, str) and _HEADER.fullmatch(header.lower())):
            raise DefinitionError("must be the name of a header, such as X-StoreCue-Secret", pointer="/header")
        return BigCommerce(header.lower() if header else None)

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the callback lately, or stands in the header that was agreed on."""
        if self._header is not None and (stated := request.headers.get(self._header, "")):
            fits = [hmac.compare_digest(stated.encode(), secret.encode()) for secret in secrets]
            if any(fits):
                return
        signatures.verify(_SIGNED, request, secrets, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim under the callback's hash. RejectedDelivery 400 without a scope."""
        scope = _SCOPE.search(request.body)
        if scope is None:
            raise RejectedDelivery("the body has no scope such as store/order/updated", reason="missing_topic")
        topic = scope[1].decode()
        stated = _HASH.search(request.body)
        id_ = delivery_id(stated[1].decode() if stated else None, topic, request.body)
        return (Claim(id_, topic, customer_key(request.body, _KEY) or f"delivery:{id_}", {}),)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the delivery means, or what has to be fetched to know it. UnprocessableEvent names the faulty field."""
        way, _, kind = delivery.topic.partition("/")
        body = json_object(delivery.body)
        if way == "store":
            return callbacks.meaning(body, delivery)
        return things.meaning(way, kind, body, delivery, store)

    def api(self, name: str, config: AdminConfig, clock: Clock) -> Api:
        """The store's API. Imported when it is asked for: whoever takes in callbacks has no use for it."""
        from connector.sources.bigcommerce.api import StoreApi

        return StoreApi(name, config, clock)
