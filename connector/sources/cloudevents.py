"""CloudEvents 1.0 over HTTP: binary, structured and batched, with the handshake of its webhook specification.

Whatever the mode, an event is kept in its structured form, and mapped as storecue.yaml says.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import orjson

from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Claim, Reply
from connector.sources.documents import json_bytes, json_object
from connector.sources.filing import words_id
from connector.sources.generic import Verify, verifier
from connector.sources.mapping import Meaning, Scope, compiled, usual_person

_DEFAULTS: dict[str, Json] = {
    "event": "$.type",
    "at": "$.time",
    "person": usual_person("$.data"),
    "properties": "$.data",
}
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_MOST = 2000
_NEEDED = ("specversion", "id", "source", "type")


class CloudEvents:
    """The source of kind `cloudevents`."""

    kind = "cloudevents"

    def __init__(self, options: Mapping[str, Json] | None = None) -> None:
        written = dict(options or {})
        origins = written.pop("origins", None)
        if origins is not None and not (type(origins) is list and all(type(one) is str for one in origins)):
            raise DefinitionError("must be a list of the origins that may deliver", pointer="/origins")
        self._origins: list[str] | None = origins
        self._verify: Verify = verifier(written.pop("signature", "token"))
        if "each" in written:
            raise DefinitionError("is not used here: a batch has a list of its own", pointer="/each")
        self._meaning: Meaning = compiled(written, _DEFAULTS)

    def configured(self, options: Mapping[str, Json]) -> "CloudEvents":
        """A source with this mapping (see sources.mapping), `signature`, and `origins` that may ask for permission."""
        return CloudEvents(options)

    def greet(self, request: RawRequest, secrets: Sequence[str]) -> Reply | None:
        """Permission to deliver, for an OPTIONS that names its origin. Nothing is known by it: each delivery must still
        have the token."""
        if request.method != "OPTIONS":
            return None
        origin = request.headers.get("webhook-request-origin", "")
        if not origin or len(origin) > 255 or not origin.isprintable() or not origin.isascii():
            raise RejectedDelivery("WebHook-Request-Origin is missing: who asks?", reason="no_origin")
        if self._origins is not None and origin not in self._origins:
            raise RejectedDelivery("this origin may not deliver here", status=401, reason="not_permitted")
        return Reply(200, (("Allow", "POST"), ("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", "*")))

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret is the token, or signed the body; RejectedDelivery 401 otherwise. The specification
        calls the token in an address `access_token`."""
        if request.query.startswith("access_token=") or "&access_token=" in request.query:
            request = RawRequest(
                request.method,
                request.path,
                request.headers,
                request.body,
                request.query.replace("access_token=", "token="),
                request.received_at,
            )
        self._verify(request, secrets)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event, in its structured form. RejectedDelivery 400 for what is no CloudEvent."""
        type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if type_.startswith("application/cloudevents") and type_ not in (_STRUCTURED, _BATCH):
            raise RejectedDelivery(f"send CloudEvents as JSON, not as {type_[:80]}", status=415, reason="not_json")
        if type_ == _BATCH:
            events = _parsed(request.body)
            if type(events) is not list:
                raise RejectedDelivery("a batch is a list of events", reason="no_event")
            if len(events) > _MOST:
                raise RejectedDelivery(f"a batch may have {_MOST} events", status=413, reason="too_many_events")
            return tuple(self._claim(event, json_bytes(event)) for event in events)
        if type_ == _STRUCTURED:
            return (self._claim(_parsed(request.body), None),)
        event = _from_binary(request, type_)
        return (self._claim(event, json_bytes(event)),)

    def _claim(self, event: Any, body: bytes | None) -> Claim:
        if type(event) is not dict or not all(type(event.get(name)) is str and event[name] for name in _NEEDED):
            raise RejectedDelivery(f"a CloudEvent has {', '.join(_NEEDED)}, each a text", reason="no_event")
        if not event["specversion"].startswith("1."):
            raise RejectedDelivery("only CloudEvents 1.0 are read", reason="no_event")
        opened = _opened(event)
        scope = Scope(opened, opened)
        # An id is unique for its source: together they are what makes a repeat.
        id_ = words_id(event["id"], f"{event['source']}\n{event['id']}".encode("utf-8", "replace"))
        return Claim(id_, self._meaning.name(scope), self._meaning.key(scope) or f"delivery:{id_}", {}, body)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent names the place in the mapping that cannot be read."""
        event = _opened(json_object(delivery.body))
        if "data" not in event and "data_base64" in event:
            raise UnprocessableEvent("/data_base64: holds no JSON", reason="not_json")
        scope = Scope(event, event)
        id_ = self._meaning.said_id(scope) or delivery.id.partition("#")[0]
        return self._meaning.meaning(scope, delivery, store, id_)


def _opened(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its data, where they were sent as base64 and are JSON."""
    if type(event.get("data_base64")) is not str or "data" in event:
        return event
    try:
        return event | {"data": orjson.loads(base64.b64decode(event["data_base64"], validate=True))}
    except ValueError:
        return event


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise RejectedDelivery(f"the body is not JSON: {fault}", reason="not_json") from None


def _from_binary(request: RawRequest, type_: str) -> dict[str, Any]:
    """The event whose attributes are in `ce-...` headers, percent-encoded, and whose data is the body."""
    event: dict[str, Any] = {
        name[3:]: unquote(value.encode("utf-8", "replace").decode(), errors="replace")
        for name, value in request.headers.items()
        if name.startswith("ce-") and 3 < len(name) <= 60 and len(value) <= 2000
    }
    if not request.body:
        return event
    if type_ and not (type_ == "application/json" or type_.endswith("+json")):
        raise RejectedDelivery("send the data as JSON", status=415, reason="not_json")
    return {**event, "datacontenttype": "application/json", "data": _parsed(request.body)}
