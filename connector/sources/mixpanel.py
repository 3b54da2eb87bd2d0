"""Events in the shape of Mixpanel's `/track` and `/import`, and profiles in that of `/engage`: a JSON list, one object,
lines of JSON, or a form with `data`."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson

from connector.clock import Millis
from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Claim, Reply
from connector.sources.envelopes import dict_at, opened, parsed, parts
from connector.sources.filing import delivery_id, key_of
from connector.sources.generic import verifier
from connector.sources.segment_api.values import pruned
from connector.sources.spoken import spoken

_DEVICE = "$device:"
_KNOWN_AS = {
    "$email": "email",
    "email": "email",
    "$phone": "phone",
    "phone": "phone",
    "$first_name": "first_name",
    "first_name": "first_name",
    "$last_name": "last_name",
    "last_name": "last_name",
    "$name": "name",
    "name": "name",
    "$city": "city",
    "$country_code": "country",
}


class Mixpanel:
    """The source of kind `mixpanel`. Secrets are project tokens, or the secret of a service account."""

    kind = "mixpanel"
    accepted = Reply(200, (("Content-Type", "application/json"),), b'{"code":200,"status":1,"error":null}\n')

    def __init__(self) -> None:
        self._verify = verifier("token")

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret is in Basic, in every event's `token`, or the token of a header or the query;
        RejectedDelivery 401 otherwise."""
        stated = _basic(request.headers.get("authorization", "")) or _project(request)
        headers = {"x-storecue-token": stated} if stated else request.headers
        self._verify(RawRequest(request.method, request.path, headers, b"", request.query), secrets)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event or profile. RejectedDelivery 400 for what is no JSON."""
        claims = []
        for event, part in zip(events := _events(request), parts({}, events), strict=True):
            found = event if type(event) is dict else {}
            properties = dict_at(found, "properties")
            name = found.get("event")
            usable = type(name) is str and 0 < len(name) <= 100 and name.isprintable() and "/" not in name
            topic = str(name) if usable else "profile" if "$distinct_id" in found else "event"
            id_ = delivery_id(_insert_id(properties), topic, part)
            who = properties.get("$user_id") or properties.get("distinct_id") or found.get("$distinct_id")
            key = key_of("user", str(who)) if type(who) in (str, int) and who else f"delivery:{id_}"
            claims.append(Claim(id_, topic, key, {}, part))
        return tuple(claims)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        _, event = opened(delivery)
        id_ = delivery.id.partition("#")[0]
        if "$distinct_id" in event:
            said = {**dict_at(event, "$set_once"), **dict_at(event, "$set")}
            if not said:
                return Normalised(skipped="not_used")
            about = {**_named(event.get("$distinct_id"), {}), "messageId": id_}
            return spoken(None, {}, _traits(said, every=True), about, None, delivery, store)
        name, properties = event.get("event"), dict_at(event, "properties")
        if type(name) is not str or not name:
            raise UnprocessableEvent("/event/event: must be a name", reason="no_name")
        about = {**_named(properties.get("distinct_id"), properties), "messageId": _insert_id(properties) or id_}
        own = {
            key: value
            for key, value in properties.items()
            if not key.startswith("$") and key not in ("token", "distinct_id", "time", "mp_lib")
        }
        return spoken(name, own, _traits(properties, every=False), about, _time(properties), delivery, store)


def _named(distinct: Any, properties: Mapping[str, Any]) -> dict[str, Json]:
    """`$user_id` and `$device_id` say who; of the older way `distinct_id` alone, which may be a device's."""
    device, user = properties.get("$device_id"), properties.get("$user_id")
    if type(distinct) is str and distinct.startswith(_DEVICE):
        return {"userId": user, "anonymousId": distinct.removeprefix(_DEVICE)}
    if user is None and device is not None and distinct in (device, None):
        return {"userId": None, "anonymousId": device}
    return {"userId": distinct if user is None else user, "anonymousId": device}


def _traits(found: Mapping[str, Any], *, every: bool) -> dict[str, Json]:
    """What is said of the person; of an event only what is known to be about one."""
    named = {ours: found[theirs] for theirs, ours in _KNOWN_AS.items() if type(found.get(theirs)) is str}
    if not every:
        return {key: value for key, value in named.items() if key in ("email", "phone")}
    own = {key: pruned(value) for key, value in found.items() if not key.startswith("$") and key not in _KNOWN_AS}
    return own | named


def _time(properties: Mapping[str, Any]) -> Millis | None:
    """`time` in seconds, or in milliseconds."""
    value = properties.get("time")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e14:
        raise UnprocessableEvent("/event/properties/time: must be seconds since 1970", reason="bad_instant")
    return int(value if value >= 1e11 else value * 1000)


def _insert_id(properties: Mapping[str, Any]) -> str | None:
    found = properties.get("$insert_id")
    return found if type(found) is str and found.isprintable() else None


def _events(request: RawRequest) -> list[Any]:
    body = request.body
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = _form_data(body)
    if request.headers.get("content-type", "").startswith("application/x-ndjson"):
        return [parsed(line) for line in body.splitlines() if line.strip()][:2001]
    document = parsed(body)
    return document if type(document) is list else [document]


def _form_data(body: bytes) -> bytes:
    """`data` of the form: JSON, or JSON as base64."""
    try:
        pairs = parse_qsl(body.decode(), max_num_fields=100)
    except ValueError:
        raise RejectedDelivery("the form cannot be read", reason="not_a_form") from None
    data = next((value for name, value in pairs if name == "data"), "").encode()
    if data[:1] in (b"[", b"{"):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise RejectedDelivery("`data` must be JSON, or JSON as base64", reason="not_json") from None


def _basic(authorization: str) -> str:
    """The password of Basic, or the user where there is none."""
    kind, _, text = authorization.partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return ""
    return password or user


def _project(request: RawRequest) -> str:
    """The one token that all events state; nothing when they differ."""
    try:
        events = _events(request)
    except (RejectedDelivery, orjson.JSONDecodeError):
        return ""
    found = {
        str(dict_at(event, "properties").get("token") or event.get("$token") or "") if type(event) is dict else ""
        for event in events
    }
    return next(iter(found)) if len(found) == 1 else ""
