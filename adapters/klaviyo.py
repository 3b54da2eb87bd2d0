"""Klaviyo: profiles with a `storecue_tags` property, events that start flows, lists. JSON:API, one host for everyone.

Built from Klaviyo's published OpenAPI documents, revision 2026-07-15. No field has to be defined beforehand.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

import orjson

from adapters.destination import (
    Account,
    Change,
    Clock,
    Consent,
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
from adapters.http import Answer, Http, Vendor, credential, judge
from adapters.outcomes import Send, bisect, chunked, each, in_turn, look_up, not_there, outcome_of, refuse
from adapters.rate_limit import Window
from adapters.shape import count, dig, entries, records, word
from adapters.values import as_wanted, instant

_MEDIA_TYPE = "application/vnd.api+json"
_SINGLES = 20
"""Up to here one call per profile is both faster and tells the profile's id; beyond, an import job takes over."""

_PROFILE_BYTES = 100_000
_JOB_PROFILES, _JOB_EVENTS, _JOB_BYTES = 10_000, 1_000, 4_800_000
_LOOKUP = 100
_LIST_PROFILES = 1_000
_POLLS = (0.5, 1.5, 4, 10, 18, 26)
"""Seconds before each look at a job: few, because they count as calls. A minute in all; then its profiles are to be
imported again, which is harmless: an import sets what is desired."""

_LONGEST_JOB = 900.0

# Burst and steady windows, fixed at the vendor and per endpoint. The documents say 750 a minute for the third tier,
# the documentation's table 700 (2026-07): the smaller one.
_XS, _S = (Window(1, 1), Window(15, 60)), (Window(3, 1), Window(60, 60))
_M, _L, _XL = (Window(10, 1), Window(150, 60)), (Window(75, 1), Window(700, 60)), (Window(350, 1), Window(3500, 60))
_WINDOWS = {
    "accounts": _XS,
    "profile-import": _L,
    "profiles": _L,
    "import-job": _M,
    "import-job-status": _M,
    "import-job-errors": _M,
    "events": _XL,
    "event-job": _M,
    "lists": _L,
    "list-create": (*_M, Window(150, 86_400)),
    "list-profiles": _M,
    "deletion": _S,
}


class _Encoded(NamedTuple):
    """A change and its profile, written once however often its batch is cut."""

    key: str
    change: Change
    profile: bytes


class _Job(NamedTuple):
    """An import job under way, and until when (epoch seconds) it is waited for."""

    id: str
    items: Sequence[_Encoded]
    until: float


