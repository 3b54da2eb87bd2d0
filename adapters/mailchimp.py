"""Mailchimp: members of one audience with merge fields and tags, member events, static segments as lists.

API 3.0. The data centre is the key's suffix. Data never touches a subscription: `status` is not sent.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from urllib.parse import quote

import orjson

from adapters.destination import (
    Account,
    ActivityPage,
    Change,
    Clock,
    Consent,
    Cue,
    FieldSpec,
    FieldValue,
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
from adapters.http import Answer, Http, Vendor, count_option, credential
from adapters.mailchimp_activity import Reports
from adapters.mailchimp_batches import BATCH, BATCHES, Batches, Job, Operation, pending
from adapters.mailchimp_fields import MergeField, MergeFields
from adapters.mailchimp_members import (
    QUERY,
    LongTexts,
    Member,
    event_body,
    judged,
    member_of,
    outcome,
    settled,
    subscriber_hash,
    tag_body,
    written_value,
)
from adapters.mailchimp_tags import SEGMENT, Tags, calls_of
from adapters.outcomes import Send, bisect, chunked, each, in_turn, not_there, outcome_of, refuse, side_by_side
from adapters.shape import count, dig, records, stated, word
from adapters.values import as_wanted

_SINGLES = 40
"""Up to here one or two calls per member; beyond, an asynchronous batch and then their tags."""

_TAG_CALLS = 4
"""Tags go by their ids, 500 members in a call, while that takes no more calls than a second batch with its looks."""

_CALL_SECONDS = 120.0  # that long a call may keep its connection there, though it timed out here
_OPT_IN_SECONDS = 3600.0
_GONE = "the member was deleted at Mailchimp after it was written and before it was tagged"

_SHOWN = "id,contact_id,email_address,status,merge_fields,tags,tags_count"
_CONSENT: Mapping[str, Consent] = {
    "subscribed": "subscribed",
    "unsubscribed": "unsubscribed",
    "cleaned": "suppressed",
}


class Mailchimp:
    """One audience of a Mailchimp account (see adapters.destination.Destination)."""

    vendor = "mailchimp"
    takes = Takes(
        ("api_key",),
        list_id=True,
        options={"merge_field_slots": Option(r"[1-9]\d{0,2}", "80"), "long_texts": Option(r"refuse|cut", "cut")},
        consent_first=True,  # a new member needs a status, and the status is what the law looks at
        engagement=True,
    )
    limits = Limits(batch=BATCHES * BATCH, concurrency=8, singly=_SINGLES)
    # the vendor cuts off at 10 connections per user, ours or not

    def __init__(self, settings: Settings, clock: Clock) -> None:
        key = credential(settings, "api_key")
        center = re.search(r"-([a-z]{2,4}[0-9]{1,4})$", key)
        if center is None and settings.base_url is None:
            raise Misconfigured("api_key must end with its data centre, such as -us21")
        if not settings.list_id or not re.fullmatch(r"\w{1,64}", settings.list_id, re.ASCII):
            raise Misconfigured("list_id must be the audience id, such as a1b2c3d4e5")
        long_texts = settings.options.get("long_texts", "refuse")
        if long_texts not in ("refuse", "cut"):
            raise Misconfigured(f"option long_texts must be refuse or cut, not {long_texts!r}")
        slots = count_option(settings, "merge_field_slots", 1) if "merge_field_slots" in settings.options else None
        basic = b64encode(f"storecue:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        address = f"https://{center[1] if center else 'us1'}.api.mailchimp.com"
        lingers = max(0.0, _CALL_SECONDS - settings.read_timeout)
        vendor = Vendor(
            "Mailchimp", address, headers, (key, basic), judged, self.limits.concurrency, {}, lingers=lingers
        )
        self._http = Http(vendor, settings, clock)
        self._clock = clock
        self._list = f"/3.0/lists/{settings.list_id}"
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="mailchimp")
        self._long_texts = cast(LongTexts, long_texts)
        self._fields = MergeFields(self._http, self._list, slots, settings.jobs)
        self._tags = Tags(self._http, self._list)
        self._reports = Reports(self._http, settings.list_id, clock)
        self._batches = Batches(self._http, clock, settings.allow_insecure, settings.jobs)
        self._batch_pool = ThreadPoolExecutor(BATCHES, thread_name_prefix="mailchimp-batch")
        self.meanwhile: Callable[[], None] | None = None
        self._aside = False  # true while `meanwhile` runs: nothing is to be waited for then
        self._hushed = False  # true while some who are being applied are in no batch yet: nobody may go past them
        self._begun: list[str] = []
        self._expected = 0
        self._answers: dict[tuple[str, str], tuple[str, Answer | None]] = {}
        self._double_opt_in: tuple[float, bool] | None = None

    def check_login(self) -> Account:
        self._http.call("GET", "/3.0/ping")
        root = self._http.call("GET", "/3.0/", query={"fields": "account_id,account_name"})
        return Account(str(root.at("account_id")), word(root.data, "account_name"))

    @setting_up()
    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        made = self._fields.provision(fields)
        new = self._tags.missing(tags)
        for tag in new:
            self._tags.id_of(tag)
        return made + [f"tag {tag}" for tag in new]

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        fits, slots = self._fields.foresee(fields, "cut" if self._long_texts == "cut" else "left_out")
        return Forecast(fits, self._tags.foresee(tags), slots)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        refused, members = self._members(changes)
        earlier, busy = self._earlier(members)
        known = [member for member in members if member.key in earlier]
        waiting = [member for member in members if member.key in busy]
        left = [member for member in members if member.key not in earlier and member.key not in busy]
        singly = left if len(left) <= _SINGLES else [m for m in left if m.change.previous_email]
        batched = [] if len(left) <= _SINGLES else [m for m in left if not m.change.previous_email]
        pieces: list[tuple[Sequence[Member], Send[Member]]]
        pieces = [(known, lambda some: [earlier[m.key] for m in some])] if known else []
        if not self._aside:
            self._hushed = bool(batched and singly) or len(batched) > self._room() * BATCH
        pieces += [(wave, self._apply_batches) for wave in chunked(batched, self._room() * BATCH)]
        if singly:
            pieces.append((singly, lambda some: each(self._pool, some, self._apply_one)))
        if waiting:
            pieces.append((waiting, _wait))
        done = in_turn(pieces)
        told = {member.key for member in members if member.notes}
        if any(one.reason == "left_out" and one.key not in told for one in done):
            self._fields.forget()  # only the answer showed it: a merge field was deleted or given another tag
        return refused + done

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        return each(self._pool, cues, self._event) if cues else []

    @setting_up()
    def ensure_list(self, name: str, known_id: str | None) -> str:
        # A tag is a static segment under another name: the list of a segment and a tag named alike are one object.
        return known_id if known_id and self._tags.exists(known_id) else self._tags.id_of(name)

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]:
        def relate(members: Sequence[Membership]) -> list[Outcome]:
            added = [m.email for m in members if m.added]
            failed = self._tags.change(list_id, added, [m.email for m in members if not m.added])
            return [
                Outcome(m.key, "rejected", "rejected", failed[m.email.lower()])
                if m.email.lower() in failed
                else Outcome(m.key, "applied", remote_id=m.remote_id)
                for m in members
            ]

        pieces = chunked(memberships, SEGMENT)
        return in_turn((piece, lambda members: bisect(members, relate, refuse)) for piece in pieces)

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        with setting_up():
            holding = self._fields.holding({name for want in wanted for name in want.fields})
        at = {want.key: self._path(want.email) for want in wanted}
        there = self._members_at(list(at.values()))
        # Somebody gave it another address there: its id still leads to it.
        lost = [want for want in wanted if want.remote_id and at[want.key] not in there]
        at |= {want.key: f"{self._list}/members/{quote(want.remote_id or '', safe='')}" for want in lost}
        there |= self._members_at([at[want.key] for want in lost])
        return [self._held(want, there.get(at[want.key]), holding) for want in wanted]

    def unite(self, kept: str, gone: str) -> bool:
        """False: Mailchimp has no call that merges members (2026-08)."""
        return False

    def forget(self, email: str, remote_id: str | None = None) -> None:
        path = f"{self._path(email)}/actions/delete-permanent"
        jobs = self._batches.noted()
        if self._http.call("POST", path, expect=(404,)).status == 404 and jobs:
            for job in jobs:
                self._batches.outlast(job)  # it may hold the write that makes them a member
            self._http.call("POST", path, expect=(404,))

    def activity(self, since: int) -> Iterator[ActivityPage]:
        return self._reports.activity(since)

    def close(self) -> None:
        self._batch_pool.shutdown()
        self._pool.shutdown()
        self._http.close()

    # --- one member

    def _path(self, email: str) -> str:
        return f"{self._list}/members/{subscriber_hash(email)}"

    def _members(self, changes: Sequence[Change]) -> tuple[list[Outcome], list[Member]]:
        """The changes as members; the outcomes of those that JSON cannot express."""
        names = {name for change in changes for name in change.fields}
        with setting_up():
            asked = names or any(change.first_name or change.last_name for change in changes)
            holding = self._fields.holding(names) if asked else {}
            tags = self._fields.tags() if asked else set[str]()
            if any(change.create and change.subscribed for change in changes):
                self._asks_twice()
        refused: list[Outcome] = []
        members: list[Member] = []
        for change in changes:
            try:
                members.append(member_of(change, holding, tags, self._long_texts))
            except (TypeError, UnicodeEncodeError) as error:
                refused.append(
                    Outcome(change.key, "rejected", "unencodable", f"not expressible in JSON: {error.args[0]}")
                )
        return refused, members

    def _apply_one(self, member: Member) -> Outcome:
        change = member.change
        try:
            answer = self._move(member) if change.previous_email else None
            moved = answer is not None
            if answer is None:
                method, body = self._write(member)
                answer = self._http.call(method, self._path(change.email), body=body, query=QUERY, expect=(404,))
                if answer.status == 404 and change.create:
                    audience = self._list.rpartition("/")[2]
                    raise Misconfigured(f"Mailchimp has no audience {audience}", reason="no_audience")
            written = outcome(member, answer)
            arrives = bool(change.previous_email) and not moved
            added = change.tags if arrives else change.tags_added
            if written.status == "applied" and (added or change.tags_removed):
                self._tag_one(change.email, added, change.tags_removed)
        except Rejected as error:
            return settled(change.key, error)
        return written

    def _move(self, member: Member) -> Answer | None:
        """The member under its new address; None when there is none under the old one, or the new one is taken."""
        body = {"email_address": member.change.email, "merge_fields": member.merge_fields}
        path = self._path(member.change.previous_email or "")
        answer = self._http.call("PATCH", path, body=body, query=QUERY, expect=(400, 404))
        if answer.status == 400 and answer.data.get("title") != "Member Exists":
            raise judged(answer, 0.0)
        return answer if answer.status < 300 else None

    def _write(self, member: Member) -> tuple[str, dict[str, Any]]:
        change = member.change
        if not change.create:
            return "PATCH", {"merge_fields": member.merge_fields}
        consented = "pending" if change.subscribed and self._asks_twice() else "subscribed"
        status = consented if change.subscribed else "transactional"
        return "PUT", {"email_address": change.email, "status_if_new": status, "merge_fields": member.merge_fields}

    def _asks_twice(self) -> bool:
        """Whether the audience confirms subscriptions by mail; asked every hour, because somebody may turn it on."""
        now = self._clock.time()
        if self._double_opt_in is None or self._double_opt_in[0] + _OPT_IN_SECONDS <= now:
            answer = self._http.call("GET", self._list, query={"fields": "id,double_optin"})
            self._double_opt_in = (now, bool(answer.data.get("double_optin")))
        return self._double_opt_in[1]

    def _tag_one(self, email: str, added: Sequence[str], removed: Sequence[str]) -> None:
        path, body = f"{self._path(email)}/tags", tag_body(added, removed)
        if self._http.call("POST", path, body=body, expect=(404,)).status == 404:
            raise Transient(_GONE, reason="member_gone", retry_after=5.0)

    def _event(self, cue: Cue) -> Outcome:
        # An event has no key that would make its repeat harmless: without an answer it is not sent again.
        path, body = f"{self._path(cue.email)}/events", event_body(cue)
        answer = self._http.call("POST", path, body=body, expect=(404, 502, 504, 524), repeatable=False)
        if answer.status == 404:
            return not_there(cue.key)
        if answer.status >= 500:
            message = f"{answer.status}: the gateway gave up waiting for an answer"
            return Outcome(cue.key, "rejected", "unknown_result", message)
        return Outcome(cue.key, "applied", remote_id=cue.remote_id)

    # --- many members

    def _operation(self, method: str, path: str, body: Any = None, params: Mapping[str, str] = {}) -> Operation:
        operation = {"method": method, "path": path.removeprefix("/3.0")}
        filled = {"params": params} if params else {}
        return {**operation, **filled, **({} if body is None else {"body": orjson.dumps(body).decode()})}

    def _room(self) -> int:
        """How many batches may be begun side by side; one that finds no room says so itself."""
        return max(1, BATCHES - len(self._batches.noted()))

    def _apply_batches(self, members: Sequence[Member]) -> list[Outcome]:
        pieces = [(piece, self._apply_batch) for piece in chunked(members, BATCH)]
        self._begun, self._expected = [], len(pieces)
        return side_by_side(self._batch_pool, pieces, self._look_aside if self.meanwhile else None)

    def _look_aside(self) -> None:
        """Lets others be told while batches are under way, and nobody waits for theirs to be begun."""
        if self._hushed or len(self._begun) < self._expected:
            return
        self._aside = True
        try:
            if self.meanwhile:
                self.meanwhile()
        finally:
            self._aside = False

    def _apply_batch(self, members: Sequence[Member]) -> list[Outcome]:
        """Members by a batch, and when that has ended their tags: a batch runs in no order, so a tag of a member who
        does not exist yet would be lost in it."""
        writes = [(self._path(m.change.email), *self._write(m)) for m in members]
        try:
            operations = [self._operation(method, path, body, QUERY) for path, method, body in writes]
            job = self._batches.begin("members", _digests(members), _emails(members), operations)
            self._begun.append(job.note)
        except Rejected:
            # It is refused as a whole, as too large: nobody's data was looked at.
            if len(members) <= 2 * _SINGLES:
                return each(self._pool, members, self._apply_one)
            return in_turn((half, self._apply_batch) for half in chunked(members, (len(members) + 1) // 2))
        return self._concluded(job, members)

    def _earlier(self, members: Sequence[Member]) -> tuple[dict[str, Outcome], set[str]]:
        """The outcomes, by key, of those members who are as they were in a batch that an earlier call gave up on, and
        the keys of those who are in one that is still under way: ending later, it would undo what is sent now."""
        busy: set[str] = set()
        for job in self._batches.noted():
            about = {
                m.key for m in members if self._batches.concern(job, m.key, (m.change.email, m.change.previous_email))
            }
            if not about:
                continue
            if self._aside:
                busy |= about
                continue
            try:
                self._follow(job, once=bool(busy) or self.meanwhile is not None)
            except Rejected:
                self._batches.strike(job)  # Mailchimp has forgotten it
            except Transient as error:
                if error.reason != "job_pending":
                    raise
                busy |= about
        return self._answered([member for member in members if member.key not in busy]), busy

    def _follow(self, job: Job, *, once: bool) -> None:
        """Waits for a batch and keeps what was answered about its members, whoever of them is asked for."""
        if not job.id:
            self._batches.outlast(job)
            self._batches.strike(job)
            return
        batch = self._batches.ended(job.id, len(job.members), again=True, once=once)
        self._batches.strike(job)
        answers = self._batches.answers(batch, len(job.members))
        found = enumerate(job.members.items())
        self._answers |= {known: (job.stage, answers.get(place)) for place, known in found}

    def _answered(self, members: Sequence[Member]) -> dict[str, Outcome]:
        """The outcomes of those of these members about whom an answer was kept; each is told once, and none after
        something else was wanted."""
        kept = {m.key: self._answers.get((m.key, m.digest)) for m in members} if self._answers else {}
        self._answers = {known: answer for known, answer in self._answers.items() if known[0] not in kept}
        found = {m.key: _from_batch(m, kept_one[1], kept_one[0]) for m in members if (kept_one := kept.get(m.key))}
        written = [m for m in members if (one := kept.get(m.key)) and one[0] == "members"]
        for piece in chunked([member for member in written if found[member.key].status == "applied"], BATCH):
            found |= self._tag(piece)
        return found

    def _concluded(self, job: Job, members: Sequence[Member]) -> list[Outcome]:
        """The outcomes of the members of a batch, tagged; raises Transient when it does not end in time."""
        batch = self._batches.ended(job.id, len(job.members))
        self._batches.strike(job)
        answers = self._batches.answers(batch, len(job.members))
        outcomes = {m.key: _from_batch(m, answers.get(place), job.stage) for place, m in enumerate(members)}
        if job.stage == "members":
            outcomes |= self._tag([member for member in members if outcomes[member.key].status == "applied"])
        return list(outcomes.values())

    def _tag(self, members: Sequence[Member]) -> dict[str, Outcome]:
        """Brings the tags of members who exist to their difference; outcomes by key of those where that failed."""
        tagged = [member for member in members if member.tagged]
        try:
            if calls_of([member.change for member in tagged]) <= _TAG_CALLS:
                refused = self._tags.bring([member.change for member in tagged])
                tagged = [member for member in tagged if member.change.email.lower() in refused]
            failed = self._tag_each(tagged)
        except Misconfigured:
            raise
        except DeliveryError as error:
            if error.reason == "job_pending":
                raise
            failed = [outcome_of(member.key, error) for member in tagged]
        return {one.key: one for one in failed if one.status != "applied"}

    def _tag_each(self, members: Sequence[Member]) -> list[Outcome]:
        """The tags of each member by an operation of its own."""

        def tag(member: Member) -> Outcome:
            try:
                self._tag_one(member.change.email, member.change.tags_added, member.change.tags_removed)
            except Rejected as error:
                return settled(member.key, error)
            return Outcome(member.key, "applied")

        if not members:
            return []
        if len(members) <= _SINGLES:
            return each(self._pool, members, tag)
        bodies = [(m.change.email, tag_body(m.change.tags_added, m.change.tags_removed)) for m in members]
        operations = [self._operation("POST", f"{self._path(email)}/tags", body) for email, body in bodies]
        try:
            job = self._batches.begin("tags", _digests(members), _emails(members), operations)
        except Rejected:
            return each(self._pool, members, tag)
        return self._concluded(job, members)

    # --- what the audience holds

    def _members_at(self, paths: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The members under these paths that exist, archived ones not: singly, or many in an asynchronous batch."""
        query = {"fields": _SHOWN}
        found: dict[str, Mapping[str, Any]] = {}
        singly = list(paths) if len(paths) <= _SINGLES else []
        for piece in chunked(paths, BATCH) if not singly else ():
            try:
                batch_id = self._batches.start([self._operation("GET", path, params=query) for path in piece])
                batch = self._batches.ended(batch_id, len(piece))
            except Transient as error:
                if error.reason != "job_pending":
                    raise
                singly += piece
                continue
            answers = self._batches.answers(batch, len(piece))
            found |= {path: _read_answer(answers.get(place)) for place, path in enumerate(piece)}
        answered = self._pool.map(lambda path: self._http.call("GET", path, query=query, expect=(404,)), singly)
        found |= {path: answer.data for path, answer in zip(singly, answered, strict=True)}
        return {p: m for p, m in found.items() if word(m, "email_address") and word(m, "status") != "archived"}

    def _held(self, want: Wanted, member: Mapping[str, Any] | None, holding: Mapping[str, MergeField]) -> Held:
        if member is None:
            return Held(want.key, "missing")
        tags = records(member, "tags")
        if count(member, "tags_count") > len(tags):  # a member is shown with 50 tags at most
            query = {"count": 1000, "fields": "tags.name"}
            path = f"{self._path(word(member, 'email_address'))}/tags"
            tags = records(self._http.call("GET", path, query=query).data, "tags")
        fields: dict[str, FieldValue] = {}
        for name, value in want.fields.items():
            field = holding.get(name)
            written = written_value(field, value, self._long_texts) if field else None
            if field and written is None:
                fields[name] = value  # left out when it was pushed: nothing there could differ from it
            else:
                fields[name] = as_wanted(dig(member, "merge_fields", field.tag), written, value) if field else None
        ids = (word(member, "contact_id"), word(member, "id"))
        return Held(
            want.key,
            "found" if want.remote_id is None or want.remote_id in ids else "merged",
            ids[0] or ids[1],
            word(member, "email_address").lower(),
            tuple(sorted({word(tag, "name").lower() for tag in tags})),  # it knows no two that differ in case only
            fields,
            _CONSENT.get(word(member, "status")),
            stated(member.get("merge_fields"), "FNAME"),
            stated(member.get("merge_fields"), "LNAME"),
        )


def _wait(members: Sequence[Member]) -> list[Outcome]:
    """Whoever is in a batch under way waits for its end."""
    raise pending()


def _emails(members: Sequence[Member]) -> list[str]:
    return [member.change.email for member in members]


def _digests(members: Sequence[Member]) -> dict[str, str]:
    return {member.key: member.digest for member in members}


def _from_batch(member: Member, answer: Answer | None, stage: str) -> Outcome:
    if answer is None:
        return Outcome(member.key, "retry", "no_result", "the batch's result does not tell of this member")
    if answer.status == 404 and stage == "tags":
        return Outcome(member.key, "retry", "member_gone", _GONE)
    return outcome(member, answer)


def _read_answer(answer: Answer | None) -> Mapping[str, Any]:
    """The member that a read in a batch gave, {} when there is none; raises what else the vendor said."""
    if answer is not None and (200 <= answer.status < 300 or answer.status == 404):
        return answer.data
    raise judged(answer or Answer(0, {}, b"", {}), 0.0)
