"""What the Admin API says of one thing: the lines of a bulk result put together, and the delivery made of it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from adapters.errors import Transient
from connector.clock import Millis
from connector.inbox.deliveries import FETCHED, HISTORY, REPLAY
from connector.ports import New, Record
from connector.sources.instants import read_instant
from connector.sources.shopify.admin.queries import KINDS
from connector.sources.shopify.claim import customer_key

TOPIC = FETCHED

_PARENT = b'"__parentId"'
_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9:/\\?=&_-]{1,200})"')
_GID = re.compile(r"gid://shopify/[A-Za-z]+/([0-9]{1,20})")


def owner(line: bytes) -> tuple[str, bool]:
    """The id of the thing that a line of a bulk result belongs to, and whether it is the thing's own line."""
    own = _PARENT not in line
    if own and (match := _FIRST_ID.match(line)):  # we ask for the id first: the rest need not be read for it
        return match[1].replace(b"\\/", b"/").decode(), True
    found = _object(line)
    held = found.get("id" if "__parentId" not in found else "__parentId")
    if not isinstance(held, str):
        raise Transient("a line of the result says not whose it is", retry_after=60.0, reason="bad_result")
    return held, "__parentId" not in found


def record(kind: str, line: bytes, parts: Sequence[bytes]) -> Record:
    """A thing from its own line and those that belong to it, in their order."""
    found = _object(line)
    if (wanted := KINDS[kind].parts) is not None:
        held = [_object(part) for part in parts]
        for one in held:
            one.pop("__parentId", None)
        found[wanted[0]] = {"nodes": held}
    return of(found)


def of(found: Mapping[str, Any]) -> Record:
    """A thing as a page has it."""
    gid, updated = found.get("id"), found.get("updatedAt")
    if not isinstance(gid, str) or not isinstance(updated, str):
        raise Transient("a record has no id or updatedAt", retry_after=60.0, reason="unreadable_answer")
    return Record(gid, read_instant(updated), orjson.dumps(found))


def delivery(source: str, shop: str, kind: str, one: Record, received_at: Millis, *, quiet: bool) -> New:
    """The thing as a delivery of its source. Its id follows from kind, id and version, so that a repeat is harmless;
    its key is the one that the webhooks about the same person have."""
    number = match[1] if (match := _GID.match(one.id)) else one.id
    id_ = f"{TOPIC}{kind}:{number}:{one.updated_at}"
    headers = {"shopify-shop-domain": shop} | ({REPLAY: HISTORY} if quiet else {})
    return New(
        key=customer_key(TOPIC + kind, one.body) or f"delivery:{id_}",
        source=source,
        delivery_id=id_,
        topic=TOPIC + kind,
        received_at=received_at,
        headers=orjson.dumps(headers).decode(),
        body=one.body,
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Transient(f"a line of the result is not JSON: {error}", retry_after=60.0, reason="bad_result") from None
    if not isinstance(found, dict):
        raise Transient("a line of the result is not an object", retry_after=60.0, reason="bad_result")
    return found
