"""Klaviyo: what people do with its mails. System webhooks are signed and come several in one request; the webhook
action of a flow is not signed, every account has it, and its body is the template that `paste` prints.

https://developers.klaviyo.com/en/docs/working_with_system_webhooks (2026-01).
"""

import hmac
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import orjson

from connector.clock import Millis
from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Claim
from connector.sources import signatures
from connector.sources.contacts import read_email
from connector.sources.documents import json_bytes, json_object
from connector.sources.engagement import Kind, has_url_token, meaning, url_token
from connector.sources.filing import delivery_id, email_key, key_of
from connector.sources.instants import OLDEST, happened_at, read_instant
from connector.sources.options import destination_option

_TOKEN = "x-storecue-token"  # noqa: S105 (the name of a header)
_MOST = 2000
_HINT = "It is the secret_key that was given when the webhook was created at Klaviyo"
_FLOW_HINT = (
    "A webhook of a flow needs the address with its token and the header X-StoreCue-Token; "
    "`storecue source template NAME` prints what to paste"
)

_TOPICS: dict[str, Kind] = {
    "received_email": "delivered",
    "opened_email": "opened",
    "clicked_email": "clicked",
    "bounced_email": "bounced",
    "dropped_email": "bounced",
    "marked_email_as_spam": "complained",
    "subscribed_to_email_marketing": "subscribed",
    "unsubscribed_from_email_marketing": "unsubscribed",
}
_PREFIX = "event:klaviyo."

METRICS: dict[str, Kind] = {
    "Received Email": "delivered",
    "Opened Email": "opened",
    "Clicked Email": "clicked",
    "Bounced Email": "bounced",
    "Dropped Email": "bounced",
    "Marked Email as Spam": "complained",
    "Subscribed to Email Marketing": "subscribed",
    "Unsubscribed from Email Marketing": "unsubscribed",
}
"""The names of the same as people see them in a flow."""

_OURS = ("Segment Entered", "Segment Left")
"""The metrics that our own cues make there."""

# A flow fills the tags in. A name that it does not know becomes an empty text, which is left out here; a subject or a
# campaign's name is not among them, because a quotation mark in it would break the JSON.
_TEMPLATE = {
    "event": "Opened Email",
    "email": "{{ person.email }}",
    "event_id": "{{ event|lookup:'$event_id' }}",
    "message": "{{ event|lookup:'$message' }}",
    "variation": "{{ event|lookup:'$variation' }}",
    "url": "{{ event|lookup:'URL' }}",
    "bounce": "{{ event|lookup:'Bounce Type' }}",
}


