"""HubSpot: contacts with a `storecue_tags` multi-checkbox, typed properties, manual lists, custom events by plan.

Paths carry a date version; the shapes are those of 2026-03, the newest published as generally available (2026-08).
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from adapters.destination import (
    Account,
    Change,
    Clock,
    Cue,
    FieldSpec,
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
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized, setting_up
from adapters.http import Answer, Fault, Http, Vendor, count_option, credential, judge
from adapters.hubspot_properties import (
    GROUP,
    OPTION_KEYS,
    OWN_FIELDS,
    TAGS,
    TYPES,
    check_type,
    definition,
    forecast,
    held_value,
    is_checkbox,
    new_option,
    property_values,
)
from adapters.outcomes import Send, bisect, chunked, each, in_turn, look_up, not_there, outcome_of, refuse
from adapters.rate_limit import Window
from adapters.shape import dig, entries, records, word
from adapters.values import instant, slug, text

_BATCH = 100
_OTHER_NAMES = ("hs_additional_emails", "hs_merged_object_ids")
_EVENTS = 500
_LIST_RECORDS = 1_000

_FAULTS = {
    423: Fault(Transient, "locked", 2.0),
    477: Fault(Transient, "migration", 30.0),
}
# Seconds by the policy that a 429 names; DAILY lasts until midnight where the account is.
_POLICY_WAITS = {"TEN_SECONDLY_ROLLING": 10.0, "SECONDLY": 1.0}
_DAILY_WITHOUT_ZONE = 3600.0


class _Write(NamedTuple):
    """Properties to set on one contact; `moves_from` is the address it had when the address itself changes."""

    key: str
    email: str
    properties: Mapping[str, str]
    create: bool
    remote_id: str | None = None
    moves_from: str | None = None


class HubSpot:
    """An account of HubSpot (see adapters.destination.Destination).

    Options: `version`, `custom_events` ("true" on Enterprise), `requests_per_10_seconds` (100; more on larger plans).
    """

    vendor = "hubspot"
    takes = Takes(
        ("access_token",),
        options={
            "version": Option(r"\d{4}-\d{2}", "2026-03"),
            "requests_per_10_seconds": Option(r"[1-9]\d{0,3}", "190"),
            "custom_events": Option(r"true|false", "true"),
        },
    )
    limits = Limits(batch=_BATCH, concurrency=4)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        token = credential(settings, "access_token")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": "application/json"}
        calls = count_option(settings, "requests_per_10_seconds", 100)
        windows = {"account": (Window(calls, 10.0),)}
        vendor = Vendor(
            "HubSpot", "https://api.hubapi.com", headers, (token,), self._judge, self.limits.concurrency, windows
        )
        self._http = Http(vendor, settings, clock)
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="hubspot")
        version = quote(settings.options.get("version", "2026-03"), safe="")
        self._contacts = f"/crm/objects/{version}/contacts"
        self._properties = f"/crm/properties/{version}/contacts"
        self._lists = f"/crm/lists/{version}"
        self._events = f"/events/{version}"
        self._details = f"/account-info/{version}/details"
        self._custom_events = settings.options.get("custom_events") == "true"
        self._event_names: dict[str, str] = {}
        self._portal = ""
        self._zone = ""
        self._defined: dict[str, dict[str, Any]] | None = None

    def check_login(self) -> Account:
        # Whether a service key may read the details is not documented (2026-11): contacts are the second opinion.
        answer = self._http.call("GET", self._details, expect=(403, 404))
        if answer.status in (403, 404):
            self._http.call("GET", self._contacts, query={"limit": 1})
            return Account("", "HubSpot")
        self._portal = str(answer.at("portalId"))
        self._zone = word(answer.data, "timeZone")
        return Account(self._portal, f"HubSpot {self._portal} {word(answer.data, 'accountType')}".strip())

    @setting_up()
    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        created = []
        defined = self._definitions(fresh=True)
        wanted = [*fields, *OWN_FIELDS]
        for spec in wanted:
            check_type(spec, defined.get(spec.name))
        missing = [spec for spec in wanted if spec.name not in defined]
        if missing or TAGS not in defined:
            body = {"name": GROUP, "label": "StoreCue"}
            if self._http.call("POST", f"{self._properties}/groups", body=body, expect=(409,)).status != 409:
                created.append(f"property group {GROUP}")
        for spec in missing:
            if self._define(definition(spec)):
                created.append(f"property {spec.name} ({TYPES[spec.type][0]})")
        return created + self._ensure_tags(tags)

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        defined = self._definitions(fresh=True)
        shown = defined.get(TAGS)
        held = {word(option, "value") for option in records(shown, "options")}
        refusal = "" if shown is None or is_checkbox(shown) else f"property {TAGS} exists and is no multiple checkbox"
        return Forecast(
            [forecast(spec, defined.get(spec.name)) for spec in fields],
            [
                Fit(tag, "refused" if refusal else "exists" if tag in held else "created", f"option of {TAGS}", refusal)
                for tag in tags
            ],
        )

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        with setting_up():
            self._ensure_tags(sorted({tag for change in changes for tag in change.tags}))
            defined = self._definitions()
            if any(name not in defined for change in changes for name in change.fields):
                defined = self._definitions(fresh=True)
        refused: list[Outcome] = []
        writes: list[_Write] = []
        for change in changes:
            try:
                properties = property_values(change, defined)
            except Rejected as error:
                refused.append(outcome_of(change.key, error))
                continue
            previous = change.previous_email
            writes.append(_Write(change.key, change.email, properties, change.create, change.remote_id, previous))
        return refused + self._write(writes)

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        message = "HubSpot cannot record an event without starting workflows"
        skipped = [Outcome(cue.key, "skipped", "backfill", message) for cue in cues if cue.backfill]
        live = [cue for cue in cues if not cue.backfill]
        if self._custom_events and live:
            try:
                self._define_events(live)
                return skipped + in_turn((piece, self._complete) for piece in chunked(live, _EVENTS))
            except Rejected as error:
                return skipped + [refuse(cue, error) for cue in live]
            except Unauthorized as error:
                if error.reason != "missing_scope":
                    raise
                self._custom_events = False  # the plan has none (Enterprise only): properties from here on
        return skipped + in_turn((cue_round, self._set_last_cue) for cue_round in _rounds(live))

    @setting_up()
    def ensure_list(self, name: str, known_id: str | None) -> str:
        if known_id:
            answer = self._http.call("GET", f"{self._lists}/{quote(known_id, safe='')}", expect=(404,))
            if answer.status != 404:
                return known_id
        path = f"{self._lists}/object-type-id/0-1/name/{quote(name, safe='')}"
        answer = self._http.call("GET", path, expect=(404,))
        if answer.status == 404:
            body = {"name": name, "objectTypeId": "0-1", "processingType": "MANUAL"}
            answer = self._http.call("POST", self._lists, body=body, repeatable=False)
        if dig(answer.data, "list", "processingType") == "DYNAMIC":
            raise Misconfigured(f"HubSpot already has an active list named {name}: rename one", reason="list_taken")
        return str(answer.at("list", "listId"))

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]:
        ids = self._record_ids([m.email for m in memberships if not m.remote_id])
        known = [replace(m, remote_id=m.remote_id or ids.get(m.email.lower())) for m in memberships]
        path = f"{self._lists}/{quote(list_id, safe='')}/memberships/add-and-remove"

        def relate(members: Sequence[Membership]) -> list[Outcome]:
            body = {
                "recordIdsToAdd": [m.remote_id for m in members if m.added],
                "recordIdsToRemove": [m.remote_id for m in members if not m.added],
            }
            answer = self._http.call("PUT", path, body=body)
            missing = {str(record) for record in entries(answer.data, "recordIdsMissing")}
            return [
                not_there(m.key) if m.remote_id in missing else Outcome(m.key, "applied", remote_id=m.remote_id)
                for m in members
            ]

        pieces = chunked([m for m in known if m.remote_id], _LIST_RECORDS)
        absent = [not_there(m.key) for m in known if not m.remote_id]
        return absent + in_turn((piece, lambda members: bisect(members, relate, refuse)) for piece in pieces)

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        if not wanted:
            return []
        defined = self._definitions()
        kinds = {n: word(defined[n], "type") for want in wanted for n in want.fields if n in defined}
        shown = ("email", *_OTHER_NAMES, "hs_email_optout", TAGS, *sorted(kinds))
        by_id = self._read("id", [want.remote_id for want in wanted if want.remote_id], shown)
        lost = [want.email for want in wanted if want.remote_id not in by_id]
        by_email = self._read("email", lost, shown)
        return [
            _held(want, by_id.get(want.remote_id or "") or by_email.get(want.email.lower()), kinds) for want in wanted
        ]

    def forget(self, email: str, remote_id: str | None = None) -> None:
        path = f"{self._contacts}/gdpr-delete"
        if remote_id and self._http.call("POST", path, body={"objectId": remote_id}, expect=(404,)).status != 404:
            return
        # An address HubSpot does not know goes to its blocklist: nobody can create it again, which is what was asked.
        self._http.call("POST", path, body={"objectId": email, "idProperty": "email"}, expect=(404,))

    def close(self) -> None:
        self._pool.shutdown()
        self._http.close()

    # --- contacts

    def _write(self, writes: Sequence[_Write]) -> list[Outcome]:
        """One contact by its address in one call; several by record id in batches, because HubSpot refuses partial
        upserts keyed by e-mail (2026-09)."""
        if len(writes) <= 1:
            return each(self._pool, writes, self._write_one) if writes else []
        ids = self._record_ids([email for w in writes if not w.remote_id for email in (w.email, w.moves_from) if email])
        updates: dict[str, _Write] = {}
        creates: dict[str, _Write] = {}
        singles: list[_Write] = []
        absent: list[Outcome] = []
        for write in writes:
            email = write.email.lower()
            there = ids.get(email)
            record = write.remote_id or ids.get((write.moves_from or email).lower()) or there
            collides = bool(write.moves_from and there and there != record)
            if collides or record in updates or (record is None and email in creates):
                singles.append(write)
            elif record:
                moves_from = None if record == there else write.moves_from
                updates[record] = write._replace(remote_id=record, moves_from=moves_from)
            elif write.create:
                creates[email] = write
            else:
                absent.append(not_there(write.key))
        pieces: list[tuple[Sequence[_Write], Send[_Write]]]
        pieces = [(piece, self._update) for piece in chunked(list(updates.values()), _BATCH)]
        pieces += [(piece, self._create) for piece in chunked(list(creates.values()), _BATCH)]
        if singles:
            pieces.append((singles, lambda some: each(self._pool, some, self._write_one)))
        return absent + in_turn(pieces)

    def _write_one(self, write: _Write) -> Outcome:
        target = write.remote_id or write.moves_from
        moved = {"email": write.email} if write.moves_from else {}
        if target:
            answer = self._patch(target, {**moved, **write.properties}, by_email=not write.remote_id, expect=(404, 409))
            if answer.status not in (404, 409):
                return _applied(write, answer)
        # 404: merged away or deleted. 409: the address belongs to another contact already. The address decides.
        answer = self._patch(write.email, write.properties, by_email=True, expect=(404,))
        if answer.status == 404:
            if not write.create:
                return not_there(write.key)
            body = {"properties": {"email": write.email, **write.properties}}
            answer = self._http.call("POST", self._contacts, body=body, expect=(409,))
            if answer.status == 409:
                answer = self._patch(write.email, write.properties, by_email=True, expect=())
        return _applied(write, answer)

    def _patch(self, target: str, properties: Mapping[str, str], *, by_email: bool, expect: tuple[int, ...]) -> Answer:
        query = {"idProperty": "email"} if by_email else None
        path = f"{self._contacts}/{quote(target, safe='')}"
        return self._http.call("PATCH", path, body={"properties": properties}, query=query, expect=expect)

    def _update(self, writes: Sequence[_Write]) -> list[Outcome]:
        return bisect(writes, lambda some: self._batch("update", some), self._alone)

    def _create(self, writes: Sequence[_Write]) -> list[Outcome]:
        return bisect(writes, lambda some: self._batch("create", some), self._alone)

    def _batch(self, verb: str, writes: Sequence[_Write]) -> list[Outcome]:
        """The outcomes of one batch call, each found by trace id, record id or address, never by position."""
        named: dict[str, int] = {}
        inputs = []
        for index, write in enumerate(writes):
            trace = f"storecue-{index}"
            names = {"email": write.email} if verb == "create" or write.moves_from else {}
            record = {"id": write.remote_id} if verb == "update" else {}
            inputs.append({**record, "objectWriteTraceId": trace, "properties": {**names, **write.properties}})
            named.update({trace: index, write.email.lower(): index, write.remote_id or trace: index})
        answer = self._http.call("POST", f"{self._contacts}/batch/{verb}", body={"inputs": inputs})
        outcomes: dict[int, Outcome] = {}
        for error in records(answer.data, "errors"):
            conflict = error.get("category") in ("CONFLICT", "OBJECT_NOT_FOUND")
            for index in {named[name] for name in _names(error) if name in named}:
                if not conflict:
                    refusal = Rejected(word(error, "message")[:500], field=_culprit(error))
                    outcomes[index] = outcome_of(writes[index].key, refusal)
        for result in records(answer.data, "results"):
            email = word(result, "properties", "email").lower()
            for name in (word(result, "objectWriteTraceId"), word(result, "id"), email):
                if name in named:
                    outcomes.setdefault(named[name], _outcome(writes[named[name]], word(result, "id")))
                    break
        # Neither among the results nor among the errors we could place: it answers for itself.
        rest = [write for index, write in enumerate(writes) if index not in outcomes]
        return list(outcomes.values()) + (each(self._pool, rest, self._write_one) if rest else [])

    def _alone(self, write: _Write, error: Rejected) -> Outcome:
        if error.reason not in ("conflict", "not_found"):
            return outcome_of(write.key, error)
        try:
            return self._write_one(write)
        except Rejected as refusal:
            return outcome_of(write.key, refusal)

    def _record_ids(self, emails: Iterable[str]) -> dict[str, str]:
        """Record ids by lower-case address, first or additional, of the contacts that exist."""

        found = self._read("email", emails, ("email", "hs_additional_emails"))
        return {email: word(contact, "id") for email, contact in found.items() if word(contact, "id")}

    def _read(self, by: str, values: Iterable[str], properties: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The contacts that exist, by `id` (also those they had before a merge) or `email` (first or additional)."""

        def find(some: Sequence[str]) -> dict[str, dict[str, Any]]:
            body: dict[str, Any] = {"inputs": [{"id": value} for value in some], "properties": list(properties)}
            body |= {"propertiesWithHistory": [], **({"idProperty": "email"} if by == "email" else {})}
            answer = self._http.call("POST", f"{self._contacts}/batch/read", body=body)
            own = _ids if by == "id" else _emails
            return {name: contact for contact in records(answer.data, "results") for name in own(contact)}

        return look_up(sorted({value.lower() for value in values}), _BATCH, find)

    # --- properties

    def _definitions(self, *, fresh: bool = False) -> dict[str, dict[str, Any]]:
        if self._defined is None or fresh:
            results = records(self._http.call("GET", self._properties).data, "results")
            self._defined = {word(found, "name"): found for found in results}
        return self._defined

    def _define(self, definition: dict[str, Any]) -> bool:
        """True when the property was created; False when somebody was faster."""
        created = self._http.call("POST", self._properties, body=definition, expect=(409,)).status != 409
        self._definitions()[definition["name"]] = definition
        return created

    def _ensure_tags(self, tags: Sequence[str]) -> list[str]:
        """Makes the multi-checkbox and its options exist, keeping every option it has; one line per thing created."""
        defined = self._definitions().get(TAGS)
        if defined is None or not {*tags} <= {word(option, "value") for option in records(defined, "options")}:
            defined = self._definitions(fresh=True).get(TAGS)
        if defined is None:
            options = [new_option(tag, order) for order, tag in enumerate(tags)]
            label = {"name": TAGS, "label": "StoreCue tags", "groupName": GROUP}
            self._define({**label, "type": "enumeration", "fieldType": "checkbox", "options": options})
            return [f"property {TAGS}", *(f"tag {tag}" for tag in tags)]
        held = records(defined, "options")
        if not is_checkbox(defined):
            raise Rejected(f"property {TAGS} exists and is no multiple checkbox", field=TAGS, reason="field_type")
        options = [{key: option[key] for key in OPTION_KEYS if option.get(key) is not None} for option in held]
        missing = [tag for tag in tags if tag not in {word(option, "value") for option in options}]
        if missing:
            # A PATCH replaces the whole list, and since 2026-03 every option needs its displayOrder.
            for order, option in enumerate(options):
                option.setdefault("displayOrder", order)
            options += [new_option(tag, len(options) + order) for order, tag in enumerate(missing)]
            self._http.call("PATCH", f"{self._properties}/{TAGS}", body={"options": options})
            self._definitions()[TAGS] = {**defined, "options": options}
        return [f"tag {tag}" for tag in missing]

    # --- cues

    def _define_events(self, cues: Sequence[Cue]) -> None:
        for name in {cue.name for cue in cues} - self._event_names.keys():
            words = sorted({slug(word) for cue in cues if cue.name == name for word in cue.properties})
            body = {
                "label": name[:50],
                "name": slug(name)[:50],
                "primaryObject": "CONTACT",
                "includeDefaultProperties": True,
                "propertyDefinitions": [{"name": word, "label": word, "type": "string"} for word in words],
            }
            answer = self._http.call("POST", f"{self._events}/event-definitions", body=body, expect=(409,))
            if answer.status == 409 and not self._portal:
                self.check_login()
            full = word(answer.data, "fullyQualifiedName") or f"pe{self._portal}_{body['name']}"
            self._event_names[name] = str(full)

    def _complete(self, cues: Sequence[Cue]) -> list[Outcome]:
        def send(some: Sequence[Cue]) -> list[Outcome]:
            inputs = [self._completion(cue) for cue in some]
            path, body = ("/send", inputs[0]) if len(inputs) == 1 else ("/send/batch", {"inputs": inputs})
            self._http.call("POST", self._events + path, body=body)
            return [Outcome(cue.key, "applied", remote_id=cue.remote_id) for cue in some]

        return bisect(cues, send, refuse)

    def _completion(self, cue: Cue) -> dict[str, Any]:
        return {
            "eventName": self._event_names[cue.name],
            "uuid": str(uuid5(NAMESPACE_URL, f"storecue:{cue.key}")),  # HubSpot drops a repeat for a year
            "occurredAt": instant(cue.at),
            "properties": {slug(name): text(value)[:256] for name, value in cue.properties.items()},
            **({"objectId": cue.remote_id} if cue.remote_id else {"email": cue.email}),
        }

    def _set_last_cue(self, cues: Sequence[Cue]) -> list[Outcome]:
        writes = []
        for cue in cues:
            segment = cue.properties.get("segment")
            value = f"{cue.name}: {text(segment)}" if segment else cue.name
            properties = {"storecue_last_cue": value, "storecue_last_cue_at": str(cue.at)}
            writes.append(_Write(cue.key, cue.email, properties, False, cue.remote_id))
        return self._write(writes)

    def _judge(self, answer: Answer, now: float) -> DeliveryError:
        data = answer.data
        policy = word(data, "policyName")
        wait = self._until_midnight(now) if policy == "DAILY" else _POLICY_WAITS.get(policy)
        culprit = _culprit(data)
        return judge(answer, now, word(data, "message"), faults=_FAULTS, culprit=culprit, retry_after=wait)

    def _until_midnight(self, now: float) -> float:
        from zoneinfo import ZoneInfo

        try:
            local = datetime.fromtimestamp(now, ZoneInfo(self._zone))
        except (ValueError, KeyError, OSError):
            return _DAILY_WITHOUT_ZONE
        midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight.timestamp() - now


