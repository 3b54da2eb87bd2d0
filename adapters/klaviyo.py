"""Klaviyo: profiles with a property for the tags, events that start flows, lists. JSON:API, one host for everyone.

Built from Klaviyo's published OpenAPI documents, revision 2026-07-15. No field has to be defined beforehand. No call
here subscribes anybody, or lifts what keeps somebody from being mailed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import Any
from urllib.parse import quote

import orjson

from adapters.destination import (
    Account,
    ActivityPage,
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
from adapters.errors import DeliveryError, Rejected, Transient, setting_up
from adapters.http import Answer, Http, Vendor, credential
from adapters.klaviyo_activity import Metrics
from adapters.klaviyo_jobs import JOBS, Ended, Imports, judged, pending, sized
from adapters.klaviyo_profiles import TAGS, Item, digest, encoded, held
from adapters.outcomes import Send, bisect, chunked, each, in_turn, look_up, not_there, outcome_of, refuse, told
from adapters.rate_limit import Window
from adapters.shape import records, word
from adapters.values import instant

_MEDIA_TYPE = "application/vnd.api+json"
_SINGLES = 20
"""Up to here one call per profile is both faster and tells the profile's id; beyond, an import job takes over."""

_JOB = 1_000
"""Profiles in an import job. The vendor takes ten times as many; of ours, the next is made while one runs."""

_JOB_EVENTS = 1_000
_LOOKUP = 100
_LIST_PROFILES = 1_000
_SHOWN = "email,first_name,last_name,properties,subscriptions"  # of a profile that is read back

# Burst and steady windows, fixed at the vendor and per endpoint. The documents say 750 a minute for the third tier,
# the documentation's table 700 (2026-07): the smaller one. A call that asks for subscriptions has a further limit that
# is not published: the one that is, for another additional field.
_XS, _S = (Window(1, 1), Window(15, 60)), (Window(3, 1), Window(60, 60))
_M, _L, _XL = (Window(10, 1), Window(150, 60)), (Window(75, 1), Window(700, 60)), (Window(350, 1), Window(3500, 60))
_WINDOWS = {
    "accounts": _XS,
    "profile-import": _L,
    "profiles": _L,
    "subscriptions": _M,
    "import-job": _M,
    "import-jobs": _M,
    "import-job-status": _M,
    "import-job-errors": _M,
    "events": _XL,
    "events-read": _XL,
    "metrics": _M,
    "event-job": _M,
    "lists": _L,
    "list-create": (*_M, Window(150, 86_400)),
    "list-profiles": _M,
    "deletion": _S,
    "merge": _M,
}