class Klaviyo:
    """The source of kind `klaviyo`. A secret is a webhook's `secret_key`, and what a flow sends as X-StoreCue-Token."""

    kind = "klaviyo"

    def configured(self, options: Mapping[str, Json]) -> "Klaviyo":
        """The source as it is. Its only option is `destination`, of which the line makes use."""
        destination_option(self.kind, options)
        return self

    def paste(self, address: str, secrets: Sequence[str]) -> str:
        """The address, headers and body of a flow's webhook action."""
        lines = [f"Address, for a flow:      {address}?token={url_token(_path(address), secrets[0])}"]
        lines += [f"Address, system webhooks: {address}", "Headers, for a flow:"]
        lines += ["  Content-Type: application/json", "  X-StoreCue-Token: the secret of this source"]
        lines += ["Body, with the name of the metric that starts the flow as `event`:"]
        lines += [orjson.dumps(_TEMPLATE, option=orjson.OPT_INDENT_2).decode()]
        return "\n".join([*lines, f"Names: {', '.join(METRICS)}"])

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the body, or its token and itself came with it; RejectedDelivery 401
        otherwise."""
        if "klaviyo-signature" in request.headers:
            signatures.verify(_SIGNED, request, secrets, _HINT)
            return
        given = request.headers.get(_TOKEN, "").strip().encode("utf-8", "surrogatepass")
        fits = [hmac.compare_digest(given, secret.encode()) for secret in secrets]
        if not (has_url_token(request.path, request.query, secrets) and any(fits)):
            raise RejectedDelivery(
                f"there is no signature, and no token that fits. {_FLOW_HINT}", status=401, reason="bad_signature"
            )

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event of a system webhook, one for that of a flow."""
        try:
            document = json_object(request.body)
        except UnprocessableEvent as fault:
            raise RejectedDelivery(fault.message, reason=fault.reason) from None
        if "klaviyo-signature" not in request.headers:
            return (_flow_claim(document),)
        meta, items = document.get("meta"), document.get("data")
        webhook = meta.get("klaviyo_webhook_id") if isinstance(meta, dict) else None
        stated = request.headers.get("klaviyo-webhook-id", "")
        if not isinstance(webhook, str) or webhook != stated:
            # It is not among the signed words, so Klaviyo wants the two compared.
            raise RejectedDelivery(
                "Klaviyo-Webhook-Id is not the webhook that the body names", status=401, reason="bad_signature"
            )
        if not isinstance(items, list):
            raise RejectedDelivery("data must be a list of events", reason="no_event")
        if len(items) > _MOST:
            raise RejectedDelivery(f"a request may have {_MOST} events", status=413, reason="too_many_events")
        return tuple(_system_claim(item) for item in items)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. Events of other systems, our own cues among them, mean nothing here."""
        document = json_object(delivery.body)
        if delivery.headers.get("by") == "flow":
            return _flow_meaning(document, delivery)
        topic = str(document.get("topic", ""))
        kind = _TOPICS.get(topic.removeprefix(_PREFIX)) if topic.startswith(_PREFIX) else None
        if kind is None:
            return Normalised(skipped="not_used")
        told = _read(document)
        return _meaning(kind, told, happened_at(delivery.received_at, told.at))


# --- signatures -------------------------------------------------------------------------------------------------------


def _stated(request: RawRequest) -> signatures.Stated:
    """Bare hex of body and instant, in that order with nothing between them; the instant verbatim."""
    stamp = request.headers.get("klaviyo-timestamp", "")
    at = int(parsedate_to_datetime(stamp).timestamp() * 1000)
    found = signatures.hex_bytes(request.headers["klaviyo-signature"])
    return signatures.Stated((found,), request.body + stamp.encode(), at)


_SIGNED = signatures.Scheme(_stated)


def _path(address: str) -> str:
    return f"/webhooks{address.partition('/webhooks')[2]}"


# --- what system webhooks say -----------------------------------------------------------------------------------------


class _Read(NamedTuple):
    id: str
    at: Millis | None
    email: str | None
    profile: str | None
    properties: Mapping[str, Any]


def _system_claim(item: Any) -> Claim:
    if not isinstance(item, dict):
        raise RejectedDelivery("an event must be an object", reason="no_event")
    body = json_bytes(item)
    topic = item.get("topic")
    name = topic if isinstance(topic, str) and 0 < len(topic) <= 200 else "event"
    told, stated = _read(item), item.get("external_id")
    id_ = delivery_id(stated if isinstance(stated, str) else None, name, body)
    key = email_key(told.email.encode()) if told.email else told.profile and key_of("profile", told.profile)
    return Claim(id_, name, key or f"delivery:{id_}", {}, body)


def _read(item: Mapping[str, Any]) -> _Read:
    """What is said by the event as the API shows it. The person stands in `included`, among the properties, or only as
    the id of the profile."""
    payload = _part(item, "payload")
    event = _part(payload, "data") or payload
    attributes = _part(event, "attributes")
    properties = _part(attributes, "event_properties")
    profile = _word(_part(event, "relationships", "profile", "data"), "id")
    included = payload.get("included")
    people = [one for one in included if isinstance(one, dict)] if isinstance(included, list) else []
    person = next((one for one in people if one.get("type") == "profile" and one.get("id") in (profile, None)), {})
    stated = (
        _word(_part(person, "attributes"), "email"),
        *(_word(properties, name) for name in ("$email", "Recipient Email Address", "Email")),
    )
    email = next((read_email(one) for one in stated if one), None)
    id_ = _word(item, "external_id") or _word(attributes, "uuid") or _word(event, "id")
    return _Read(id_ or "", _instant(attributes), email, profile, properties)


def _meaning(kind: Kind, told: _Read, at: Millis) -> Normalised:
    if told.email is None and told.profile is None:
        raise UnprocessableEvent("/payload: names no profile", reason="no_person")
    if not told.id:
        raise UnprocessableEvent("/external_id: is missing", reason="bad_id")
    if kind == "bounced" and (_word(told.properties, "Bounce Type") or "").lower() == "hard":
        kind = "bounced_for_good"
    machine = told.properties.get("machine_open")
    return meaning(
        kind,
        key=f"klaviyo:event:{delivery_id(told.id, kind, b'')}",
        at=at,
        email=told.email,
        contact=told.profile,
        email_id=_word(told.properties, "$message"),
        email_subject=_word(told.properties, "Subject"),
        campaign_name=_word(told.properties, "Campaign Name"),
        flow_id=_word(told.properties, "$flow"),
        variation_id=_word(told.properties, "$variation"),
        link_url=_word(told.properties, "URL"),
        machine=machine if isinstance(machine, bool) else None,
    )


def _part(value: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The object under these names, an empty one where there is none."""
    for name in names:
        inner = value.get(name)
        value = inner if isinstance(inner, dict) else {}
    return value