class Klaviyo:
    """An account of Klaviyo (see adapters.destination.Destination). Options: `revision`."""

    vendor = "klaviyo"
    takes = Takes(("api_key",), options={"revision": Option(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?", "2026-07-15")})
    limits = Limits(batch=1_000, concurrency=8)

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
        vendor = Vendor("Klaviyo", "https://a.klaviyo.com", headers, (key,), _judge, self.limits.concurrency, _WINDOWS)
        self._http = Http(vendor, settings, clock)
        self._clock = clock
        self._unfinished: _Job | None = None
        self._pool = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="klaviyo")

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
            [Fit(tag, "created", "value in storecue_tags") for tag in tags],
        )

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        earlier = self._earlier()
        # An e-mail address moves with the profile's id; who may not be created must be known to exist.
        sought = [
            c.previous_email or c.email for c in changes if not c.remote_id and (c.previous_email or not c.create)
        ]
        ids = self._profile_ids(sought)
        skipped: list[Outcome] = []
        wanted: list[Change] = []
        for change in changes:
            known = change.remote_id or ids.get((change.previous_email or change.email).lower())
            if known or change.create:
                wanted.append(replace(change, remote_id=known))
            else:
                skipped.append(not_there(change.key))
        left: list[_Encoded] = []
        settled: list[_Encoded] = []
        for change in wanted:
            try:
                item = _encoded(change)
            except Rejected as error:
                skipped.append(outcome_of(change.key, error))
                continue
            (settled if (item.key, item.profile) in earlier else left).append(item)
        pieces: list[tuple[Sequence[_Encoded], Send[_Encoded]]]
        pieces = [(settled, lambda some: [earlier[e.key, e.profile] for e in some])] if settled else []
        if len(left) > _SINGLES:
            pieces += [(job, self._import_or_bisect) for job in _jobs(left)]
        elif left:
            pieces.append((left, lambda some: each(self._pool, [e.change for e in some], self._upsert)))
        return skipped + in_turn(pieces)

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        if len(cues) <= _SINGLES:
            return each(self._pool, cues, self._event) if cues else []
        return in_turn((piece, self._events) for piece in chunked(cues, _JOB_EVENTS))

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
        ids = self._profile_ids([m.email for m in memberships if not m.remote_id])
        known = [replace(m, remote_id=m.remote_id or ids.get(m.email.lower())) for m in memberships]
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
        shown = {"fields[profile]": "email,properties,subscriptions", "additional-fields[profile]": "subscriptions"}
        by_id = self._profiles("id", [want.remote_id for want in wanted if want.remote_id], shown)
        emails = [want.email.lower() for want in wanted if want.remote_id not in by_id]
        by_email = self._profiles("email", emails, shown)
        return [_held(want, by_id.get(want.remote_id or "") or by_email.get(want.email.lower())) for want in wanted]

    def forget(self, email: str, remote_id: str | None = None) -> None:
        if remote_id and self._delete({"type": "profile", "id": remote_id, "attributes": {}}).status != 404:
            return
        self._delete({"type": "profile", "attributes": {"email": email}})

    def close(self) -> None:
        self._pool.shutdown()
        self._http.close()

    def _delete(self, profile: dict[str, Any]) -> Answer:
        body = {"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data": profile}}}}
        path = "/api/data-privacy-deletion-jobs"
        return self._http.call("POST", path, body=body, family="deletion", expect=(404,))

    def _profile_ids(self, emails: Iterable[str]) -> dict[str, str]:
        """Profile ids by lower-case address, of those that exist."""
        found = self._profiles("email", (email.lower() for email in emails), {"fields[profile]": "email"})
        return {email: word(profile, "id") for email, profile in found.items()}

    def _profiles(self, by: str, values: Iterable[str], shown: Mapping[str, object]) -> dict[str, dict[str, Any]]:
        """The profiles that exist, by their `id` or `email`; `shown`: the query that says what to tell of them."""

        def find(some: Sequence[str]) -> dict[str, dict[str, Any]]:
            query = {"filter": f"any({by},{orjson.dumps(list(some)).decode()})", **shown, "page[size]": _LOOKUP}
            found = records(self._http.call("GET", "/api/profiles", query=query, family="profiles").data, "data")
            return {word(p, "id") if by == "id" else word(p, "attributes", "email").lower(): p for p in found}

        return look_up(sorted(set(values)), _LOOKUP, find)

    def _lists(self, attribute: str, value: str) -> list[str]:
        query = {"filter": f"equals({attribute},{orjson.dumps(value).decode()})"}
        answer = self._http.call("GET", "/api/lists", query=query, family="lists")
        return [word(found, "id") for found in records(answer.data, "data") if word(found, "id")]

    def _upsert(self, change: Change) -> Outcome:
        expect = (404, 409) if change.remote_id else (409,)
        answer = self._post_profile(_profile(change), expect)
        if answer.status == 404 and not change.create:
            return not_there(change.key)
        if answer.status in expect:
            # 404: merged away or deleted. 409: address and id belong to two profiles. The address decides.
            answer = self._post_profile(_profile(replace(change, remote_id=None), identified_by_email=True), ())
        return Outcome(change.key, "applied", remote_id=str(answer.at("data", "id")))

    def _post_profile(self, profile: dict[str, Any], expect: tuple[int, ...]) -> Answer:
        body = {"data": profile}
        return self._http.call("POST", "/api/profile-import", body=body, family="profile-import", expect=expect)

    def _import_or_bisect(self, items: Sequence[_Encoded]) -> list[Outcome]:
        return bisect(items, self._import, refuse)

    def _import(self, items: Sequence[_Encoded]) -> list[Outcome]:
        """Runs one import job to its end; raises Rejected when the job is refused and nobody says for which profile."""
        profiles = {"data": [orjson.Fragment(item.profile) for item in items]}
        body = {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": profiles}}}
        path = "/api/profile-bulk-import-jobs"
        answer = self._http.call("POST", path, body=body, family="import-job", expect=(400,))
        if answer.status == 400:
            refused = _by_item(records(answer.data, "errors"), items)
            if not refused or None in refused:
                raise _judge(answer, 0.0)
            rest = [item for item in items if item.key not in refused]
            return _rejected(refused) + (self._import(rest) if rest else [])
        return self._concluded(_Job(str(answer.at("data", "id")), items, self._clock.time() + _LONGEST_JOB))

    def _earlier(self) -> dict[tuple[str, bytes], Outcome]:
        """The outcomes, by key and profile, of the job that an earlier call gave up on. Nothing is sent before it ends:
        ending later, it would undo that."""
        job = self._unfinished
        if job is None or self._clock.time() >= job.until:
            return {}
        try:
            outcomes = {outcome.key: outcome for outcome in self._concluded(job)}
        except Rejected:  # Klaviyo has forgotten it
            self._unfinished = None
            return {}
        return {(item.key, item.profile): outcomes[item.key] for item in job.items}

    def _concluded(self, job: _Job) -> list[Outcome]:
        """The outcomes of a job, waited for; raises Transient when it does not end in time."""
        self._unfinished, items = job, job.items
        failed = self._failures(job.id)
        self._unfinished = None
        if not failed:
            return [Outcome(i.key, "applied", remote_id=i.change.remote_id) for i in items]
        refused = _by_item(self._import_errors(job.id), items)
        # With an id, the profile may only have been merged away. And when some profile failed and nobody says which,
        # each of the others has to answer for itself.
        unclear = None in refused or len(refused) < failed
        again = [i.change for i in items if (i.change.remote_id if i.key in refused else unclear)]
        settled = {change.key for change in again}
        fine = [i for i in items if i.key not in refused and i.key not in settled]
        done = [Outcome(i.key, "applied", remote_id=i.change.remote_id) for i in fine]
        done += [outcome for outcome in _rejected(refused) if outcome.key not in settled]
        return done + (each(self._pool, again, self._upsert) if again else [])

    def _failures(self, job_id: str) -> int:
        """How many profiles failed, once the job is complete."""
        path = f"/api/profile-bulk-import-jobs/{quote(job_id, safe='')}"
        for wait in _POLLS:
            self._clock.sleep(wait)
            answer = self._http.call("GET", path, family="import-job-status")
            status = answer.at("data", "attributes", "status")
            if status == "complete":
                return count(answer.data, "data", "attributes", "failed_count")
            if status == "cancelled":
                self._unfinished = None
                raise Transient("Klaviyo cancelled the import job", reason="job_cancelled", retry_after=10.0)
        raise Transient("Klaviyo has not finished the import job", reason="job_pending", retry_after=30.0)

    def _import_errors(self, job_id: str) -> list[dict[str, Any]]:
        path = f"/api/profile-bulk-import-jobs/{quote(job_id, safe='')}/import-errors"
        query: dict[str, object] = {"page[size]": 100}
        errors: list[dict[str, Any]] = []
        while True:
            page = self._http.call("GET", path, query=query, family="import-job-errors").data
            errors += [
                error["attributes"] for error in records(page, "data") if isinstance(error.get("attributes"), dict)
            ]
            # The link is absolute, on the vendor's own host: only its cursor is of use behind a base_url.
            cursor = parse_qs(word(page, "links", "next").partition("?")[2]).get("page[cursor]")
            if not cursor or cursor[0] == query.get("page[cursor]"):
                return errors
            query["page[cursor]"] = cursor[0]

    def _event(self, cue: Cue) -> Outcome:
        profile = _cue_profile(cue)
        attributes = {**_cue_event(cue), "profile": {"data": profile}}
        self._http.call(
            "POST", "/api/events", body={"data": {"type": "event", "attributes": attributes}}, family="events"
        )
        return Outcome(cue.key, "applied", remote_id=cue.remote_id)

    def _events(self, cues: Sequence[Cue]) -> list[Outcome]:
        entries = [
            {
                "type": "event-bulk-create",
                "attributes": {
                    "profile": {"data": _cue_profile(cue)},
                    "events": {"data": [{"type": "event", "attributes": _cue_event(cue)}]},
                },
            }
            for cue in cues
        ]
        attributes = {"events-bulk-create": {"data": entries}}
        body = {"data": {"type": "event-bulk-create-job", "attributes": attributes}}
        try:
            self._http.call("POST", "/api/event-bulk-create-jobs", body=body, family="event-job")
        except Rejected:
            # One repeated unique_id refuses the whole job, where the single endpoint just keeps the first (2026-07).
            return each(self._pool, cues, self._event)
        return [Outcome(cue.key, "applied", remote_id=cue.remote_id) for cue in cues]


def _encoded(change: Change) -> _Encoded:
    """Raises Rejected for a profile that Klaviyo would not take whatever is in it."""
    try:
        profile = orjson.dumps(_profile(change))
    except TypeError as error:  # lone surrogates, integers beyond 64 bits
        raise Rejected(f"not expressible in JSON: {error}", reason="unencodable") from None
    if len(profile) > _PROFILE_BYTES:
        raise Rejected("a profile may have 100 kB at most", reason="too_large")
    return _Encoded(change.key, change, profile)


def _profile(change: Change, *, identified_by_email: bool = False) -> dict[str, Any]:
    attributes: dict[str, Any] = {"email": change.email}
    if not identified_by_email:
        attributes["external_id"] = change.external_id
    names = {"first_name": change.first_name, "last_name": change.last_name}
    attributes.update({name: value for name, value in names.items() if value is not None})
    attributes["properties"] = {**change.fields, "storecue_tags": list(change.tags)}
    identity = {"id": change.remote_id} if change.remote_id else {}
    return {"type": "profile", **identity, "attributes": attributes}


def _held(want: Wanted, profile: Mapping[str, Any] | None) -> Held:
    if profile is None:
        return Held(want.key, "missing")
    attributes = dig(profile, "attributes")
    properties = dig(attributes, "properties") or {}
    return Held(
        want.key,
        "found" if want.remote_id in (None, word(profile, "id")) else "merged",
        word(profile, "id"),
        word(attributes, "email").lower(),
        tuple(sorted(map(str, entries(properties, "storecue_tags")))),
        {name: as_wanted(dig(properties, name), value, value) for name, value in want.fields.items()},
        _consent(dig(attributes, "subscriptions", "email", "marketing")),
    )


def _consent(marketing: Any) -> Consent | None:
    # UNSUBSCRIBE is listed among the suppressions of a profile, as bounces and complaints are.
    reasons = {word(suppression, "reason") for suppression in records(marketing, "suppression")}
    consent = word(marketing, "consent")
    if consent == "UNSUBSCRIBED" or "UNSUBSCRIBE" in reasons:
        return "unsubscribed"
    return "suppressed" if reasons else "subscribed" if consent == "SUBSCRIBED" else None


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


def _jobs(items: Sequence[_Encoded]) -> Iterable[list[_Encoded]]:
    job: list[_Encoded] = []
    size = 0
    for item in items:
        if job and (len(job) == _JOB_PROFILES or size + len(item.profile) > _JOB_BYTES):
            yield job
            job, size = [], 0
        job.append(item)
        size += len(item.profile) + 1
    if job:
        yield job


def _by_item(errors: Sequence[dict[str, Any]], items: Sequence[_Encoded]) -> dict[str | None, dict[str, Any]]:
    """The vendor's errors by the key of the item they mean: by pointer, else by the address in the payload it returns.
    None stands for those that name no item of ours."""
    by_email = {item.change.email.lower(): item.key for item in items}
    found: dict[str | None, dict[str, Any]] = {}
    for error in errors:
        words = word(error, "source", "pointer").split("/profiles/data/")
        index = words[-1].split("/")[0] if len(words) == 2 else ""
        payload = dig(error, "original_payload")
        email = word(payload, "email") or word(payload, "attributes", "email")
        if index.isdecimal() and int(index) < len(items):
            found[items[int(index)].key] = error
        else:
            found[by_email.get(email.lower())] = error
    return found


def _rejected(refused: dict[str | None, dict[str, Any]]) -> list[Outcome]:
    return [
        Outcome(key, "rejected", "rejected", _sentence(error), field=_field(error))
        for key, error in refused.items()
        if key is not None
    ]


def _sentence(error: dict[str, Any]) -> str:
    return (word(error, "detail") or word(error, "title") or word(error, "code"))[:500]


def _field(error: dict[str, Any]) -> str | None:
    pointer = word(error, "source", "pointer")
    return pointer.rsplit("/", 1)[-1] if "/attributes/" in pointer else None


def _judge(answer: Answer, now: float) -> DeliveryError:
    error = next(iter(records(answer.data, "errors")), {})
    return judge(answer, now, _sentence(error), culprit=_field(error))
