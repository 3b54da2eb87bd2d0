"""Brevo: contacts with typed attributes, a multiple-choice attribute for tags, events, lists. API v3, one host.

Built from the models and notes of Brevo's own Python client 5.1 (2026). Contacts are written one by one: a bulk update
does not say whom it left out, and an import wants a list and tells failures only in a file.
"""

import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from urllib.parse import quote

from adapters.destination import (
    Account,
    Change,
    Clock,
    Cue,
    FieldSpec,
    FieldValue,
    Fit,
    Forecast,
    Held,
    Limits,
    Membership,
    Option,
    Outcome,
    Settings,
    Takes,
    Wanted,
)
from adapters.errors import DeliveryError, Rejected, setting_up
from adapters.http import Answer, Http, Vendor, count_option, credential, judge
from adapters.outcomes import bisect, chunked, each, in_turn, not_there, outcome_of, refuse
from adapters.rate_limit import Window
from adapters.shape import dig, entries, records, stated, word
from adapters.values import as_wanted, instant, no_object, text

_TAGS = "STORECUE_TAGS"
_FOLDER = "StoreCue"
_LIST_EMAILS = 150
_PAGE = 50

# A date attribute has no time. A text attribute takes any value of ours; of other types a value that does not fit is
# dropped without a word (2026).
_TYPES = {"text": "text", "number": "float", "boolean": "boolean", "date": "date", "datetime": "date"}
_TYPES |= {"list": "text", "object": "text"}