def _word(value: Mapping[str, Any], name: str) -> str | None:
    """A text, or a number as one; None for anything else and for nothing."""
    found = value.get(name)
    if isinstance(found, str) and (stripped := found.strip()):
        return stripped[:2000]
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else None


def _instant(attributes: Mapping[str, Any]) -> Millis | None:
    stated, seconds = attributes.get("datetime"), attributes.get("timestamp")
    if isinstance(stated, str):
        try:
            return read_instant(stated)
        except ValueError:
            pass
    if isinstance(seconds, int) and not isinstance(seconds, bool) and OLDEST // 1000 <= seconds < 2**40:
        return seconds * 1000
    return None


# --- what a flow says -------------------------------------------------------------------------------------------------


def _flow_claim(document: Mapping[str, Any]) -> Claim:
    name, email = _word(document, "event") or "event", read_email(_word(document, "email"))
    profile = _word(document, "profile_id")
    id_ = delivery_id(None, name, json_bytes(document, orjson.OPT_SORT_KEYS))
    key = email_key(email.encode()) if email else profile and key_of("profile", profile)
    return Claim(id_, f"flow/{name[:100]}", key or f"delivery:{id_}", {"by": "flow"})


def _flow_meaning(document: Mapping[str, Any], delivery: Delivery) -> Normalised:
    """The same by the words of a template. Without the id of the event, one thing that somebody does with one message
    is one fact: the first time counts."""
    name = _word(document, "event") or ""
    if name in _OURS:
        return Normalised(skipped="our_own")
    if name not in METRICS:
        return Normalised(skipped="not_used")
    email, message, url = read_email(_word(document, "email")), _word(document, "message"), _word(document, "url")
    profile, variation = _word(document, "profile_id"), _word(document, "variation")
    who = email_key(email.encode()) if email else profile
    parts = (who, name, message, variation, url)
    id_ = _word(document, "event_id") or delivery_id(None, "flow", orjson.dumps(parts))
    properties = {
        "$message": message,
        "Subject": document.get("subject"),
        "Campaign Name": document.get("campaign"),
        "$variation": variation,
        "URL": url,
        "Bounce Type": document.get("bounce"),
    }
    return _meaning(METRICS[name], _Read(id_, None, email, profile, properties), delivery.received_at)
