"""HubSpot: contacts with a `storecue_tags` multi-checkbox, typed properties, manual lists, custom events by plan.

Paths carry a date version; the shapes are those of 2026-03, the newest published as generally available (2026-08).
Beside this file: `hubspot_properties` (what must exist), `hubspot_values`, `hubspot_reading` (what is held, and
consent), `hubspot_activity` (opens and clicks), `hubspot_events` (custom events), `hubspot_errors` (what refusals
mean).
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple
from urllib.parse import quote

from adapters.destination import (
    Account,
    ActivityPage,
    Change,
    Clock,
    Cue,
    FieldSpec,
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
from adapters.http import Answer, Http, Vendor, count_option, credential
from adapters.hubspot_activity import SEARCH, Contacts
from adapters.hubspot_errors import POLICY_WAITS, item_error, judged, names_in
from adapters.hubspot_events import Events
from adapters.hubspot_properties import Properties
from adapters.hubspot_reading import Reading
from adapters.hubspot_values import LONGEST_TEXT, property_values
from adapters.outcomes import Send, bisect, chunked, each, in_turn, not_there, outcome_of, refuse, side_by_side
from adapters.rate_limit import Window
from adapters.shape import dig, entries, records, word
from adapters.values import text

_BATCH = 100
_LIST_RECORDS = 1_000
_DAILY_WITHOUT_ZONE = 3600.0
_FEW_CALLS_LEFT = 1_000
# What a batch says of a contact that is not where we thought: its record is gone (deleted, merged), or it exists
# already (a race, or an answer to us that was lost).
_ASTRAY = {"update": "OBJECT_NOT_FOUND", "create": "CONFLICT"}


class _Write(NamedTuple):
    """Properties to set on one contact; `moves_from` is the address it had when the address itself changes. `again`:
    what we knew of it was wrong, and it is looked up a second time."""

    key: str
    email: str
    properties: Mapping[str, str]
    create: bool
    remote_id: str | None = None
    moves_from: str | None = None
    again: bool = False


class HubSpot:
    """An account of HubSpot (see adapters.destination.Destination).

    Options: `version`, `custom_events` ("true" on Enterprise), `requests_per_10_seconds` (100; more on larger plans),
    `subscription` (the subscription type whose consent is read).
    """

    vendor = "hubspot"
    takes = Takes(
        ("access_token",),
        options={
            "version": Option(r"\d{4}-\d{2}", "2026-03"),
            "requests_per_10_seconds": Option(r"[1-9]\d{0,3}", "190"),
            "custom_events": Option(r"true|false", "true"),
            "subscription": Option(r".{1,100}", "Marketing Information"),
        },
        engagement=True,
    )
    limits = Limits(batch=4 * _BATCH, concurrency=4)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        token = credential(settings, "access_token")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": "application/json"}
        self._calls = count_option(settings, "requests_per_10_seconds", 100)
        windows = {"account": (Window(self._calls, 10.0),), SEARCH: (Window(5, 1.0),)}
        vendor = Vendor(
            "HubSpot",
            "https://api.hubapi.com",
            headers,
            (token,),
            self._judge,
            self.limits.concurrency,
            windows,
            self._spent,
        )
        self._http = Http(vendor, settings, clock)
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="hubspot")
        self._batches = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="hubspot-batch")
        version = quote(settings.options.get("version", "2026-03"), safe="")
        self._contacts = f"/crm/objects/{version}/contacts"
        self._lists = f"/crm/lists/{version}"
        self._account = f"/account-info/{version}/details"
        self._properties = Properties(self._http, version, clock)
        self._activity = Contacts(self._http, version, clock)
        self._reading = Reading(self._http, version, clock, self._pool, settings.options.get("subscription", ""))
        self._events = Events(self._http, version, clock, settings.options.get("custom_events") == "true")
        self._portal = ""
        self._zone = ""
        self._calls_left: int | None = None  # today, of the whole account; None where HubSpot does not say

    def check_login(self) -> Account:
        answer = self._details()
        notes = []
        if not self._reading.check():
            notes.append("no scope for communication preferences: consent is read as the opt-out from everything only")
        if not self._events.check():
            notes.append("no custom events by this plan or key: cues become the property storecue_last_cue")
        allowed = answer.headers.get("x-hubspot-ratelimit-max", "")
        if allowed.isdecimal() and int(allowed) != self._calls:
            notes.append(f"HubSpot allows {allowed} calls in 10 seconds: set requests_per_10_seconds to it")
        # Whether a service key may read the details is not documented (2026-11): contacts are the second opinion.
        if answer.status in (403, 404):
            self._http.call("GET", self._contacts, query={"limit": 1})
            return Account("", "HubSpot", tuple(notes))
        portal = str(answer.at("portalId"))
        return Account(portal, f"HubSpot {portal} {word(answer.data, 'accountType')}".strip(), tuple(notes))

    @setting_up()
    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        return self._properties.provision(fields, tags)

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        return self._properties.foresee(fields, tags)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        if not self._zone and self._calls_left is not None and self._calls_left < _FEW_CALLS_LEFT:
            with suppress(DeliveryError):
                self._details()  # while it can still be asked: the day's limit lasts until midnight there
        with setting_up():
            self._properties.ensure_tags(sorted({tag for change in changes for tag in change.tags}))
            defined = self._properties.defined()
            if any(name not in defined for change in changes for name in change.fields):
                defined = self._properties.defined(fresh=True)
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
        if live and self._events.offered():
            try:
                return skipped + self._events.send(live, self._portal_id)
            except Rejected as error:
                return skipped + [refuse(cue, error) for cue in live]
            except Unauthorized as error:
                if error.reason != "missing_scope":
                    raise
                self._events.not_in_plan()
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
        ids = self._reading.record_ids([m.email for m in memberships if not m.remote_id])
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
        return self._reading.held(wanted, self._properties.defined()) if wanted else []

    def unite(self, kept: str, gone: str) -> bool:
        # The result has an id of its own, to which both lead; the address of `gone` becomes an additional one (2025).
        body = {"primaryObjectId": kept, "objectIdToMerge": gone}
        self._http.call("POST", f"{self._contacts}/merge", body=body, expect=(404,))
        return True

    def forget(self, email: str, remote_id: str | None = None) -> None:
        path = f"{self._contacts}/gdpr-delete"
        if remote_id and self._http.call("POST", path, body={"objectId": remote_id}, expect=(404,)).status != 404:
            return
        # An address HubSpot does not know goes to its blocklist: nobody can create it again, which is what was asked.
        self._http.call("POST", path, body={"objectId": email, "idProperty": "email"}, expect=(404,))

    def activity(self, since: int) -> Iterator[ActivityPage]:
        return self._activity.activity(since, self._properties.defined())

    def close(self) -> None:
        self._batches.shutdown()
        self._pool.shutdown()
        self._http.close()

    # --- contacts

    def _write(self, writes: Sequence[_Write]) -> list[Outcome]:
        """One contact by its address in one call; several by record id in batches, because HubSpot refuses partial
        upserts keyed by e-mail (2026-09). A kept record id wins over the address: somebody may have changed that."""
        if len(writes) <= 1:
            return each(self._pool, writes, self._write_one) if writes else []
        unknown = [email for w in writes if not w.remote_id for email in (w.email, w.moves_from) if email]
        ids = self._reading.record_ids(unknown)
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
                singles.append(write)  # one contact twice, or an address that another one has: each for itself, after
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
        batched = [write for piece, _ in pieces for write in piece]
        within = any(
            write.again for write in writes
        )  # we are in a batch: to wait for others in its pool may be for ever

        def together(_: Sequence[_Write]) -> list[Outcome]:
            return in_turn(pieces) if within else side_by_side(self._batches, pieces)

        turns: list[tuple[Sequence[_Write], Send[_Write]]] = [(batched, together)] if batched else []
        turns += [([single], lambda some: each(self._pool, some, self._write_one)) for single in singles]
        return absent + in_turn(turns)

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
            answer = self._call("POST", self._contacts, body, expect=(409,))
            if answer.status == 409:
                answer = self._patch(write.email, write.properties, by_email=True, expect=())
        return _applied(write, answer)

    def _patch(self, target: str, properties: Mapping[str, str], *, by_email: bool, expect: tuple[int, ...]) -> Answer:
        path = f"{self._contacts}/{quote(target, safe='')}"
        return self._call(
            "PATCH", path, {"properties": properties}, {"idProperty": "email"} if by_email else None, expect
        )

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        query: Mapping[str, object] | None = None,
        expect: tuple[int, ...] = (),
    ) -> Answer:
        """The answer to a write of contacts. Where somebody took away a property or option of ours while we ran, it is
        made again and the write repeated: otherwise every contact would be refused for it."""
        seen = self._properties.mended
        try:
            return self._http.call(method, path, body=body, query=query, expect=expect)
        except Rejected as error:
            if error.reason not in ("unknown_field", "unknown_option") or not self._mended(seen):
                raise
        return self._http.call(method, path, body=body, query=query, expect=expect)

    @setting_up()
    def _mended(self, seen: int) -> bool:
        return self._properties.mend(seen)

    def _update(self, writes: Sequence[_Write]) -> list[Outcome]:
        """A record that stays locked would lock out its whole batch: halved until it waits alone."""
        try:
            return bisect(writes, lambda some: self._batch("update", some), self._alone)
        except Transient as error:
            if error.reason != "locked":
                raise
            if len(writes) == 1:
                return [outcome_of(writes[0].key, error)]
        return in_turn((half, self._update) for half in chunked(writes, (len(writes) + 1) // 2))

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
        path, first = f"{self._contacts}/batch/{verb}", not any(write.again for write in writes)
        answer = self._call("POST", path, {"inputs": inputs}, expect=(409,) if verb == "create" and first else ())
        if answer.status == 409:
            return self._write([write._replace(again=True) for write in writes])
        outcomes: dict[int, Outcome] = {}
        astray: set[int] = set()
        for error in records(answer.data, "errors"):
            for index in {named[name] for name in names_in(error) if name in named}:
                if first and error.get("category") == _ASTRAY[verb]:
                    astray.add(index)
                elif error.get("category") not in _ASTRAY.values():
                    outcomes[index] = outcome_of(writes[index].key, item_error(error))
        for result in records(answer.data, "results"):
            email = word(result, "properties", "email").lower()
            for name in (word(result, "objectWriteTraceId"), word(result, "id"), email):
                if name in named:
                    outcomes.setdefault(named[name], _outcome(writes[named[name]], word(result, "id")))
                    break
        # They are looked up by address, all at once.
        lost = [writes[index]._replace(remote_id=None, again=True) for index in sorted(astray - outcomes.keys())]
        # Neither among the results nor among the errors we could place: it answers for itself.
        rest = [write for index, write in enumerate(writes) if index not in outcomes and index not in astray]
        pieces: list[tuple[Sequence[_Write], Send[_Write]]]
        pieces = [
            (lost, self._write),
            (rest, lambda some: each(self._pool, some, self._write_one)),
        ]
        done = list(outcomes.values())
        return _after(done, [(some, send) for some, send in pieces if some])

    def _alone(self, write: _Write, error: Rejected) -> Outcome:
        if error.reason not in ("conflict", "not_found"):
            return outcome_of(write.key, error)
        try:
            return self._write_one(write)
        except Rejected as refusal:
            return outcome_of(write.key, refusal)

    # --- cues

    def _set_last_cue(self, cues: Sequence[Cue]) -> list[Outcome]:
        writes = []
        for cue in cues:
            segment = cue.properties.get("segment")
            value = f"{cue.name}: {text(segment)}" if segment else cue.name
            properties = {"storecue_last_cue": value[:LONGEST_TEXT], "storecue_last_cue_at": str(cue.at)}
            writes.append(_Write(cue.key, cue.email, properties, False, cue.remote_id))
        return self._write(writes)

    # --- the account

    def _details(self) -> Answer:
        answer = self._http.call("GET", self._account, expect=(403, 404))
        self._portal, self._zone = word(answer.data, "portalId"), word(answer.data, "timeZone")
        return answer

    def _portal_id(self) -> str:
        if not self._portal:
            self._details()
        return self._portal

    def _judge(self, answer: Answer, now: float) -> DeliveryError:
        policy = word(answer.data, "policyName")
        wait = self._until_midnight(now) if policy == "DAILY" else POLICY_WAITS.get(policy)
        return judged(answer, now, wait)

    def _spent(self, answer: Answer, now: float) -> float:
        """Seconds to wait because the answer's own counter of the day's calls stands at nothing; 0 mostly."""
        left = answer.headers.get("x-hubspot-ratelimit-daily-remaining", "")
        if not left.isdecimal():
            return 0.0
        self._calls_left = int(left)
        return 0.0 if self._calls_left else self._until_midnight(now)

    def _until_midnight(self, now: float) -> float:
        from zoneinfo import ZoneInfo

        try:
            local = datetime.fromtimestamp(now, ZoneInfo(self._zone))
        except (ValueError, KeyError, OSError):
            return _DAILY_WITHOUT_ZONE
        midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight.timestamp() - now


def _after(done: list[Outcome], pieces: Sequence[tuple[Sequence[_Write], Send[_Write]]]) -> list[Outcome]:
    """The outcomes of a batch with those of its remainder; what fails there is told of the remainder alone."""
    for items, send in pieces:
        try:
            done += send(items)
        except DeliveryError as error:
            done += [outcome_of(item.key, error) for item in items]
    return done


def _rounds(cues: Sequence[Cue]) -> list[list[Cue]]:
    """The first cue of every contact, then the second of each and so on: a property shows one cue at a time."""
    by_contact: dict[str, list[Cue]] = {}
    for cue in sorted(cues, key=lambda cue: cue.at):
        by_contact.setdefault(cue.email.lower(), []).append(cue)
    return [[cue for cue in turn if cue] for turn in zip_longest(*by_contact.values())]


def _applied(write: _Write, answer: Answer) -> Outcome:
    return _outcome(write, str(answer.at("id")))


def _outcome(write: _Write, record: str) -> Outcome:
    return Outcome(write.key, "applied", remote_id=record)