class Klaviyo:
    """An account of Klaviyo (see adapters.destination.Destination). Options: `revision`; `tags_property`, the property
    that holds the tags: one other than storecue_tags is shared, and the values of other tools in it are left alone."""

    vendor = "klaviyo"
    takes = Takes(
        ("api_key",),
        options={
            "revision": Option(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?", "2026-07-15"),
            "tags_property": Option(r"[A-Za-z][A-Za-z0-9_ -]{0,62}", "tags"),
        },
        engagement=True,
    )
    limits = Limits(batch=JOBS * _JOB, concurrency=8, singly=_SINGLES)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        key = credential(settings, "api_key")
        headers = {
            "Authorization": f"Klaviyo-API-Key {key}",
            "revision": settings.options.get("revision", "2026-07-15"),
            # Without it a retired revision silently becomes a newer one, with other fields (2026).
            "X-Klaviyo-Revision-Fall-Forward-Opt-Out": "1",
            "Accept": _MEDIA_TYPE,
            "Content-Type": _MEDIA_TYPE,
        }
        vendor = Vendor("Klaviyo", "https://a.klaviyo.com", headers, (key,), judged, self.limits.concurrency, _WINDOWS)
        self._http = Http(vendor, settings, clock)
        self._tags = settings.options.get("tags_property", TAGS)
        self._metrics = Metrics(self._http, clock)
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="klaviyo")
        self._imports = Imports(self._http, clock, self._pool, settings.jobs)

    @property
    def meanwhile(self) -> Callable[[], None] | None:
        return self._imports.meanwhile

    @meanwhile.setter
    def meanwhile(self, act: Callable[[], None] | None) -> None:
        self._imports.meanwhile = act

    def check_login(self) -> Account:
        answer = self._http.call("GET", "/api/accounts", family="accounts")
        account, contact = str(answer.at("data", 0, "id")), ("attributes", "contact_information", "organization_name")
        return Account(account, word(answer.data, "data", 0, *contact) or account)

    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        return []

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        # A property comes into being with the first value, in that value's type.
        return Forecast(
            [Fit(spec.name, "created", f"profile property, {spec.type}") for spec in fields],
            [Fit(tag, "created", f"value in {self._tags}") for tag in tags],
        )

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        concerned = self._imports.concern(changes)
        crowded = len(changes) > _SINGLES and not self._imports.room()
        settled: dict[str, Outcome] = {}
        if concerned or crowded or self._imports.told:
            look = not self._imports.aside and (crowded or bool(concerned))  # other people's jobs are not waited for
            settled = self._imports.earlier({change.key: digest(change) for change in changes}, look=look)
            concerned = self._imports.concern(changes)
        waves = list(_waves([c for c in changes if c.key not in settled and c.key not in concerned]))
        self._imports.hushed = len(waves) > 1
        waiting = [change for change in changes if change.key in concerned]
        pieces: list[tuple[Sequence[Change], Send[Change]]]
        pieces = [([c for c in changes if c.key in settled], lambda some: [settled[c.key] for c in some])]
        pieces += [(wave, self._apply) for wave in waves]
        if waiting:
            pieces.append((waiting, _wait))
        return in_turn(piece for piece in pieces if piece[0])

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        if len(cues) <= _SINGLES:
            return each(self._pool, cues, self._event) if cues else []
        pieces = sized(cues, _weight, _JOB_EVENTS)
        return in_turn((piece, self._events) for piece in pieces)

    @setting_up()
    def ensure_list(self, name: str, known_id: str | None) -> str:
        if known_id and self._lists("id", known_id):
            return known_id
        found = self._lists("name", name)
        if found:
            return found[0]
        body = {"data": {"type": "list", "attributes": {"name": name}}}
        answer = self._http.call("POST", "/api/lists", body=body, family="list-create", repeatable=False)
        return str(answer.at("data", "id"))

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]:
        unknown = [m.email.lower() for m in memberships if not m.remote_id]
        found = self._profiles("email", unknown, {"fields[profile]": "email"})
        known = [
            replace(m, remote_id=m.remote_id or word(found.get(m.email.lower()), "id") or None) for m in memberships
        ]
        absent = [not_there(m.key) for m in known if not m.remote_id]
        path = f"/api/lists/{quote(list_id, safe='')}/relationships/profiles"

        def relate(members: Sequence[Membership]) -> list[Outcome]:
            body = {"data": [{"type": "profile", "id": m.remote_id} for m in members]}
            self._http.call("POST" if members[0].added else "DELETE", path, body=body, family="list-profiles")
            return [Outcome(m.key, "applied", remote_id=m.remote_id) for m in members]

        kinds = [[m for m in known if m.remote_id and m.added is added] for added in (True, False)]
        pieces = [piece for kind in kinds for piece in chunked(kind, _LIST_PROFILES)]
        return absent + in_turn((piece, lambda members: bisect(members, relate, refuse)) for piece in pieces)

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        shown = {"fields[profile]": _SHOWN, "additional-fields[profile]": "subscriptions"}
        by_id = self._profiles("id", [want.remote_id for want in wanted if want.remote_id], shown, "subscriptions")
        emails = [want.email.lower() for want in wanted if want.remote_id not in by_id]
        by_email = self._profiles("email", emails, shown, "subscriptions")
        there = [by_id.get(want.remote_id or "") or by_email.get(want.email.lower()) for want in wanted]
        return [held(want, profile, self._tags) for want, profile in zip(wanted, there, strict=True)]

    def unite(self, kept: str, gone: str) -> bool:
        source = {"profiles": {"data": [{"type": "profile", "id": gone}]}}
        body = {"data": {"type": "profile-merge", "id": kept, "relationships": source}}
        # Queued there: the source is still shown for a while, and gone in the end (revision 2026-07-15).
        self._http.call("POST", "/api/profile-merge", body=body, family="merge", expect=(404,))
        return True

    def forget(self, email: str, remote_id: str | None = None) -> None:
        self._imports.wait_for(email)
        if remote_id and self._delete({"type": "profile", "id": remote_id, "attributes": {}}).status != 404:
            return
        self._delete({"type": "profile", "attributes": {"email": email}})

    def activity(self, since: int) -> Iterator[ActivityPage]:
        return self._metrics.activity(since)

    def close(self) -> None:
        self._pool.shutdown()
        self._http.close()

    def _delete(self, profile: dict[str, Any]) -> Answer:
        body = {"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data": profile}}}}
        path = "/api/data-privacy-deletion-jobs"
        return self._http.call("POST", path, body=body, family="deletion", expect=(404,))

    # --- profiles

    def _apply(self, changes: Sequence[Change]) -> list[Outcome]:
        there = self._there(changes)
        outcomes: list[Outcome] = []
        items: list[Item] = []
        for change in changes:
            profile = there.get(change.key)
            known = change.remote_id or word(profile, "id") or None
            if not known and not change.create:
                outcomes.append(not_there(change.key))
                continue
            try:
                found = change if known == change.remote_id else replace(change, remote_id=known)
                items.append(encoded(found, self._tags, profile))
            except Rejected as error:
                outcomes.append(outcome_of(change.key, error))
        pieces: list[tuple[Sequence[Item], Send[Item]]] = [(items, self._singly)] if items else []
        if len(items) > _SINGLES:
            jobs = list(sized(items, lambda item: len(item.profile), _JOB))
            room = max(1, self._imports.room())
            self._imports.hushed |= len(jobs) > room
            pieces = [
                (list(chain(*jobs[n : n + room])), self._jobs(jobs[n : n + room])) for n in range(0, len(jobs), room)
            ]
        return outcomes + in_turn(pieces)

    def _there(self, changes: Iterable[Change]) -> dict[str, dict[str, Any]]:
        """The profiles as they are, by the key of the change: of those whose id or tags have to be known first. An
        address moves with the profile's id; who may not be created must be known to exist."""
        emails = {c.key: (c.previous_email or c.email).lower() for c in changes}
        if self._tags == TAGS:
            sought = [c for c in changes if not c.remote_id and (c.previous_email or not c.create)]
            found = self._profiles("email", [emails[c.key] for c in sought], {"fields[profile]": "email"})
            return {c.key: found[emails[c.key]] for c in sought if emails[c.key] in found}
        shown = {"fields[profile]": "email,properties"}
        by_id = self._profiles("id", [c.remote_id for c in changes if c.remote_id], shown)
        by_email = self._profiles("email", [emails[c.key] for c in changes if c.remote_id not in by_id], shown)
        found_of = {c.key: by_id.get(c.remote_id or "") or by_email.get(emails[c.key]) for c in changes}
        return {key: profile for key, profile in found_of.items() if profile}

    def _profiles(
        self, by: str, values: Iterable[str], shown: Mapping[str, object], family: str = "profiles"
    ) -> dict[str, dict[str, Any]]:
        """The profiles that exist, by their `id` or `email`; `shown`: the query that says what to tell of them."""

        def find(some: Sequence[str]) -> dict[str, dict[str, Any]]:
            query = {"filter": f"any({by},{orjson.dumps(list(some)).decode()})", **shown, "page[size]": _LOOKUP}
            found = records(self._http.call("GET", "/api/profiles", query=query, family=family).data, "data")
            return {word(p, "id") if by == "id" else word(p, "attributes", "email").lower(): p for p in found}

        return look_up(sorted(set(values)), _LOOKUP, find)

    def _singly(self, items: Sequence[Item]) -> list[Outcome]:
        return each(self._pool, items, self._upsert) if items else []

    def _upsert(self, item: Item) -> Outcome:
        change = item.change
        expect = (404, 409) if change.remote_id else (409,)
        answer = self._post_profile(item, expect)
        if answer.status == 404 and not change.create:
            return not_there(change.key)
        if answer.status in expect:
            # 404: merged away or deleted. 409: address and id belong to two profiles. The address decides.
            there = self._there([replace(change, remote_id=None, previous_email=None)]).get(change.key)
            answer = self._post_profile(encoded(change, self._tags, there, by_email=True), ())
        return Outcome(change.key, "applied", remote_id=str(answer.at("data", "id")))

    def _post_profile(self, item: Item, expect: tuple[int, ...]) -> Answer:
        body, path = {"data": orjson.Fragment(item.profile)}, "/api/profile-import"
        again = item.repeatable
        try:
            return self._http.call("POST", path, body=body, family="profile-import", expect=expect, repeatable=again)
        except Rejected as error:
            if error.reason != "unknown_result":
                raise
            # The next try looks at the tags before it appends to them.
            raise Transient(error.message, reason="no_answer") from None

    def _jobs(self, jobs: Sequence[Sequence[Item]]) -> Send[Item]:
        """Imports these side by side."""

        def send(_: Sequence[Item]) -> list[Outcome]:
            if len(jobs) == 1:
                return bisect(jobs[0], self._import, refuse)
            ended = self._imports.run_all(jobs)
            return told((items, self._concluded(items, end)) for items, end in zip(jobs, ended, strict=True))

        return send

    def _concluded(self, items: Sequence[Item], ended: Ended | DeliveryError) -> list[Outcome] | DeliveryError:
        """What became of the profiles of a job; of a refused one, after those who spoil it were found."""
        try:
            if isinstance(ended, Rejected):
                return bisect(items, self._import, refuse)
            return ended if isinstance(ended, DeliveryError) else self._again(items, ended)
        except DeliveryError as error:
            return error

    def _import(self, items: Sequence[Item]) -> list[Outcome]:
        """Raises Rejected when the job is refused and nobody says for which profile."""
        return self._again(items, self._imports.run(items))

    def _again(self, items: Sequence[Item], ended: Ended) -> list[Outcome]:
        return ended.outcomes + self._singly([item for item in items if item.key in ended.again])

    # --- events

    def _event(self, cue: Cue) -> Outcome:
        attributes = {**_cue_event(cue), "profile": {"data": _cue_profile(cue)}}
        body = {"data": {"type": "event", "attributes": attributes}}
        self._http.call("POST", "/api/events", body=body, family="events")
        return Outcome(cue.key, "applied", remote_id=cue.remote_id)

    def _events(self, cues: Sequence[Cue]) -> list[Outcome]:
        attributes = {"events-bulk-create": {"data": [_bulk_entry(cue) for cue in cues]}}
        body = {"data": {"type": "event-bulk-create-job", "attributes": attributes}}
        try:
            self._http.call("POST", "/api/event-bulk-create-jobs", body=body, family="event-job")
        except Rejected:
            # One repeated unique_id refuses the whole job, where the single endpoint just keeps the first (2026-07).
            return each(self._pool, cues, self._event)
        return [Outcome(cue.key, "applied", remote_id=cue.remote_id) for cue in cues]

    # --- lists

    def _lists(self, attribute: str, value: str) -> list[str]:
        query = {"filter": f"equals({attribute},{orjson.dumps(value).decode()})"}
        answer = self._http.call("GET", "/api/lists", query=query, family="lists")
        return [word(found, "id") for found in records(answer.data, "data") if word(found, "id")]