def _rounds(cues: Sequence[Cue]) -> list[list[Cue]]:
    """The first cue of every contact, then the second of each and so on: a property shows one cue at a time."""
    by_contact: dict[str, list[Cue]] = {}
    for cue in sorted(cues, key=lambda cue: cue.at):
        by_contact.setdefault(cue.email.lower(), []).append(cue)
    return [[cue for cue in turn if cue] for turn in zip_longest(*by_contact.values())]


def _names(error: Mapping[str, Any]) -> list[str]:
    """Every name by which a batch error may point at an input: HubSpot puts them in different places by operation."""
    found: list[Any] = [error.get("objectWriteTraceId"), error.get("id")]
    context = error.get("context")
    for values in context.values() if isinstance(context, dict) else ():
        found += values if isinstance(values, list) else [values]
    return [str(name).lower() for name in found if name is not None]


def _culprit(error: Mapping[str, Any]) -> str | None:
    for cause in (error, *records(error, "errors")):
        name = word(cause, "context", "propertyName") or word(cause, "context", "propertyName", 0)
        if name:
            return name
    return None


def _emails(contact: Mapping[str, Any]) -> list[str]:
    """Its address and the additional ones, in lower case."""
    held = dig(contact, "properties")
    return [e.lower() for e in (word(held, "email"), *word(held, "hs_additional_emails").split(";")) if e]


