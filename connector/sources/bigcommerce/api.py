"""The store's API: single things by id, each as a delivery of its own. The address is made of what is configured and of
an id that was looked at; nothing that a callback says is part of it."""

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import orjson

from adapters.destination import Clock
from adapters.destination import Settings as AccountSettings
from adapters.errors import DeliveryError, Rejected, Transient, Unauthorized
from adapters.http import Answer, Fault, Http, Vendor, judge
from connector.clock import Millis
from connector.domain import AdminConfig
from connector.inbox.deliveries import HISTORY, REPLAY
from connector.ports import New
from connector.sources.filing import email_key

_SAID: Mapping[int, str] = {
    401: "BigCommerce does not take the access token: make an API account in Settings > Store-level API accounts and "
    "put its access token into `admin`",
    403: "the API account may not read this: make a new one with the OAuth scopes Orders, Customers, Products and "
    "Carts, read-only, and put its access token into `admin`",
}
_FAULTS: Mapping[int, Fault] = {
    401: Fault(Unauthorized, "unauthorized"),
    403: Fault(Unauthorized, "missing_scope"),
    429: Fault(Transient, "rate_limited", 30.0),
    509: Fault(Transient, "rate_limited", 30.0),
}
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_MOST_LINES = 250

Found = dict[str, Any] | None


class StoreApi:
    """One store. Used by one thread."""

    def __init__(self, name: str, config: AdminConfig, clock: Clock) -> None:
        self._name = name
        token = config.access_token or ""
        vendor = Vendor(
            name="BigCommerce",
            address="https://api.bigcommerce.com",
            headers={"X-Auth-Token": token, "Accept": "application/json"},
            secrets=(token,),
            judge=_judged,
            concurrency=2,
            windows={},
            spent=_spent,
            lists=True,
        )
        settings = AccountSettings(credentials={}, base_url=config.base_url, allow_insecure=config.allow_insecure)
        self._http = Http(vendor, settings, clock)
        self._store = f"/stores/{config.shop}"

    def fetch(self, kind: str, id_: str, asked_at: Millis, *, quiet: bool) -> New:
        """The thing as it is now, or that there is none."""
        read = _KINDS.get(kind)
        if read is None or not _ID.fullmatch(id_):
            raise Rejected(f"there is no {kind} of this id", reason="bad_id")
        found = read(self, id_)
        shown = "cart" if kind == "abandoned_cart" else kind
        topic = f"{'gone' if found is None else 'fetched'}/{shown}"
        body = orjson.dumps({"id": id_, **(found or {})})
        version = asked_at if found is None else blake2b(body, digest_size=8).hexdigest()
        return New(
            key=_key(shown, id_, found),
            source=self._name,
            delivery_id=f"{topic}:{id_}:{version}",
            topic=topic,
            received_at=asked_at,
            headers=orjson.dumps({REPLAY: HISTORY} if quiet else {}).decode(),
            body=body,
        )

    def close(self) -> None:
        self._http.close()

    # --- by kind ------------------------------------------------------------------------------------------------------

    def _order(self, id_: str) -> Found:
        """An order, with its lines and refunds: three calls at most."""
        order = self._get(f"/v2/orders/{id_}")
        if order is None:
            return None
        lines = self._get(f"/v2/orders/{id_}/products", limit=_MOST_LINES) or {}
        found = {"order": order, "products": lines.get("items", [])}
        if _money(order.get("refunded_amount")) or order.get("status_id") in (4, 14):
            told = self._get(f"/v3/orders/{id_}/payment_actions/refunds") or {}
            found["refunds"] = told.get("data", [])
        return found

    def _customer(self, id_: str) -> Found:
        return self._one("customer", "/v3/customers", {"id:in": id_, "include": "addresses"})

    def _subscriber(self, id_: str) -> Found:
        return self._one("subscriber", "/v3/customers/subscribers", {"id:in": id_})

    def _product(self, id_: str) -> Found:
        told = self._get(f"/v3/catalog/products/{id_}", include="primary_image")
        return None if told is None else {"product": _object(told.get("data"))}

    def _cart(self, id_: str) -> Found:
        told = self._get(f"/v3/carts/{id_}")
        return None if told is None else {"cart": _object(told.get("data"))}

    def _abandoned(self, id_: str) -> Found:
        found = self._cart(id_)
        return None if found is None else {**found, "abandoned": True}

    def _one(self, name: str, path: str, query: dict[str, object]) -> Found:
        """The only one of a list that was asked for by id."""
        told = self._get(path, **query) or {}
        listed = told.get("data")
        if not isinstance(listed, list):
            raise Transient(f"the list of a {name} has no data", retry_after=60.0, reason="unreadable_answer")
        return {name: _object(listed[0])} if listed else None

    def _get(self, path: str, **query: object) -> dict[str, Any] | None:
        """What is there, {} for an empty answer, None when there is nothing (404)."""
        answer = self._http.call("GET", self._store + path, query=query or None, expect=(404,))
        return None if answer.status == 404 else answer.data


_KINDS: Mapping[str, Callable[[StoreApi, str], Found]] = {
    "abandoned_cart": StoreApi._abandoned,
    "cart": StoreApi._cart,
    "customer": StoreApi._customer,
    "order": StoreApi._order,
    "product": StoreApi._product,
    "subscriber": StoreApi._subscriber,
}


def _key(kind: str, id_: str, found: Found) -> str:
    """The partition: the person's where the document says whom it is about."""
    about = (found or {}).get(kind) or {}
    if kind == "customer":
        return f"customer:{id_}"
    if number := about.get("customer_id"):
        return f"customer:{number}"
    address = about.get("email") or (about.get("billing_address") or {}).get("email")
    if isinstance(address, str) and "@" in address:
        return email_key(address.strip().encode("utf-8", "replace"))
    return f"{kind}:{id_}"


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Transient("the answer has no object in data", retry_after=60.0, reason="unreadable_answer")
    return value


def _money(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def _spent(answer: Answer, now: float) -> float:
    """Seconds to wait when the window's requests are used up, by X-Rate-Limit-Requests-Left and -Time-Reset-Ms."""
    return _reset(answer) if answer.headers.get("x-rate-limit-requests-left") == "0" else 0.0


def _reset(answer: Answer) -> float:
    told = answer.headers.get("x-rate-limit-time-reset-ms", "")
    return min(int(told), 3_600_000) / 1000 if told.isascii() and told.isdigit() and len(told) < 12 else 0.0


def _judged(answer: Answer, now: float) -> DeliveryError:
    said = answer.data.get("title") or answer.data.get("message") or ""
    message = _SAID.get(answer.status, said if isinstance(said, str) else "")
    return judge(answer, now, message, faults=_FAULTS, retry_after=_reset(answer) or None)
