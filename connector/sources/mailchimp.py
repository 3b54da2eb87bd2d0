"""Mailchimp: who joins and leaves an audience, whose address bounces or has changed. A webhook is a form; its address
is tried by a GET before it is saved, and has a token in it, because only newer ones are signed.

Opens and clicks come by no webhook: they are asked for (see adapters.mailchimp_activity).
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import md5
from urllib.parse import parse_qsl

from connector.domain import Delivery, Event, Identifier, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Claim, Reply
from connector.sources import signatures
from connector.sources.contacts import read_email
from connector.sources.documents import known, refuse_nul
from connector.sources.engagement import Kind, has_url_token, meaning, url_token
from connector.sources.filing import delivery_id, email_key
from connector.sources.instants import happened_at, read_instant
from connector.sources.options import destination_option

_SIGNATURE = "x-mailchimp-signature"
_HINT = "It is the signing_secret that Mailchimp showed once when the webhook was created"
_ADDRESS_HINT = "the address lacks its token, or has another one; `storecue source template NAME` prints the right one"
_STAMP, _V1 = re.compile(r"\bt=(\d{1,11})\b", re.ASCII), re.compile(r"\bv1=([0-9a-f]{64})\b")

# By type, then by reason (cleaned, unsubscribe).
_KINDS: dict[str, dict[str, Kind]] = {
    "subscribe": {"": "subscribed"},
    "unsubscribe": {"": "unsubscribed", "abuse": "complained"},
    "cleaned": {"": "bounced_for_good", "abuse": "complained"},
}


class Mailchimp:
    """The source of kind `mailchimp`. One secret of your choice makes the token in the address; the signing secrets of
    webhooks stand beside it."""

    kind = "mailchimp"

    def __init__(self, *, signed: bool = False) -> None:
        """`signed`: nothing is taken without a signature."""
        self._signed = signed

    def configured(self, options: Mapping[str, Json]) -> "Mailchimp":
        """The source with `signed` and the `destination` whose audience it is."""
        destination_option(self.kind, options, ("signed",))
        signed = options.get("signed", False)
        if not isinstance(signed, bool):
            raise DefinitionError("must be true or false", pointer="/signed")
        return Mailchimp(signed=signed)

    def paste(self, address: str, secrets: Sequence[str]) -> str:
        """The address of the webhook, and what it is to send."""
        path = f"/webhooks{address.partition('/webhooks')[2]}"
        return "\n".join(
            [
                f"Callback URL:    {address}?token={url_token(path, secrets[0])}",
                "Types of update: subscribes, unsubscribes, email changed, cleaned address",
                "Made by:         a subscriber, an account admin; not via the API, which would echo our own writes",
            ]
        )

    def greet(self, request: RawRequest, secrets: Sequence[str]) -> Reply | None:
        """200 for the GET by which Mailchimp tries an address before it saves it, if the token is right."""
        if request.method != "GET":
            return None
        _require_token(request, secrets)
        return Reply()

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when the address has the token, and where there is a signature it fits; RejectedDelivery 401
        otherwise."""
        _require_token(request, secrets)
        if self._signed or _SIGNATURE in request.headers:
            signatures.verify(_SIGNED, request, secrets, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data. No delivery has an id: type, person, audience and second are what a repeat repeats."""
        try:
            form = _form(request.body)
        except UnprocessableEvent as fault:
            raise RejectedDelivery(fault.message, reason=fault.reason) from None
        type_ = form.get("type", "")
        if not re.fullmatch(r"[a-z_]{1,40}", type_):
            raise RejectedDelivery("the body must be a form with type", reason="no_event")
        person = form.get("data[old_email]") or form.get("data[email]") or form.get("data[id]", "")
        stated = (form.get(f"data[{name}]", "") for name in ("id", "list_id", "reason"))
        id_ = delivery_id(None, type_, "\n".join((person, form.get("fired_at", ""), *stated)).encode())
        email = read_email(person)
        return (Claim(id_, type_, email_key(email.encode()) if email else f"delivery:{id_}", {}),)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the webhook means. UnprocessableEvent says which field is missing."""
        form = _form(delivery.body)
        type_, reason = form.get("type", ""), form.get("data[reason]", "")
        at = happened_at(delivery.received_at, _instant(form.get("fired_at", "")))
        if type_ == "upemail":
            return _moved(form, at, delivery)
        if type_ not in _KINDS:
            return Normalised(skipped="not_used")
        if form.get("data[action]") == "delete" and reason != "abuse":
            # Somebody has tidied up the audience: that is no word of the person's.
            return Normalised(skipped="deleted_there")
        kind = _KINDS[type_].get(reason) or _KINDS[type_][""]
        email = read_email(form.get("data[email]"))
        if email is None:
            raise UnprocessableEvent("/data[email]: is no address", reason="no_person")
        campaign, audience = form.get("data[campaign_id]"), form.get("data[list_id]")
        return meaning(
            kind,
            key=_key(kind, campaign, audience, email, form.get("fired_at", delivery.id)),
            at=at,
            email=email,
            list_id=audience,
            campaign_id=campaign,
            reason=reason,
        )


def _key(kind: Kind, campaign: str | None, audience: str | None, email: str, fired_at: str) -> str:
    """An address bounces for good once, and a campaign's report tells of it too, under the same key."""
    person = md5(email.encode(), usedforsecurity=False).hexdigest()  # what Mailchimp itself knows a member by
    if kind == "bounced_for_good" and campaign:
        return f"mailchimp:campaign:{campaign}:{person}:bounced"
    return f"mailchimp:audience:{audience}:{person}:{kind}:{fired_at}"


def _moved(form: Mapping[str, str], at: int, delivery: Delivery) -> Normalised:
    """upemail: noted with whoever has the old address. The new one is not tied to them: nobody has shown that it is
    theirs, and two profiles would become one by it. What the shop says stands, and is pushed again."""
    old, new = read_email(form.get("data[old_email]")), read_email(form.get("data[new_email]"))
    if old is None or new is None:
        raise UnprocessableEvent("/data[old_email]: old_email and new_email are needed", reason="no_person")
    key = f"mailchimp:audience:{form.get('data[list_id]')}:moved:{form.get('data[new_id]') or delivery.id}"
    told = known(new_email=new, list_id=form.get("data[list_id]"))
    return Normalised(
        identifiers=(Identifier("email", old),),
        events=(Event(key, "Email Address Changed", at, told),),
        known_only=True,
    )


def _require_token(request: RawRequest, secrets: Sequence[str]) -> None:
    if not has_url_token(request.path, request.query, secrets):
        raise RejectedDelivery(_ADDRESS_HINT, status=401, reason="bad_signature")


def _stated(request: RawRequest) -> signatures.Stated:
    """`t=<seconds>,v1=<hex>`, of `{t}.{body}`."""
    header = request.headers.get(_SIGNATURE, "")
    stamp = _STAMP.search(header)
    if stamp is None:
        raise ValueError("t is missing")
    found = [signatures.hex_bytes(text) for text in _V1.findall(header)]
    return signatures.Stated(found, f"{stamp[1]}.".encode() + request.body, signatures.unix_seconds(stamp[1]))


_SIGNED = signatures.Scheme(_stated)


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form; the first of those that come twice. UnprocessableEvent when it is none."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000, errors="strict")
    except ValueError as fault:
        raise UnprocessableEvent(f"/: the form cannot be read: {fault}", reason="not_a_form") from None
    form = dict(reversed(pairs))
    refuse_nul(form)
    return form


def _instant(text: str) -> int | None:
    """`2026-11-21 10:00:00`, which is UTC."""
    try:
        return read_instant(text)
    except ValueError:
        return None
