"""HubSpot: what people do with its mails, by the webhooks of an app and of workflows. An app tells which property of
which record has changed, up to 100 at once and never the address; a workflow sends the whole contact.

Whatever we write there ourselves comes back as well, because a key cannot be left out: nothing that we write is read.
"""

import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import orjson

from connector.clock import Millis
from connector.domain import Delivery, Event, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Claim
from connector.sources import signatures
from connector.sources.contacts import read_email
from connector.sources.documents import json_bytes, json_object, refuse_nul
from connector.sources.engagement import Kind, meaning
from connector.sources.filing import delivery_id, email_key
from connector.sources.instants import OLDEST, happened_at, read_instant
from connector.sources.options import destination_option

_HINT = (
    "It is the client secret of the app, and STORECUE_PUBLIC_URL must be the address that HubSpot calls, as far as "
    "/webhooks: both are signed"
)
_VERSIONS = ("v3", "v2", "v1")
_MOST = 1000  # HubSpot sends at most 100
_WORKFLOW = "workflow"
_CONTACT = "0-1"
_OPTED_OUT = "hs_email_optout"

_DATED: dict[str, Kind] = {"hs_email_last_open_date": "opened", "hs_email_last_click_date": "clicked"}
"""Properties whose value is when it happened."""


class HubSpot:
    """The source of kind `hubspot`. A secret is the client secret of the app."""

    kind = "hubspot"

    def __init__(self, versions: Sequence[str] = ("v3",), subscription: str | None = None) -> None:
        """`versions`: the signatures that are accepted; `subscription`: the id of the subscription type whose opt-out
        counts like the one from everything."""
        self._versions = tuple(versions)
        self._opt_outs = {_OPTED_OUT, *([f"{_OPTED_OUT}_{subscription}"] if subscription else [])}

    def configured(self, options: Mapping[str, Json]) -> "HubSpot":
        """The source with `signatures`, `subscription` and the `destination` whose account it is."""
        destination_option(self.kind, options, ("signatures", "subscription"))
        versions, subscription = options.get("signatures", ["v3"]), options.get("subscription")
        if not isinstance(versions, list) or not versions or not all(one in _VERSIONS for one in versions):
            raise DefinitionError("must be a list of v3, v2 and v1", pointer="/signatures")
        if subscription is not None and not re.fullmatch(r"[0-9]{1,20}", str(subscription)):
            raise DefinitionError("must be the id of a subscription type, such as 101", pointer="/subscription")
        return HubSpot(versions, None if subscription is None else str(subscription))

    def paste(self, address: str, secrets: Sequence[str]) -> str:
        """The target address of the app, and what it has to subscribe to."""
        properties = ", ".join([*sorted(self._opt_outs), "hs_email_hard_bounce_reason_enum", *_DATED])
        return "\n".join(
            [
                f"Target URL:             {address}",
                "Event subscriptions:    contact.privacyDeletion",
                f"contact.propertyChange: {properties}",
                f"Signatures accepted:    {', '.join(self._versions)}",
            ]
        )

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` made a signature of an accepted version; RejectedDelivery 401 otherwise. Where
        there is a v3 one, it counts: the older ones have no instant, so that their requests could be repeated."""
        stated = request.headers.get("x-hubspot-signature-version", "v1").lower()
        if "v3" in self._versions and "x-hubspot-signature-v3" in request.headers:
            uri = _uri(request)
            # The documentation decodes some escapes, HubSpot's own client does not (2026-08): either may be signed.
            for written in {uri, _decoded(uri)}:
                scheme = signatures.Scheme(partial(_stated, written))
                if signatures.is_genuine(scheme, request, secrets):
                    return signatures.verify(scheme, request, secrets, _HINT)
        elif stated in self._versions and stated in _HASHED and _is_hashed(_HASHED[stated], request, secrets):
            return None
        raise RejectedDelivery(
            f"no signature of {' or '.join(self._versions)} fits one of this source's secrets. {_HINT}",
            status=401,
            reason="bad_signature",
        )

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event of an app, one for the contact of a workflow."""
        try:
            document = orjson.loads(request.body)
        except orjson.JSONDecodeError as fault:
            raise RejectedDelivery(f"the body is not JSON: {fault}", reason="not_json") from None
        if isinstance(document, dict):
            return (_workflow_claim(document, request.body),)
        if not isinstance(document, list):
            raise RejectedDelivery("the body must be a list of events", reason="no_event")
        if len(document) > _MOST:
            raise RejectedDelivery(f"a request may have {_MOST} events", status=413, reason="too_many_events")
        return tuple(_event_claim(event) for event in document)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood."""
        document = json_object(delivery.body)
        refuse_nul(document)
        if delivery.headers.get("by") == _WORKFLOW:
            return self._workflow(document, delivery)
        handler = _HANDLERS.get(_topic(document))
        if handler is None:
            return Normalised(skipped=_SKIPPED.get(_topic(document), "not_used"))
        return handler(self, document, delivery)

    def _property(self, event: Mapping[str, Any], delivery: Delivery) -> Normalised:
        """contact.propertyChange."""
        name, value = str(event.get("propertyName", "")), event.get("propertyValue")
        said = self._said(name, value, _whole(event.get("occurredAt")))
        if said is None:
            # Ours are fields, tags and names. An opt-out never is, whoever wrote it: we write none.
            ours = event.get("changeSource") in ("INTEGRATION", "API")
            return Normalised(skipped="our_own" if ours else "not_used")
        kind, stated = said
        record = _record(event)
        at = happened_at(delivery.received_at, stated)
        key = f"hubspot:contact:{record}:{kind}:{at if stated is None else stated}"
        return meaning(kind, key=key, at=at, email=None, contact=record, property=name)

    def _said(self, name: str, value: Json, changed_at: Millis | None) -> tuple[Kind, Millis | None] | None:
        """What it says that a property has this value, and when it happened; None when it says nothing. An opt-out
        that is taken back is no consent: it says what was not refused, not what was asked for."""
        text = str(value).strip().lower() if isinstance(value, str | bool | int) else ""
        if name in self._opt_outs:
            return ("unsubscribed", changed_at) if text == "true" else None
        if name == "hs_email_hard_bounce_reason_enum":
            return ("bounced_for_good", changed_at) if text else None
        if name in _DATED and (at := _instant(text.upper())) is not None:
            return _DATED[name], at
        return None

    def _workflow(self, contact: Mapping[str, Any], delivery: Delivery) -> Normalised:
        """The contact as a workflow sends it, each property with the instants of its values."""
        properties = contact.get("properties")
        record = _id(contact.get("vid")) or _id(contact.get("objectId"))
        if contact.get("objectType") not in (None, "CONTACT") or not isinstance(properties, dict) or not record:
            return Normalised(skipped="not_used")
        email = read_email(_value(properties, "email"))
        found = [
            meaning(
                said[0],
                key=f"hubspot:contact:{record}:{said[0]}:{said[1]}",
                at=happened_at(delivery.received_at, said[1]),
                email=email,
                contact=record,
                property=name,
            )
            for name in (*sorted(self._opt_outs), "hs_email_hard_bounce_reason_enum", *_DATED)
            if (said := self._said(name, _value(properties, name), _changed(properties, name)))
        ]
        if not found:
            return Normalised(skipped="nothing_new")
        return Normalised(
            identifiers=found[0].identifiers,
            events=tuple(event for one in found for event in one.events),
            consents=tuple(consent for one in found for consent in one.consents),
            known_only=True,
            contact=record,
        )


def _privacy(_: HubSpot, event: Mapping[str, Any], delivery: Delivery) -> Normalised:
    """contact.privacyDeletion: noted, and nobody is written to any more. What the shop and the other platforms know of
    the person stays: that somebody deletes a record at one platform is no request to be forgotten everywhere, and it
    could not be taken back."""
    record = _record(event)
    at = happened_at(delivery.received_at, _whole(event.get("occurredAt")))
    gone = meaning("unsubscribed", key=f"hubspot:contact:{record}:erased", at=at, email=None, contact=record)
    said = Event(f"hubspot:contact:{record}:erased", "Contact Erased", at, {"by": "hubspot"})
    return Normalised(events=(said,), consents=gone.consents, known_only=True, contact=record)


_HANDLERS: dict[str, Callable[[HubSpot, Mapping[str, Any], Delivery], Normalised]] = {
    "contact.propertyChange": HubSpot._property,
    "contact.privacyDeletion": _privacy,
}
_SKIPPED = {
    "contact.deletion": "deleted_there",  # who is missing is told by reading back; nobody is erased by it
    "contact.merge": "merged_there",  # who is one person is the shop's word; its new id is found by the next push
}


# --- signatures -------------------------------------------------------------------------------------------------------

_ESCAPES = {f"%{ord(one):02X}": one for one in ":/?@!$'()*,;"}
_ESCAPED = re.compile("|".join(_ESCAPES))


def _uri(request: RawRequest) -> str:
    """The address that HubSpot called: a proxy may have changed scheme, host and the beginning of the path."""
    return f"{request.origin}{request.path}{'?' if request.query else ''}{request.query}"


def _decoded(uri: str) -> str:
    """The same with the escapes decoded that the documentation lists, and no others."""
    return _ESCAPED.sub(lambda match: _ESCAPES[match[0]], uri)


def _stated(uri: str, request: RawRequest) -> signatures.Stated:
    """v3: base64 of an HMAC over method, address, body and instant (milliseconds)."""
    stamp = request.headers.get("x-hubspot-request-timestamp", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 14):
        raise ValueError("must be milliseconds since 1970")
    message = f"{request.method}{uri}".encode() + request.body + stamp.encode()
    found = signatures.base64_bytes(request.headers["x-hubspot-signature-v3"])
    return signatures.Stated((found,), message, int(stamp))


_HASHED: dict[str, Callable[[RawRequest], bytes]] = {
    "v1": lambda request: request.body,
    "v2": lambda request: f"{request.method}{_uri(request)}".encode() + request.body,
}
"""What v1 and v2 hash after the secret: hashes, not HMACs, as HubSpot has defined them."""


def _is_hashed(message: Callable[[RawRequest], bytes], request: RawRequest, secrets: Sequence[str]) -> bool:
    try:
        given = signatures.hex_bytes(request.headers.get("x-hubspot-signature", ""))
    except ValueError:
        return False
    words = message(request)
    fits = [hmac.compare_digest(given, sha256(secret.encode() + words).digest()) for secret in secrets]
    return any(fits)


# --- what bodies hold -------------------------------------------------------------------------------------------------

_FACT = ("portalId", "subscriptionId", "objectId", "occurredAt", "propertyName", "propertyValue")
"""What one event is known by: its eventId is given to several (2026-08)."""


def _topic(event: Mapping[str, Any]) -> str:
    """Such as contact.propertyChange; apps of the newer kind say object.propertyChange and the type of the object."""
    topic = event.get("subscriptionType")
    if not isinstance(topic, str) or not 0 < len(topic) <= 100:
        return "event"
    if topic.startswith("object.") and str(event.get("objectTypeId")) == _CONTACT:
        return f"contact.{topic.removeprefix('object.')}"
    return topic


def _event_claim(event: Any) -> Claim:
    if not isinstance(event, dict):
        raise RejectedDelivery("an event must be an object", reason="no_event")
    topic = _topic(event)
    id_ = delivery_id(None, topic, json_bytes([event.get(name) for name in _FACT]))
    record = _id(event.get("objectId"))
    return Claim(id_, topic, f"contact:{record}" if record else f"delivery:{id_}", {}, json_bytes(event))


def _workflow_claim(contact: Mapping[str, Any], body: bytes) -> Claim:
    properties = contact.get("properties")
    email = read_email(_value(properties, "email")) if isinstance(properties, dict) else None
    id_ = delivery_id(None, _WORKFLOW, body)
    key = email_key(email.encode()) if email else f"delivery:{id_}"
    return Claim(id_, _WORKFLOW, key, {"by": _WORKFLOW})


def _record(event: Mapping[str, Any]) -> str:
    record = _id(event.get("objectId"))
    if record is None:
        raise UnprocessableEvent("/objectId: is missing", reason="bad_id")
    return record


def _id(value: Json) -> str | None:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if re.fullmatch(r"[1-9][0-9]{0,19}", text, re.ASCII) else None


def _whole(value: Json) -> Millis | None:
    plausible = isinstance(value, int) and not isinstance(value, bool) and OLDEST <= value < 2**53
    return value if plausible else None


def _instant(text: str) -> Millis | None:
    """Milliseconds, as webhooks have them, or ISO 8601."""
    if re.fullmatch(r"[0-9]{12,14}", text, re.ASCII):
        return _whole(int(text))
    try:
        return _whole(read_instant(text))
    except ValueError:
        return None


def _value(properties: Mapping[str, Any], name: str) -> str | None:
    held = properties.get(name)
    value = held.get("value") if isinstance(held, dict) else None
    return value if isinstance(value, str) else None


def _versions(properties: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    versions = properties[name].get("versions")
    yield from (one for one in versions if isinstance(one, dict)) if isinstance(versions, list) else ()


def _changed(properties: Mapping[str, Any], name: str) -> Millis | None:
    """When the property got the value that it has; None where that is not said."""
    value = _value(properties, name)
    if value is None:
        return None
    times = [_whole(one.get("timestamp")) for one in _versions(properties, name) if one.get("value") == value]
    return max((at for at in times if at is not None), default=None)
