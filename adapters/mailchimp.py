"""Mailchimp: members of one audience with merge fields and tags, member events, static segments as lists.

API 3.0. The data centre is the key's suffix. Data never touches a subscription: `status` is not sent.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from itertools import zip_longest
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from adapters.archive import json_files
from adapters.destination import (
    Account,
    Change,
    Clock,
    Consent,
    Cue,
    Fate,
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
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, setting_up
from adapters.http import Answer, Fault, Http, Vendor, count_option, credential, judge, parse
from adapters.mailchimp_fields import (
    TEXT_BYTES,
    TYPES,
    MergeField,
    cut_value,
    field_label,
    find_field,
    fits_type,
    merge_value,
    new_tag,
)
from adapters.outcomes import Send, bisect, chunked, each, in_turn, not_there, outcome_of, refuse
from adapters.shape import count, dig, entries, records, word
from adapters.values import as_wanted, instant, no_object, slug, text

_SINGLES = 40
"""Up to here one or two calls per member; beyond, one asynchronous batch and one call per tag."""

_BATCH, _SEGMENT = 1_000, 500
_POLLS = (0.5, 1.5, 4, 10, 18, 26)
"""Seconds before each look at a batch, a minute in all; then its members are to be written again, which is harmless."""

_LONGEST_BATCH = 900.0

_SLOTS = 30

# Where the results of a batch may lie, up to the slash that ends the host.
_RESULT_PLACE = re.compile(
    r"https://([a-z0-9-]+\.)*(mailchimp\.com|mailchimp[a-z0-9.-]*\.s3[a-z0-9.-]*\.amazonaws\.com)/"
)

_SHOWN = "id,contact_id,email_address,status,merge_fields,tags,tags_count"
_CONSENT: Mapping[str, Consent] = {
    "subscribed": "subscribed",
    "unsubscribed": "unsubscribed",
    "cleaned": "suppressed",
}

# 400s that are the vendor's (or the person's) decision rather than a fault of ours, by the problem's title.
_DECISIONS = {"Member In Compliance State": "compliance_state", "Forgotten Email Not Subscribed": "forgotten"}
_REFUSED_WITHOUT_WORDS = {status: Fault(Transient, "rate_limited", 2.0) for status in (403, 429)}


class _Member(NamedTuple):
    """A change with its merge fields as the vendor wants them; `cut` names those shortened to fit."""

    key: str
    change: Change
    merge_fields: dict[str, Any]
    cut: tuple[str, ...]


class _Batch(NamedTuple):
    """A batch of members under way, and until when (epoch seconds) it is waited for."""

    id: str
    members: Sequence[_Member]
    until: float


class Mailchimp:
    """One audience of a Mailchimp account (see adapters.destination.Destination). Options: `merge_field_slots`."""

    vendor = "mailchimp"
    takes = Takes(
        ("api_key",),
        list_id=True,
        options={"merge_field_slots": Option(r"[1-9]\d{0,2}", "80")},
        consent_first=True,  # a new member needs a status, and the status is what the law looks at
    )
    limits = Limits(batch=_BATCH, concurrency=8)  # the vendor cuts off at 10 connections per user, ours or not

    def __init__(self, settings: Settings, clock: Clock) -> None:
        key = credential(settings, "api_key")
        center = re.search(r"-([a-z]{2,4}[0-9]{1,4})$", key)
        if center is None and settings.base_url is None:
            raise Misconfigured("api_key must end with its data centre, such as -us21")
        if not settings.list_id or not re.fullmatch(r"\w{1,64}", settings.list_id, re.ASCII):
            raise Misconfigured("list_id must be the audience id, such as a1b2c3d4e5")
        basic = b64encode(f"storecue:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        address = f"https://{center[1] if center else 'us1'}.api.mailchimp.com"
        vendor = Vendor("Mailchimp", address, headers, (key, basic), _judge, self.limits.concurrency, {})
        self._http = Http(vendor, settings, clock)
        self._clock = clock
        self._insecure = settings.allow_insecure
        self._slots = count_option(settings, "merge_field_slots", _SLOTS)
        self._list = f"/3.0/lists/{settings.list_id}"
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="mailchimp")
        self._fields: list[MergeField] | None = None
        self._by_name: dict[str, MergeField] = {}
        self._segments: dict[str, str] | None = None
        self._double_opt_in: bool | None = None
        self._unfinished: _Batch | None = None

    def check_login(self) -> Account:
        self._http.call("GET", "/3.0/ping")
        root = self._http.call("GET", "/3.0/", query={"fields": "account_id,account_name"})
        return Account(str(root.at("account_id")), word(root.data, "account_name"))

    @setting_up()
    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        there = self._merge_fields(fresh=True)
        missing = []
        for spec in fields:
            if refusal := no_object("Mailchimp", spec):
                raise Rejected(refusal, field=spec.name, reason="field_type")
            found = find_field(spec.name, there)
            if found is None:
                missing.append(spec)
            elif not fits_type(spec, found):
                message = f"merge field {found.name} has type {found.type}: give the field {spec.name} another name"
                raise Rejected(message, field=spec.name, reason="field_type")
        if missing and len(there) + len(missing) > self._slots:
            names = ", ".join(spec.name for spec in missing[max(0, self._slots - len(there)) :])
            raise Rejected(
                f"the audience has {len(there)} of {self._slots} merge fields: no room for {names}. Remove a merge "
                "field or push fewer fields (Premium plans: option merge_field_slots 80)",
                field=missing[-1].name,
                reason="no_slot",
            )
        created = []
        for spec in missing:
            tag = new_tag(spec.name, {field.tag for field in there})
            field = MergeField(tag, field_label(spec), TYPES[spec.type])
            body = {**field._asdict(), "required": False, "public": False}
            answer = self._http.call("POST", f"{self._list}/merge-fields", body=body, repeatable=False)
            there.append(field._replace(tag=word(answer.data, "tag") or tag))
            created.append(f"merge field {there[-1].tag} ({field.name})")
        self._segments = None
        new = [tag for tag in tags if tag.lower() not in self._known_tags()]
        for tag in new:
            self._tag_id(tag)
        return created + [f"tag {tag}" for tag in new]

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        there = self._merge_fields(fresh=True)
        free = max(0, self._slots - len(there))
        fits: list[Fit] = []
        needed = 0
        for spec in fields:
            found = find_field(spec.name, there)
            needed += found is None
            fate: Fate = "created" if found is None else "exists"
            message, type_ = "", TYPES[spec.type] if found is None else found.type
            if refusal := no_object("Mailchimp", spec):
                fate, message = "refused", refusal
            elif found is not None and not fits_type(spec, found):
                fate, message = "refused", f"merge field {found.name} has type {type_}: give the field another name"
            elif found is None and needed > free:
                fate, message = "refused", f"the audience has {len(there)} of {self._slots} merge fields: no room"
            longest = None if type_ in ("number", "date") else TEXT_BYTES
            fits.append(Fit(spec.name, fate, f"merge field, {type_}", message, longest))
        self._segments = None
        known = self._known_tags()
        kept = [Fit(tag, "exists" if tag.lower() in known else "created", "tag") for tag in tags]
        return Forecast(fits, kept, (needed, free))

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        refused: list[Outcome] = []
        members: list[_Member] = []
        names = {name for change in changes for name in change.fields}
        with setting_up():
            if names or any(change.first_name or change.last_name for change in changes):
                self._look_up(names)
            if any(change.create and change.subscribed for change in changes):
                self._asks_twice()
        for change in changes:
            try:
                members.append(self._member(change))
            except Rejected as error:
                refused.append(outcome_of(change.key, error))
        if not members:
            return refused
        earlier = self._earlier(members)
        known = [member for member in members if member.key in earlier]
        left = [member for member in members if member.key not in earlier]
        singly = left if len(left) <= _SINGLES else [m for m in left if m.change.previous_email]
        batched = [] if len(left) <= _SINGLES else [m for m in left if not m.change.previous_email]
        pieces: list[tuple[Sequence[_Member], Send[_Member]]]
        pieces = [(known, lambda some: [earlier[m.key] for m in some])] if known else []
        pieces += [(piece, self._apply_batch) for piece in chunked(batched, _BATCH)]
        if singly:
            pieces.append((singly, lambda some: each(self._pool, some, self._apply_one)))
        return refused + in_turn(pieces)

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        return each(self._pool, cues, self._event) if cues else []

    @setting_up()
    def ensure_list(self, name: str, known_id: str | None) -> str:
        # A tag is a static segment under another name: the list of a segment and a tag named alike are one object.
        if known_id:
            path = f"{self._list}/segments/{quote(known_id, safe='')}"
            if self._http.call("GET", path, query={"fields": "id"}, expect=(404,)).status != 404:
                return known_id
        return self._tag_id(name)

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]:
        def relate(members: Sequence[Membership]) -> list[Outcome]:
            added = [m.email for m in members if m.added]
            failed = self._change_segment(list_id, added, [m.email for m in members if not m.added])
            return [
                Outcome(m.key, "rejected", "rejected", failed[m.email.lower()])
                if m.email.lower() in failed
                else Outcome(m.key, "applied", remote_id=m.remote_id)
                for m in members
            ]

        pieces = chunked(memberships, _SEGMENT)
        return in_turn((piece, lambda members: bisect(members, relate, refuse)) for piece in pieces)

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        with setting_up():
            self._look_up({name for want in wanted for name in want.fields})
        at = {want.key: self._path(want.email) for want in wanted}
        there = self._members_at(list(at.values()))
        # Somebody gave it another address there: its id still leads to it.
        lost = [want for want in wanted if want.remote_id and at[want.key] not in there]
        at |= {want.key: f"{self._list}/members/{quote(want.remote_id or '', safe='')}" for want in lost}
        there |= self._members_at([at[want.key] for want in lost])
        return [self._held(want, there.get(at[want.key])) for want in wanted]

    def forget(self, email: str, remote_id: str | None = None) -> None:
        self._http.call("POST", f"{self._path(email)}/actions/delete-permanent", expect=(404,))

    def close(self) -> None:
        self._pool.shutdown()
        self._http.close()

    # --- one member

    def _path(self, email: str) -> str:
        return f"{self._list}/members/{subscriber_hash(email)}"

    def _member(self, change: Change) -> _Member:
        """Raises Rejected naming a field that the audience lacks."""
        given = {"FNAME": change.first_name, "LNAME": change.last_name}
        tags = {field.tag for field in self._fields or ()}
        whole: dict[str, tuple[str, str | int | float]]
        whole = {tag: (tag, value) for tag, value in given.items() if value is not None and tag in tags}
        for name, value in change.fields.items():
            field = self._by_name.get(name)
            if field is None:
                raise Rejected(f"the audience has no merge field for {name}", field=name, reason="unknown_field")
            whole[field.tag] = (name, merge_value(field.type, value))
        merge_fields = {tag: cut_value(value) for tag, (_, value) in whole.items()}
        cut = tuple(name for tag, (name, value) in whole.items() if merge_fields[tag] != value)
        return _Member(change.key, change, merge_fields, cut)

    def _apply_one(self, member: _Member) -> Outcome:
        change = member.change
        try:
            answer = self._move(member) if change.previous_email else None
            moved = answer is not None
            if answer is None:
                method, body = self._write(member)
                query = {"skip_merge_validation": "true"}
                answer = self._http.call(method, self._path(change.email), body=body, query=query, expect=(404,))
                if answer.status == 404 and change.create:
                    raise Misconfigured(
                        f"Mailchimp has no audience {self._list.rpartition('/')[2]}", reason="no_audience"
                    )
                if answer.status == 404:
                    return not_there(change.key)
            arrives = bool(change.previous_email) and not moved
            tags = _tag_states(change.tags if arrives else change.tags_added, change.tags_removed)
            if tags:
                body = {"tags": tags, "is_syncing": False}
                self._http.call("POST", f"{self._path(change.email)}/tags", body=body)
        except Rejected as error:
            return _settled(change.key, error)
        return _applied(member, answer.data)

    def _move(self, member: _Member) -> Answer | None:
        """The member under its new address; None when there is none under the old one, or the new one is taken."""
        body = {"email_address": member.change.email, "merge_fields": member.merge_fields}
        path, query = self._path(member.change.previous_email or ""), {"skip_merge_validation": "true"}
        answer = self._http.call("PATCH", path, body=body, query=query, expect=(400, 404))
        if answer.status == 400 and answer.data.get("title") != "Member Exists":
            raise _judge(answer, 0.0)
        return answer if answer.status < 300 else None

    def _write(self, member: _Member) -> tuple[str, dict[str, Any]]:
        change = member.change
        if not change.create:
            return "PATCH", {"merge_fields": member.merge_fields}
        consented = "pending" if change.subscribed and self._asks_twice() else "subscribed"
        status = consented if change.subscribed else "transactional"
        return "PUT", {"email_address": change.email, "status_if_new": status, "merge_fields": member.merge_fields}

    def _asks_twice(self) -> bool:
        if self._double_opt_in is None:
            answer = self._http.call("GET", self._list, query={"fields": "id,double_optin"})
            self._double_opt_in = bool(answer.data.get("double_optin"))
        return self._double_opt_in

    def _event(self, cue: Cue) -> Outcome:
        body = {
            "name": slug(cue.name)[:30],
            "properties": {slug(name): text(value) for name, value in cue.properties.items()},
            "occurred_at": instant(cue.at),
            "is_syncing": cue.backfill,
        }
        # An event has no key that would make its repeat harmless: without an answer it is not sent again.
        path = f"{self._path(cue.email)}/events"
        answer = self._http.call("POST", path, body=body, expect=(404, 502, 504, 524), repeatable=False)
        if answer.status == 404:
            return not_there(cue.key)
        if answer.status >= 500:
            message = f"{answer.status}: the gateway gave up waiting for an answer"
            return Outcome(cue.key, "rejected", "unknown_result", message)
        return Outcome(cue.key, "applied", remote_id=cue.remote_id)

    def _members_at(self, paths: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The members under these paths that exist, archived ones not: singly, or many in an asynchronous batch."""
        query = {"fields": _SHOWN}
        found: dict[str, Mapping[str, Any]] = {}
        singly = list(paths) if len(paths) <= _SINGLES else []
        for piece in chunked(paths, _BATCH) if not singly else ():
            reads = [{"method": "GET", "path": path.removeprefix("/3.0"), "params": query} for path in piece]
            try:
                batch = self._finished(self._start(reads))
            except Transient as error:
                if error.reason != "job_pending":
                    raise
                singly += piece
                continue
            results = self._results(word(batch, "response_body_url"))
            found |= {path: _read_result(results.get(str(index))) for index, path in enumerate(piece)}
        answers = self._pool.map(lambda path: self._http.call("GET", path, query=query, expect=(404,)), singly)
        found |= {path: answer.data for path, answer in zip(singly, answers, strict=True)}
        return {p: m for p, m in found.items() if word(m, "email_address") and word(m, "status") != "archived"}

    def _held(self, want: Wanted, member: Mapping[str, Any] | None) -> Held:
        if member is None:
            return Held(want.key, "missing")
        tags = records(member, "tags")
        if count(member, "tags_count") > len(tags):  # a member is shown with 50 tags at most
            query = {"count": 1000, "fields": "tags.name"}
            path = f"{self._path(word(member, 'email_address'))}/tags"
            tags = records(self._http.call("GET", path, query=query).data, "tags")
        fields: dict[str, FieldValue] = {}
        for name, value in want.fields.items():
            field = self._by_name.get(name)
            written = cut_value(merge_value(field.type, value)) if field else None
            fields[name] = as_wanted(dig(member, "merge_fields", field.tag), written, value) if field else None
        ids = (word(member, "contact_id"), word(member, "id"))
        return Held(
            want.key,
            "found" if want.remote_id is None or want.remote_id in ids else "merged",
            ids[0] or ids[1],
            word(member, "email_address").lower(),
            tuple(sorted(word(tag, "name") for tag in tags)),
            fields,
            _CONSENT.get(word(member, "status")),
        )

    # --- many members

    def _apply_batch(self, members: Sequence[_Member]) -> list[Outcome]:
        """Members by one asynchronous batch, then their tags by one call per tag: a batch runs in no order, so a tag
        of a member who does not exist yet would be lost in it."""
        operations = []
        for member in members:
            method, body = self._write(member)
            path = self._path(member.change.email).removeprefix("/3.0")
            operation = {"method": method, "path": path, "params": {"skip_merge_validation": "true"}}
            operations.append({**operation, "body": orjson.dumps(body).decode()})
        try:
            batch_id = self._start(operations)
        except Rejected:
            return each(self._pool, members, self._apply_one)
        return self._concluded(_Batch(batch_id, members, self._clock.time() + _LONGEST_BATCH), members)

    def _earlier(self, members: Sequence[_Member]) -> dict[str, Outcome]:
        """The outcomes, by key, of those members who are as they were in the batch that an earlier call gave up on.
        Nothing is sent before it ends: ending later, it would undo that."""
        batch = self._unfinished
        if batch is None or self._clock.time() >= batch.until:
            return {}
        sent = {member.key: member for member in batch.members}
        same = [member for member in members if sent.get(member.key) == member]
        try:
            return {outcome.key: outcome for outcome in self._concluded(batch, same)}
        except Rejected:  # Mailchimp has forgotten it
            self._unfinished = None
            return {}

    def _concluded(self, under_way: _Batch, wanted: Sequence[_Member]) -> list[Outcome]:
        """The outcomes of the wanted members of a batch, tagged; raises Transient when it does not end in time."""
        self._unfinished, members = under_way, under_way.members
        batch = self._finished(under_way.id)
        self._unfinished = None
        if not batch.get("errored_operations"):
            outcomes = {member.key: _applied(member, {}) for member in wanted}
        else:
            results = self._results(word(batch, "response_body_url"))
            places = {member.key: str(index) for index, member in enumerate(members)}
            outcomes = {member.key: _from_result(member, results.get(places[member.key])) for member in wanted}
        there = [member for member in wanted if outcomes[member.key].status == "applied"]
        failures = self._tag(there)
        return [failures.get(outcome.key, outcome) for outcome in outcomes.values()]

    def _tag(self, members: Sequence[_Member]) -> dict[str, Outcome]:
        """Brings the tags of members who exist to their difference; outcomes by key of those where that failed."""
        added: dict[str, list[str]] = {}
        removed: dict[str, list[str]] = {}
        for member in members:
            for tag in member.change.tags_added:
                added.setdefault(tag, []).append(member.change.email)
            for tag in member.change.tags_removed:
                removed.setdefault(tag, []).append(member.change.email)
        by_email = {member.change.email.lower(): member.key for member in members}
        failures: dict[str, Outcome] = {}
        try:
            for tag in sorted({*added, *removed}):
                segment = self._tag_id(tag) if tag in added else self._known_tags().get(tag.lower())
                if segment is None:
                    continue  # nobody has a tag that does not exist
                for add, remove in _pieces(added.get(tag, []), removed.get(tag, [])):
                    for email, message in self._change_segment(segment, add, remove).items():
                        if email in by_email:
                            key = by_email[email]
                            failures[key] = Outcome(key, "rejected", "tag_refused", f"{tag}: {message}", field=tag)
        except DeliveryError as error:
            if error.reason == "not_found":
                self._segments = None
                error = Transient("a tag was deleted at Mailchimp meanwhile", reason="tag_gone")
            tagged = [m.key for m in members if m.change.tags_added or m.change.tags_removed]
            return failures | {key: outcome_of(key, error) for key in tagged if key not in failures}
        return failures

    def _change_segment(self, segment: str, add: Sequence[str], remove: Sequence[str]) -> dict[str, str]:
        """Why not, by lower-case address, for those that Mailchimp would not add or remove."""
        body = {"members_to_add": list(add), "members_to_remove": list(remove)}
        answer = self._http.call("POST", f"{self._list}/segments/{quote(segment, safe='')}", body=body)
        errors = records(answer.data, "errors")
        return {
            str(email).lower(): word(error, "error")[:500]
            for error in errors
            for email in entries(error, "email_addresses")
        }

    def _start(self, operations: Sequence[Mapping[str, Any]]) -> str:
        """The id of a batch of these operations, each known by its position."""
        numbered = [{**operation, "operation_id": str(index)} for index, operation in enumerate(operations)]
        return str(self._http.call("POST", "/3.0/batches", body={"operations": numbered}).at("id"))

    def _finished(self, batch_id: str) -> Mapping[str, Any]:
        for wait in _POLLS:
            self._clock.sleep(wait)
            batch: Mapping[str, Any] = self._http.call("GET", f"/3.0/batches/{quote(batch_id, safe='')}").data
            if batch.get("status") == "finished":
                return batch
        raise Transient("Mailchimp has not finished the batch", reason="job_pending", retry_after=30.0)

    def _results(self, url: str) -> dict[str, Mapping[str, Any]]:
        """The results of a batch by operation id, from where Mailchimp says they lie."""
        ours = url.startswith(f"{self._http.address}/") or _RESULT_PLACE.match(url)
        if not ours and not self._insecure:
            message = f"the batch's results lie at {url[:60]}, which is not Mailchimp's"
            raise Transient(message, reason="unreadable_answer", retry_after=300.0)
        try:
            files = json_files(self._http.fetch(url))
        except ValueError as error:
            message = f"the batch's results cannot be read: {error}"
            raise Transient(message, reason="unreadable_answer", retry_after=30.0) from None
        return {word(result, "operation_id"): result for file in files for result in records([file], 0)}

    # --- what the audience has

    def _merge_fields(self, *, fresh: bool = False) -> list[MergeField]:
        if self._fields is None or fresh:
            query = {"count": 1000, "fields": "merge_fields.tag,merge_fields.name,merge_fields.type"}
            found = records(self._http.call("GET", f"{self._list}/merge-fields", query=query).data, "merge_fields")
            self._fields = [MergeField(word(f, "tag"), word(f, "name"), word(f, "type")) for f in found]
        return self._fields

    def _look_up(self, names: set[str]) -> None:
        """Finds the merge fields of our fields; asks the vendor again when one is missing, once."""
        for fresh in (False, True):
            fields = self._merge_fields(fresh=fresh)
            found = {name: find_field(name, fields) for name in names}
            self._by_name = {name: field for name, field in found.items() if field is not None}
            if len(self._by_name) == len(names):
                return

    def _known_tags(self) -> dict[str, str]:
        """Ids of the static segments by name in lower case: Mailchimp knows no two that differ in case only."""
        if self._segments is None:
            found: list[dict[str, Any]] = []
            total = 1
            while len(found) < total:
                query: dict[str, object] = {"count": 1000, "offset": len(found), "type": "static"}
                query["fields"] = "segments.id,segments.name,total_items"
                page = self._http.call("GET", f"{self._list}/segments", query=query).data
                found += records(page, "segments")
                total = count(page, "total_items") if records(page, "segments") else 0
            self._segments = {word(segment, "name").lower(): word(segment, "id") for segment in found}
        return self._segments

    @setting_up()
    def _tag_id(self, name: str) -> str:
        """The id of a tag, made when it is missing."""
        known = self._known_tags()
        if name.lower() not in known:
            body = {"name": name, "static_segment": []}
            try:
                answer = self._http.call("POST", f"{self._list}/segments", body=body, repeatable=False)
            except DeliveryError:
                self._segments = None  # it may exist after all: the next try looks first
                raise
            known[name.lower()] = str(answer.at("id"))
        return known[name.lower()]


