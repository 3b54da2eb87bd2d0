"""Requests of many events in an envelope: each event is kept with what the envelope says of all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from connector.domain import Delivery
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.sources.documents import json_bytes, json_object

_MOST = 2000
_MOST_KEPT = 20 * 1024 * 1024  # bytes of all events of one request: each keeps its envelope


def parsed(body: bytes) -> Any:
    """The body as JSON values; RejectedDelivery 400 when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise RejectedDelivery(f"the body is not JSON: {fault}", reason="not_json") from None


def parts(envelope: Mapping[str, Any], events: Any) -> list[bytes]:
    """Each event with the envelope, as bytes to keep. RejectedDelivery for no list, and for too many or too much."""
    if type(events) is not list:
        raise RejectedDelivery("the events are missing: they must be a list", reason="no_events")
    if len(events) > _MOST or len(events) * len(json_bytes(dict(envelope))) > _MOST_KEPT:
        raise RejectedDelivery(f"a request may have {_MOST} events", status=413, reason="too_many_events")
    return [json_bytes({"envelope": envelope, "event": event}) for event in events]


def opened(delivery: Delivery) -> tuple[dict[str, Any], dict[str, Any]]:
    """The envelope and the event of what `parts` made. UnprocessableEvent when one of them is no object."""
    kept = json_object(delivery.body)
    envelope, event = kept.get("envelope"), kept.get("event")
    if type(envelope) is not dict or type(event) is not dict:
        raise UnprocessableEvent("/: an event must be an object", reason="not_an_object")
    return envelope, event


def dict_at(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object of that name, an empty one where there is none."""
    found = holder.get(name)
    return found if type(found) is dict else {}


def dicts_at(holder: Mapping[str, Any], name: str) -> Sequence[dict[str, Any]]:
    """The objects of the list of that name."""
    found = holder.get(name)
    return [one for one in found if type(one) is dict] if type(found) is list else []


def renamed(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The values under our names; what has no name of ours keeps its own."""
    return {names.get(name, name): value for name, value in found.items() if value is not None}