def _wait(changes: Sequence[Change]) -> list[Outcome]:
    """Whoever is in a job under way waits for its end."""
    raise pending()


def _waves(changes: Sequence[Change]) -> Iterable[Sequence[Change]]:
    """The changes in groups in which no address stands twice, those who leave an address before those who take it: what
    is written side by side, or in one job, has no order."""
    left = sorted(changes, key=lambda change: change.previous_email is None)
    while left:
        taken: set[str] = set()
        wave: list[Change] = []
        later: list[Change] = []
        for change in left:
            addresses = {email.lower() for email in (change.email, change.previous_email) if email}
            (later if addresses & taken else wave).append(change)
            taken |= addresses
        yield wave
        left = later


def _bulk_entry(cue: Cue) -> dict[str, Any]:
    events = {"data": [{"type": "event", "attributes": _cue_event(cue)}]}
    return {"type": "event-bulk-create", "attributes": {"profile": {"data": _cue_profile(cue)}, "events": events}}


def _weight(cue: Cue) -> int:
    """Bytes of a cue in an event job; 0 for what JSON cannot say, which is refused when it is sent."""
    try:
        return len(orjson.dumps(_bulk_entry(cue)))
    except TypeError:
        return 0


def _cue_profile(cue: Cue) -> dict[str, Any]:
    identity = {"id": cue.remote_id} if cue.remote_id else {}
    return {"type": "profile", **identity, "attributes": {"email": cue.email}}


def _cue_event(cue: Cue) -> dict[str, Any]:
    return {
        "properties": dict(cue.properties),
        "time": instant(cue.at),
        "unique_id": cue.key,
        "metric": {"data": {"type": "metric", "attributes": {"name": cue.name[:127]}}},
        **({"backfill": True} if cue.backfill else {}),
    }
