"""Requests as the Segment clients send them: opened, and split so that each event is a delivery of its own.

Clients differ in everything but the JSON: content types that say nothing, gzip with or without a word of it in the
documentation, the write key in Basic, in the body or in each event (captured from the clients of 2026-11).
"""

import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources.documents import too_deep
from connector.sources.filing import delivery_id, email_key

PREFIX = "/v1/"

LARGEST_REQUEST = 500 * 1024  # bytes, inflated
LARGEST_EVENT = 32 * 1024
MOST_EVENTS = 2500

TYPES = ("identify", "track", "page", "screen", "group", "alias")
PIXEL = "pixel"
"""Our own type: what the generated custom pixel forwards."""

BATCH = "batch"
CALLS = {name: name for name in (*TYPES, PIXEL, BATCH)} | {name[0]: name for name in (*TYPES, BATCH)}
"""The last part of the path -> what is called. A browser's client uses the first letter; `p` is page, not pixel."""

Trust = Literal["server", "browser"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What the write key of a request allows. `shop` is `kind:name` of the source whose user and order ids are sent."""

    trust: Trust
    shop: str = ""

    def headers(self) -> dict[str, str]:
        return {"trust": self.trust} | ({"shop": self.shop} if self.shop else {})


@dataclass(frozen=True, slots=True)
class Call:
    """An opened request: what was called, with which key, and the document."""

    name: str
    key: str
    document: dict[str, Any]


def open_call(request: RawRequest) -> Call:
    """The request's document and write key. Raises RejectedDelivery: the sender must send something else."""
    name = CALLS.get(request.path.removeprefix(PREFIX), "")
    document = _parsed(_inflated(request.body, request.headers.get("content-encoding", "")))
    if type(document) is not dict:
        raise RejectedDelivery("the body must be a JSON object", reason="not_an_object")
    key = _basic(request.headers.get("authorization", "")) or _stated(document)
    return Call(name, key, document)


def split(call: Call, grant: Grant) -> tuple[Claim, ...]:
    """A claim for each event, however wrong the event is: what cannot be understood harms no other."""
    if call.name != BATCH and "batch" not in call.document:
        if call.name in TYPES or call.name == PIXEL:
            call.document["type"] = call.name
        body = _body(call.document)
        if len(body) > LARGEST_EVENT:
            raise RejectedDelivery(f"an event may have {LARGEST_EVENT} bytes", reason="too_large")
        return (_claim(call.document, body, grant),)
    events = call.document.get("batch")
    if type(events) is not list:
        raise RejectedDelivery("`batch` must be a list of events", reason="no_batch")
    if len(events) > MOST_EVENTS:
        raise RejectedDelivery(f"a batch may have {MOST_EVENTS} events", reason="too_many_events")
    shared = _shared(call.document)
    headers = grant.headers()
    return tuple(_claim(event, _body(event, shared), grant, headers) for event in events)


# --- opening ----------------------------------------------------------------------------------------------------------


def _inflated(body: bytes, encoding: str) -> bytes:
    if len(body) > LARGEST_REQUEST:
        raise _too_large()
    if not encoding or encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise RejectedDelivery(
            f"Content-Encoding {encoding[:40]!r} is not taken here: send gzip, or the body as it is",
            reason="content_encoding",
        )
    opening = zlib.decompressobj(wbits=31)
    try:
        inflated = opening.decompress(body, LARGEST_REQUEST + 1)
    except zlib.error:
        raise RejectedDelivery("the body is not gzip, though its header says so", reason="not_gzip") from None
    if len(inflated) > LARGEST_REQUEST:
        raise _too_large()
    if not opening.eof:
        raise RejectedDelivery("the body ends before its gzip does", reason="not_gzip")
    return inflated


def _too_large() -> RejectedDelivery:
    return RejectedDelivery(f"a request may have {LARGEST_REQUEST} bytes, inflated", reason="too_large")


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        # NaN, half a surrogate pair or 1e400 in one event must not cost a batch the others: they are read leniently,
        # and the event that has them is refused when it is worked off.
        try:
            return json.loads(body, parse_int=_whole)
        except (ValueError, RecursionError):
            raise RejectedDelivery(f"the body is not JSON: {fault}", reason="not_json") from None


def _whole(text: str) -> float:
    """The number; what no double holds is infinite, as 1e400 is, and takes its event alone to the dead letters."""
    return int(text) if len(text) < 300 else float("inf")


def _basic(authorization: str) -> str:
    """The user of `Authorization: Basic`, which is the write key; clients leave the password empty."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return binascii.a2b_base64(encoded.strip().encode()).decode().partition(":")[0]
    except ValueError:
        return ""


def _stated(document: Mapping[str, Any]) -> str:
    """The write key in the body, or in the first event that has one."""
    events = document.get("batch")
    for holder in (document, *(events if isinstance(events, list) else ())):
        key = holder.get("writeKey") if isinstance(holder, dict) else None
        if isinstance(key, str) and key:
            return key
    return ""


# --- splitting --------------------------------------------------------------------------------------------------------


def _shared(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a batch says once for all its events."""
    shared = {name: document[name] for name in ("sentAt", "context") if document.get(name) is not None}
    return shared if isinstance(shared.get("context", {}), dict) else {"sentAt": shared.get("sentAt")}


def _body(event: Any, shared: Mapping[str, Any] | None = None) -> bytes:
    """The event as it is kept: with what its batch says, without the write key and what only the sender needs."""
    if type(event) is dict:
        if shared:
            context = event.get("context")
            if "context" in shared and (context is None or type(context) is dict):
                event["context"] = {**shared["context"], **(context or {})}
            event.setdefault("sentAt", shared.get("sentAt"))
        for name in ("writeKey", "integrations", "_metadata"):
            event.pop(name, None)
    try:
        return orjson.dumps(event)
    except TypeError:  # half a surrogate pair, read leniently above; or nested deep
        try:
            return json.dumps(event).encode()
        except RecursionError as fault:
            raise too_deep() from fault


def _claim(event: Any, body: bytes, grant: Grant, headers: dict[str, str] | None = None) -> Claim:
    stated = event if type(event) is dict else {}
    type_ = stated.get("type")
    topic = type_ if type_ in TYPES or type_ == PIXEL else "unknown"
    id_ = delivery_id(message_id(stated), topic, body)
    return Claim(id_, topic, _key(stated, grant) or f"delivery:{id_}", headers or grant.headers(), body)


def message_id(event: Mapping[str, Any]) -> str | None:
    """The client's own id of the event, by which a repeat is known; None when it has none that can be one."""
    id_ = event.get("messageId")
    return id_ if isinstance(id_, str) and id_.isprintable() else None


_FIRST: dict[Trust, tuple[str, str]] = {
    "browser": ("anonymousId", "userId"),  # a visitor stays in one partition while they become known
    "server": ("userId", "anonymousId"),
}


def _key(event: Mapping[str, Any], grant: Grant) -> str | None:
    for name in _FIRST[grant.trust]:
        value = event.get(name)
        if isinstance(value, str | int) and (text := str(value).strip()[:200]):
            text = text.encode("utf-8", "replace").decode()
            return email_key(text.encode()) if "@" in text else f"{name.removesuffix('Id')}:{text}"
    return None