def _pieces(add: Sequence[str], remove: Sequence[str]) -> Iterable[tuple[Sequence[str], Sequence[str]]]:
    """Additions and removals in pairs of pieces, as many as one call takes of each."""
    return zip_longest(chunked(add, _SEGMENT), chunked(remove, _SEGMENT), fillvalue=())


def subscriber_hash(email: str) -> str:
    """The member's address in a path: MD5 of the e-mail in lower case."""
    return md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def _from_result(member: _Member, result: Mapping[str, Any] | None) -> Outcome:
    if result is None:
        return Outcome(member.key, "retry", "no_result", "the batch's result does not tell of this member")
    status, raw = count(result, "status_code"), word(result, "response").encode()
    _, data = parse(raw)
    if 200 <= status < 300:
        return _applied(member, data)
    if status == 404 and not member.change.create:
        return not_there(member.key)
    return _settled(member.key, _judge(Answer(status, {}, raw, data), 0.0))


def _read_result(result: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The member that a read in a batch gave, {} when there is none; raises what else the vendor said."""
    status, raw = count(result, "status_code"), word(result, "response").encode()
    _, data = parse(raw)
    if 200 <= status < 300 or status == 404:
        return data
    raise _judge(Answer(status, {}, raw, data), 0.0)


def _applied(member: _Member, data: Mapping[str, Any]) -> Outcome:
    message = f"cut to {TEXT_BYTES} bytes: {', '.join(member.cut)}" if member.cut else ""
    remote_id = word(data, "contact_id") or word(data, "id") or member.change.remote_id
    return Outcome(member.key, "applied", message=message, remote_id=remote_id)


def _settled(key: str, error: DeliveryError) -> Outcome:
    if error.reason in _DECISIONS.values():
        return Outcome(key, "skipped", error.reason, error.message)
    return outcome_of(key, error)


def _tag_states(active: Sequence[str], inactive: Sequence[str]) -> list[dict[str, str]]:
    states = [(tag, "active") for tag in active] + [(tag, "inactive") for tag in inactive]
    return [{"name": tag, "status": status} for tag, status in states]


def _judge(answer: Answer, now: float) -> DeliveryError:
    if not answer.content.strip():
        return judge(answer, now, "refused without a word: too many at once", faults=_REFUSED_WITHOUT_WORDS)
    data, causes = answer.data, records(answer.data, "errors")
    words = [
        word(data, "detail") or word(data, "title"),
        *(word(cause, "message") for cause in causes[:3]),
    ]
    culprit = word(causes, 0, "field") or None
    reason = _DECISIONS.get(word(data, "title"))
    return judge(answer, now, " ".join(filter(None, words)), reason=reason, culprit=culprit)