def _ids(contact: Mapping[str, Any]) -> list[str]:
    """Its id and those of the contacts merged into it: a merge gives a new one, and the old ones lead there (2025)."""
    merged = word(contact, "properties", "hs_merged_object_ids").split(";")
    return [id_ for id_ in (word(contact, "id"), *merged) if id_]


def _held(want: Wanted, contact: Mapping[str, Any] | None, kinds: Mapping[str, str]) -> Held:
    if contact is None:
        return Held(want.key, "missing")
    held, emails = dig(contact, "properties"), _emails(contact)
    return Held(
        want.key,
        "found" if want.remote_id in (None, word(contact, "id")) else "merged",
        word(contact, "id"),
        want.email.lower() if want.email.lower() in emails else word(held, "email").lower(),
        tuple(sorted(tag for tag in word(held, TAGS).split(";") if tag)),
        {n: held_value(n, kinds[n], word(held, n), v) if n in kinds else None for n, v in want.fields.items()},
        # The opt-out from everything. Its subscription types are another API, one call per address (2026-03).
        "unsubscribed" if word(held, "hs_email_optout") == "true" else None,
    )


def _applied(write: _Write, answer: Answer) -> Outcome:
    return _outcome(write, str(answer.at("id")))


def _outcome(write: _Write, record: str) -> Outcome:
    return Outcome(write.key, "applied", remote_id=record)
