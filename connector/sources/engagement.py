"""What people do with mails and say about them, as it comes back from the platforms that send them: one table of what
each kind of it means, and the deliveries of what was asked for rather than sent to us (see sync.poll)."""

import hmac
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qs

import orjson
from marshmallow import Schema

from adapters.destination import Activity, ActivityKind
from connector.clock import Millis
from connector.domain import Consent, ConsentState, Delivery, Event, Identifier, Json, Normalised
from connector.errors import UnprocessableEvent
from connector.ports import New
from connector.sources.contacts import read_email
from connector.sources.documents import json_object, known
from connector.sources.fields import Reader, Value, text, whole
from connector.sources.filing import email_key, key_of
from connector.sources.instants import happened_at

Kind = ActivityKind


class Meaning(NamedTuple):
    """The name of the event, and what it says of the consent to e-mail. Who is unknown is made by a subscription only:
    everything else is about somebody else's contacts as well."""

    event: str
    consent: ConsentState | None = None
    makes: bool = False


MEANINGS: dict[Kind, Meaning] = {
    "delivered": Meaning("Email Delivered"),
    "opened": Meaning("Email Opened"),
    "clicked": Meaning("Email Link Clicked"),
    "bounced": Meaning("Email Bounced"),
    "bounced_for_good": Meaning("Email Bounced", "invalid"),
    "complained": Meaning("Email Marked as Spam", "unsubscribed"),
    "unsubscribed": Meaning("Unsubscribed", "unsubscribed"),
    "subscribed": Meaning("Subscribed", "subscribed", makes=True),
}


def meaning(
    kind: Kind, *, key: str, at: Millis, email: str | None, contact: str | None = None, **properties: Json
) -> Normalised:
    """What it means that somebody did this. `key` is the natural key of the fact, the same whichever way it is told;
    `contact` their record id at the platform, for whom no address is given. The properties are those of Segment's
    e-mail events: email_id, email_subject, campaign_id, campaign_name, list_id, link_url."""
    means = MEANINGS[kind]
    if kind.startswith("bounced"):
        properties["bounce_type"] = "hard" if means.consent else "soft"
    consents = () if means.consent is None else (Consent("email", means.consent, at),)
    return Normalised(
        identifiers=() if email is None else (Identifier("email", email),),
        events=(Event(key, means.event, at, known(**properties)),),
        consents=consents,
        known_only=not means.makes,
        contact=contact,
    )


# --- who may send -----------------------------------------------------------------------------------------------------


def url_token(path: str, secret: str) -> str:
    """The token at the end of a source's address, for senders that sign nothing. It follows from the secret, and does
    not give it away where addresses are logged; each source has its own."""
    return hmac.new(secret.encode(), b"address\n" + path.encode(), "sha256").hexdigest()[:32]


def has_url_token(path: str, query: str, secrets: Sequence[str]) -> bool:
    """True when the query has the `token` that follows from one of `secrets`."""
    given = parse_qs(query, max_num_fields=20).get("token", [""])[0].encode("utf-8", "surrogatepass")
    fits = [hmac.compare_digest(given, url_token(path, secret).encode()) for secret in secrets]
    return any(fits)


# --- what was asked for -----------------------------------------------------------------------------------------------

SOURCE = "engagement:"
"""How the name of the source begins, before that of the destination. No configured source has a colon in its name."""


def delivery(destination: str, told: Activity, now: Millis) -> New:
    """What an account told when it was asked, as a delivery for the log. The same thing told twice is one delivery."""
    return New(
        key=email_key(told.email.encode()) if told.email else key_of("contact", told.remote_id),
        source=f"{SOURCE}{destination}",
        delivery_id=f"told-{blake2b(told.key.encode(), digest_size=16).hexdigest()}",
        topic=told.kind,
        received_at=now,
        headers="{}",
        body=orjson.dumps(told, option=orjson.OPT_SORT_KEYS),
    )


class _Told(Schema):
    kind = Value(text)
    key = Value(text)
    at = Value(whole)
    email = Value(text)
    remote_id = Value(text)


_READER = Reader(_Told)


def normalise(delivery: Delivery) -> Normalised:
    """What such a delivery means."""
    document = json_object(delivery.body)
    told, properties = _READER(document), document.get("properties")
    if told.get("kind") not in MEANINGS or not isinstance(properties, dict) or not told.get("key"):
        raise UnprocessableEvent("/kind: is nothing that people do with mails", reason="bad_kind")
    return meaning(
        told["kind"],
        key=told["key"],
        at=happened_at(delivery.received_at, told["at"]),
        email=read_email(told["email"]),
        contact=told["remote_id"] or None,
        **properties,
    )