class Brevo:
    """An account of Brevo (see adapters.destination.Destination). Options: `requests_per_second` (10; more on larger
    plans)."""

    vendor = "brevo"
    takes = Takes(
        ("api_key",),
        options={"requests_per_second": Option(r"[1-9]\d{0,2}", "20")},
        consent_first=True,  # who is made without consent is made blocklisted
    )
    limits = Limits(batch=100, concurrency=4)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        key = credential(settings, "api_key")
        headers = {"api-key": key, "Accept": "application/json", "Content-Type": "application/json"}
        calls = count_option(settings, "requests_per_second", 10)
        windows = {
            "contacts": (Window(calls, 1), Window(calls * 3_600, 3_600)),
            "events": (Window(calls, 1), Window(calls * 3_600, 3_600)),
            "account": (Window(100, 3_600),),  # everything else
        }
        vendor = Vendor("Brevo", "https://api.brevo.com", headers, (key,), _judge, self.limits.concurrency, windows)
        self._http = Http(vendor, settings, clock)
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="brevo")
        self._defined: dict[str, dict[str, Any]] | None = None

    def check_login(self) -> Account:
        account = self._http.call("GET", "/v3/account")
        email = str(account.at("email"))
        return Account(word(account.data, "organization_id") or email, word(account.data, "companyName") or email)

    @setting_up()
    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        defined = self._attributes(fresh=True)
        created = []
        for spec in fields:
            name, kind = spec.name.upper(), _TYPES[spec.type]
            if refused := no_object("Brevo", spec) or _persons_own(name):
                raise Rejected(refused, field=spec.name, reason="field_type")
            if name not in defined:
                self._define("POST", name, {"type": kind})
                created.append(f"attribute {name} ({kind})")
            elif word(defined[name], "type") not in (kind, "text"):
                message = f"attribute {name} has type {word(defined[name], 'type')}: give the field another name"
                raise Rejected(message, field=spec.name, reason="field_type")
        return created + self._ensure_tags(tags)

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        defined = self._attributes(fresh=True)
        shown = defined.get(_TAGS)
        held = entries(shown, "multiCategoryOptions")
        wrong = shown is not None and word(shown, "type") != "multiple-choice"
        refusal = f"attribute {_TAGS} exists and is no multiple choice" if wrong else ""
        fits = []
        for spec in fields:
            name, found = spec.name.upper(), defined.get(spec.name.upper())
            kind = _TYPES[spec.type] if found is None else word(found, "type")
            if refused := no_object("Brevo", spec) or _persons_own(name):
                fits.append(Fit(spec.name, "refused", f"attribute, {kind}", refused))
            elif kind in (_TYPES[spec.type], "text"):
                fits.append(Fit(spec.name, "created" if found is None else "exists", f"attribute, {kind}"))
            else:
                message = f"attribute {name} has type {kind}: give the field another name"
                fits.append(Fit(spec.name, "refused", f"attribute, {kind}", message))
        return Forecast(
            fits,
            [
                Fit(tag, "refused" if wrong else "exists" if tag in held else "created", f"option of {_TAGS}", refusal)
                for tag in tags
            ],
        )

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        with setting_up():
            self._ensure_tags(sorted({tag for change in changes for tag in change.tags}))
            if any(name.upper() not in self._attributes() for change in changes for name in change.fields):
                self._attributes(fresh=True)
        return each(self._pool, changes, self._upsert)

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        message = "Brevo cannot record an event without starting automations"
        skipped = [Outcome(cue.key, "skipped", "backfill", message) for cue in cues if cue.backfill]
        live = [cue for cue in cues if not cue.backfill]
        return skipped + (each(self._pool, live, self._event) if live else [])

    @setting_up()
    def ensure_list(self, name: str, known_id: str | None) -> str:
        if known_id:
            path = f"/v3/contacts/lists/{quote(known_id, safe='')}"
            if self._http.call("GET", path, expect=(404,)).status != 404:
                return known_id
        found = self._find("lists", name)
        if found:
            return found
        folder = self._find("folders", _FOLDER) or self._make("folders", {"name": _FOLDER})
        return self._make("lists", {"name": name, "folderId": int(folder)})

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]:
        def relate(members: Sequence[Membership]) -> list[Outcome]:
            path = f"/v3/contacts/lists/{quote(list_id, safe='')}/contacts/{'add' if members[0].added else 'remove'}"
            body = {"emails": [m.email for m in members]}
            answer = self._http.call("POST", path, body=body, family="contacts", expect=(400,))
            # Who is not there and who was in its place already are refused alike; if it is all of them, with a 400.
            failed = {str(email).lower() for email in entries(answer.data, "contacts", "failure")}
            unclear = [m for m in members if answer.status == 400 or m.email.lower() in failed]
            done = [Outcome(m.key, "applied", remote_id=m.remote_id) for m in members if m not in unclear]
            return done + (each(self._pool, unclear, look) if unclear else [])

        def look(member: Membership) -> Outcome:
            contact = self._contact(member.email)
            if contact is None:
                return not_there(member.key)
            if (list_id in map(str, entries(contact, "listIds"))) is member.added:
                return Outcome(member.key, "applied", remote_id=member.remote_id)
            return Outcome(member.key, "rejected", "rejected", "Brevo would not change the list for this contact")

        kinds = [[m for m in memberships if m.added is added] for added in (True, False)]
        pieces = (piece for kind in kinds for piece in chunked(kind, _LIST_EMAILS))
        return in_turn((piece, lambda some: bisect(some, relate, refuse)) for piece in pieces)

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        def find(want: Wanted) -> Held:
            contact = self._contact(want.email)
            if contact is None and want.remote_id:  # somebody gave it another address there
                contact = self._contact(want.remote_id, identifierType="contact_id")
            return _held(want, contact, self._attributes())

        if wanted:
            self._attributes()
        return list(self._pool.map(find, wanted))

    def unite(self, kept: str, gone: str) -> bool:
        """False: Brevo has no call that merges contacts (2026-08)."""
        return False

    def forget(self, email: str, remote_id: str | None = None) -> None:
        self._http.call("DELETE", _path(email), family="contacts", expect=(404,))

    def close(self) -> None:
        self._pool.shutdown()
        self._http.close()

    # --- contacts

    def _contact(self, name: str, **query: object) -> dict[str, Any] | None:
        answer = self._http.call("GET", _path(name), query=query, family="contacts", expect=(404,))
        return None if answer.status == 404 else answer.data

    def _upsert(self, change: Change) -> Outcome:
        try:
            attributes = self._values(change)
        except Rejected as error:
            return outcome_of(change.key, error)
        if change.previous_email and self._move(change.previous_email, change.email, attributes):
            return Outcome(change.key, "applied", remote_id=change.remote_id)
        body = {"attributes": attributes}
        answer = self._http.call("PUT", _path(change.email), body=body, family="contacts", expect=(404,))
        if answer.status != 404:
            return Outcome(change.key, "applied", remote_id=change.remote_id)
        if change.remote_id:  # somebody gave it another address there: the record is who it is
            query = {"identifierType": "contact_id"}
            path = _path(change.remote_id)
            answer = self._http.call("PUT", path, body=body, query=query, family="contacts", expect=(404,))
            if answer.status != 404:
                return Outcome(change.key, "applied", remote_id=change.remote_id)
        if not change.create:
            return not_there(change.key)
        # One call with `updateEnabled` would do for both, but then the blocklist of who exists would be set as well.
        new = {"email": change.email, **body, "emailBlacklisted": not change.subscribed}
        answer = self._http.call("POST", "/v3/contacts", body=new, family="contacts", expect=(400,))
        if answer.status == 400:
            if word(answer.data, "code") != "duplicate_parameter":
                raise _judge(answer, 0.0)
            self._http.call("PUT", _path(change.email), body=body, family="contacts")  # somebody was faster
        return Outcome(change.key, "applied", remote_id=word(answer.data, "id") or change.remote_id)

    def _move(self, old: str, new: str, attributes: Mapping[str, Any]) -> bool:
        """Gives the contact its new address; False when there is none under the old one, or the new one is taken."""
        contact = self._contact(old)
        if contact is None:
            return False
        # A new address takes a contact off the blocklist, and so subscribes who had left (2026), unless told not to.
        kept = {"emailBlacklisted": True} if contact.get("emailBlacklisted") else {}
        body = {"attributes": {**attributes, "EMAIL": new}, **kept}
        answer = self._http.call("PUT", _path(old), body=body, family="contacts", expect=(400, 404))
        if answer.status == 400 and word(answer.data, "code") != "duplicate_parameter":
            raise _judge(answer, 0.0)
        return answer.status < 400

    def _values(self, change: Change) -> dict[str, Any]:
        """Raises Rejected naming a field that Brevo would drop."""
        defined = self._attributes()
        names = {"FIRSTNAME": change.first_name, "LASTNAME": change.last_name}
        values: dict[str, Any] = {n: value for n, value in names.items() if value is not None and n in defined}
        for name, value in change.fields.items():
            if name.upper() not in defined:
                raise Rejected(f"Brevo has no attribute {name.upper()}", field=name, reason="unknown_field")
            values[name.upper()] = _value(name, word(defined[name.upper()], "type"), value)
        return {**values, _TAGS: list(change.tags)}

    def _event(self, cue: Cue) -> Outcome:
        body = {
            "event_name": re.sub(r"[^A-Za-z0-9_-]+", "_", cue.name)[:255],
            "event_date": instant(cue.at),
            "identifiers": {"email_id": cue.email},
            "event_properties": {name: text(v) if isinstance(v, list) else v for name, v in cue.properties.items()},
        }
        # An event has no key that would make its repeat harmless: without an answer it is not sent again.
        self._http.call("POST", "/v3/events", body=body, family="events", repeatable=False)
        return Outcome(cue.key, "applied", remote_id=cue.remote_id)

    # --- what the account has

    def _attributes(self, *, fresh: bool = False) -> dict[str, dict[str, Any]]:
        if self._defined is None or fresh:
            found = records(self._http.call("GET", "/v3/contacts/attributes").data, "attributes")
            self._defined = {word(a, "name"): a for a in found if word(a, "category") in ("normal", "category")}
        return self._defined

    def _define(self, method: str, name: str, definition: dict[str, Any]) -> None:
        self._http.call(method, f"/v3/contacts/attributes/normal/{quote(name, safe='')}", body=definition)
        self._attributes()[name] = {**self._attributes().get(name, {}), "name": name, **definition}

    def _ensure_tags(self, tags: Sequence[str]) -> list[str]:
        """Makes the multiple-choice attribute and its options exist, keeping those it has; one line per thing made."""
        defined = self._attributes()
        if not {*tags} <= {*entries(defined.get(_TAGS), "multiCategoryOptions")}:
            defined = self._attributes(fresh=True)
        if _TAGS not in defined:
            self._define("POST", _TAGS, {"type": "multiple-choice", "multiCategoryOptions": list(tags)})
            return [f"attribute {_TAGS}", *(f"tag {tag}" for tag in tags)]
        if word(defined[_TAGS], "type") != "multiple-choice":
            raise Rejected(f"attribute {_TAGS} exists and is no multiple choice", field=_TAGS, reason="field_type")
        held = entries(defined[_TAGS], "multiCategoryOptions")
        missing = [tag for tag in tags if tag not in held]
        if missing:
            self._define("PUT", _TAGS, {"multiCategoryOptions": [*held, *missing]})
        return [f"tag {tag}" for tag in missing]

    def _find(self, kind: str, name: str) -> str:
        """The id of the list or folder with this name; "" when there is none."""
        offset = 0
        while True:
            query: dict[str, object] = {"limit": _PAGE, "offset": offset}
            page = records(self._http.call("GET", f"/v3/contacts/{kind}", query=query).data, kind)
            found = next((word(one, "id") for one in page if word(one, "name") == name), "")
            if found or len(page) < _PAGE:
                return found
            offset += _PAGE

    def _make(self, kind: str, body: Mapping[str, Any]) -> str:
        return str(self._http.call("POST", f"/v3/contacts/{kind}", body=body, repeatable=False).at("id"))


def _path(name: str) -> str:
    return f"/v3/contacts/{quote(name, safe='')}"


def _value(name: str, kind: str, value: FieldValue) -> FieldValue:
    """The value as an attribute of this type takes it; raises Rejected for one that Brevo would drop without a word."""
    if value is None or kind == "text":
        return text(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {"float": number and math.isfinite(value), "boolean": isinstance(value, bool)}  # type: ignore[arg-type]
    try:
        if kind == "date":
            return date.fromisoformat(text(value)[:10]).isoformat()
    except ValueError:
        fits["date"] = False
    if not fits.get(kind, True):
        raise Rejected(f"{text(value)[:40]} is no {kind}", field=name, reason="field_type")
    return text(value) if isinstance(value, list) and kind != "multiple-choice" else value


def _persons_own(name: str) -> str:
    """Why no field may be this attribute, "" when one may: it would overwrite the address or a name."""
    if name not in ("EMAIL", "FIRSTNAME", "LASTNAME"):
        return ""
    return f"attribute {name} holds the person's own and is written anyway: give the field another name"


def _held(want: Wanted, contact: Mapping[str, Any] | None, defined: Mapping[str, Mapping[str, Any]]) -> Held:
    if contact is None:
        return Held(want.key, "missing")
    held = dig(contact, "attributes")
    fields: dict[str, FieldValue] = {}
    for name, value in want.fields.items():
        try:
            written = _value(name, word(defined.get(name.upper()), "type"), value)
            fields[name] = as_wanted(dig(held, name.upper()), written, value)
        except Rejected:  # the attribute has another type by now
            fields[name] = dig(held, name.upper()) or None
    return Held(
        want.key,
        "found" if want.remote_id in (None, word(contact, "id")) else "merged",
        word(contact, "id"),
        word(contact, "email").lower(),
        tuple(sorted(map(str, entries(held, _TAGS)))),
        fields,
        "unsubscribed" if contact.get("emailBlacklisted") is True else None,
        stated(held, "FIRSTNAME"),
        stated(held, "LASTNAME"),
    )


def _judge(answer: Answer, now: float) -> DeliveryError:
    told = answer.headers.get("x-sib-ratelimit-reset", "")
    wait = float(told) if re.fullmatch(r"[0-9]{1,5}", told) else None
    return judge(answer, now, word(answer.data, "message"), retry_after=wait)
