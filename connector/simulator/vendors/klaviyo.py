"""A fake Klaviyo account: profiles, lists, events and asynchronous import jobs, revision 2026-07-15."""

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from typing import Any, NoReturn
from uuid import UUID

from jsonschema.exceptions import ValidationError

from connector.simulator.vendors.account import FakeVendor, Refusal, Route, pointer, route
from connector.simulator.vendors.klaviyo_metrics import Metrics
from connector.simulator.vendors.schemas.klaviyo import REQUESTS
from connector.simulator.vendors.server import Request, Response
from connector.simulator.vendors.windows import FixedWindow

MEDIA_TYPE = "application/vnd.api+json"
REVISION = "2026-07-15"
KNOWN_REVISION = re.compile(r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(\.[a-z]+)?")

LARGEST_PROFILE = 100 * 1024
LARGEST_REQUEST = 5 * 1024 * 1024
MOST_PROFILES = 10_000
MOST_EVENTS = 1_000

XS, M, L, XL = (1, 15), (10, 150), (75, 750), (350, 3500)
"""Calls per second and per minute of the vendor's tiers (x-klaviyo-ratelimit of each operation)."""
DELETION = (3, 60)
LIST_CREATE = (10, 150, 150)
ADDITIONAL = (10, 150)
"""Calls that ask for additional fields: the vendor has a limit for them all and publishes it for one of them."""

_WINDOWS = (1.0, 60.0, 86_400.0)
_SCALARS = (
    "email",
    "phone_number",
    "external_id",
    "first_name",
    "last_name",
    "organization",
    "locale",
    "title",
    "image",
)
_IDENTIFIERS = ("email", "external_id", "phone_number")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_PHONE = re.compile(r"\+[1-9]\d{6,14}")
_FILTER = re.compile(r"(equals|any)\((id|email|external_id|phone_number|name|status),(.+)\)")
_TITLES = {
    400: ("invalid", "Invalid input."),
    401: ("authentication_failed", "Incorrect authentication credentials."),
    403: ("permission_denied", "You do not have permission to perform this action."),
    404: ("not_found", "Not found."),
    405: ("method_not_allowed", "Method not allowed."),
    406: ("not_acceptable", "Not acceptable."),
    409: ("duplicate_profile", "Conflict."),
    410: ("gone", "Gone."),
    413: ("payload_too_large", "Payload too large."),
    415: ("unsupported_media_type", "Unsupported media type."),
    429: ("throttled", "Request was throttled."),
    500: ("error", "A server error occurred."),
    502: ("bad_gateway", "Bad gateway."),
    503: ("service_unavailable", "Service unavailable."),
}
_JOBS = "profile-bulk-import-job"


@dataclass
class _Profile:
    id: str
    created: float
    updated: float
    attributes: dict[str, Any]
    properties: dict[str, Any] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)
    consent: str = "NEVER_SUBSCRIBED"
    suppressions: list[dict[str, str]] = field(default_factory=list)


@dataclass
class _Job:
    id: str
    created: float
    due: float
    profiles: list[dict[str, Any]]
    lists: list[str]
    errors: list[dict[str, Any]] = field(default_factory=list)
    completed: int = 0
    applied: bool = False


class _ItemError(Exception):
    """One profile is refused; `code` and `detail` as the import-errors of a job show them, `at` below the profile."""

    def __init__(self, code: str, detail: str, at: str = "", status: int = 400, other: str = "") -> None:
        super().__init__(detail)
        self.code, self.detail, self.at, self.status, self.other = code, detail, at, status, other


class FakeKlaviyo(FakeVendor):
    """One Klaviyo account. `job_seconds`: how long a bulk import takes, by the vendor's clock; the first half of it
    is spent queued. `tag_property`: the profile property whose values `contacts()` shows as tags. `append_repeats`:
    whether appending a value that an array holds already doubles it; the vendor does not say."""

    vendor = "klaviyo"

    def __init__(
        self,
        *,
        api_key: str = "pk_fake",
        job_seconds: float = 0.3,
        tag_property: str = "storecue_tags",
        append_repeats: bool = False,
        account_name: str = "Aurora Outfitters",
        **options: Any,
    ) -> None:
        self.api_key = api_key
        self.job_seconds = job_seconds
        self.tag_property = tag_property
        self.append_repeats = append_repeats
        self.account_name = account_name
        self._profiles: dict[str, _Profile] = {}
        self._by: dict[str, dict[str, str]] = {name: {} for name in _IDENTIFIERS}
        self._lists: dict[str, dict[str, Any]] = {}
        self._jobs: dict[str, _Job] = {}
        self._merges: list[tuple[float, str, str]] = []  # due, kept, gone
        self._events: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._windows: dict[str, tuple[FixedWindow, ...]] = {}
        self._additional = tuple(map(FixedWindow, ADDITIONAL, _WINDOWS))
        self._numbers = count(1)
        self._metrics = Metrics(lambda: self.clock.time(), self._page)
        super().__init__(**options)

    def routes(self) -> Sequence[Route]:
        return (
            route("GET", "/api/accounts", self._accounts, limit=XS),
            route("POST", "/api/profile-import", self._import, REQUESTS["profile_import"], L),
            route("POST", "/api/profile-bulk-import-jobs", self._start_job, REQUESTS["profile_bulk_import"], M),
            route("GET", "/api/profile-bulk-import-jobs", self._read_jobs, limit=M),
            route("GET", "/api/profile-bulk-import-jobs/{id}", self._job, limit=M),
            route("GET", "/api/profile-bulk-import-jobs/{id}/import-errors", self._job_errors, limit=M),
            route("GET", "/api/profiles", self._read_profiles, limit=L),
            route("GET", "/api/profiles/{id}", self._read_profile, limit=L),
            route("POST", "/api/lists", self._create_list, REQUESTS["list"], LIST_CREATE),
            route("GET", "/api/lists", self._read_lists, limit=L),
            route("GET", "/api/lists/{id}", self._read_list, limit=L),
            route("GET", "/api/lists/{id}/profiles", self._read_list_profiles, limit=L),
            route("POST", "/api/lists/{id}/relationships/profiles", self._add_to_list, REQUESTS["list_profiles"], M),
            route(
                "DELETE", "/api/lists/{id}/relationships/profiles", self._remove_from_list, REQUESTS["list_profiles"], M
            ),
            *self._metrics.routes(M, XL),
            route("POST", "/api/events", self._event, REQUESTS["event"], XL),
            route("POST", "/api/event-bulk-create-jobs", self._bulk_events, REQUESTS["event_bulk"], M),
            route("POST", "/api/profile-merge", self._merge, REQUESTS["merge"], M),
            route("POST", "/api/data-privacy-deletion-jobs", self._forget, REQUESTS["deletion"], DELETION),
        )

    def contacts(self) -> dict[str, dict[str, Any]]:
        """By e-mail: `id`, `external_id`, `tags`, `fields` (properties but the tags), `first_name`, `last_name`,
        `lists` (names)."""
        with self.lock:
            self._run_due_jobs()
            return {
                profile.attributes["email"]: {
                    "id": profile.id,
                    "external_id": profile.attributes.get("external_id"),
                    "first_name": profile.attributes.get("first_name"),
                    "last_name": profile.attributes.get("last_name"),
                    "tags": sorted(_as_list(profile.properties.get(self.tag_property))),
                    "fields": {k: v for k, v in profile.properties.items() if k != self.tag_property},
                    "lists": sorted(self._lists[id_]["name"] for id_ in profile.lists if id_ in self._lists),
                }
                for profile in self._profiles.values()
                if profile.attributes.get("email")
            }

    def engage(self, email: str, metric: str, **properties: Any) -> str:
        """The person does something with a mail, which Klaviyo records as this metric, such as Opened Email; the id of
        the event."""
        with self.lock:
            return self._metrics.note(metric, self._by["email"][email.lower()], email.lower(), **properties)

    def events(self) -> list[dict[str, Any]]:
        """Oldest first: `name`, `email`, `profile_id`, `properties`, `unique_id`, `time`, `value`, `backfill`."""
        with self.lock:
            return [
                {**event, "email": self._profiles[event["profile_id"]].attributes.get("email")}
                for event in self._events.values()
                if event["profile_id"] in self._profiles
            ]

    def suppress(self, email: str, reason: str = "HARD_BOUNCE") -> None:
        """The profile gets no more marketing mail: by a bounce, a complaint, the account's owner."""
        with self.lock:
            profile = self._profiles[self._by["email"][email.lower()]]
            profile.suppressions.append({"reason": reason, "timestamp": _iso(self.clock.time())})

    def unsubscribe(self, email: str) -> None:
        """The person unsubscribes by the link in a mail."""
        self.suppress(email, "UNSUBSCRIBE")
        self._profiles[self._by["email"][email.lower()]].consent = "UNSUBSCRIBED"

    def merge(self, email: str, into: str) -> None:
        """Somebody merges the first profile into the second: the first one's id is gone."""
        with self.lock:
            self._unite(self._by["email"][into.lower()], self._by["email"][email.lower()])

    def _unite(self, kept_id: str, gone_id: str) -> None:
        """Make the second profile part of the first, with its events; where both say something the first one's counts,
        of consent as well."""
        if kept_id not in self._profiles or gone_id not in self._profiles or kept_id == gone_id:
            return
        gone, kept = self._profiles.pop(gone_id), self._profiles[kept_id]
        kept.properties = gone.properties | kept.properties
        for name in _IDENTIFIERS:
            if value := gone.attributes.get(name):
                self._by[name].pop(value, None)
        for event in self._events.values():
            if event["profile_id"] == gone_id:
                event["profile_id"] = kept_id

    # --- login, limits, errors ----------------------------------------------------------------------------------------

    def admit(self, request: Request, found: Route | None) -> Mapping[str, str]:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            self._refuse(
                401,
                "Authentication credentials were not provided.",
                code="not_authenticated",
                source={"pointer": "/data/"},
            )
        if scheme != "Klaviyo-API-Key" or not hmac.compare_digest(key.encode(), self.api_key.encode()):
            self._refuse(401, "Missing or invalid private key.", source={"pointer": "/data/"})
        self._check_revision(request)
        if request.body and request.headers.get("content-type", "").partition(";")[0].strip() not in (
            MEDIA_TYPE,
            "application/json",
        ):
            self._refuse(415, f'Unsupported media type "{request.headers.get("content-type", "")}" in request.')
        return {} if found is None or not self.rate_limits else self._count(request, found)

    def _check_revision(self, request: Request) -> None:
        revision = request.headers.get("revision")
        if not revision:
            self._refuse(400, "Missing revision header.", code="missing_revision", source={"parameter": "revision"})
        elif not KNOWN_REVISION.fullmatch(revision):
            self._refuse(400, f"'{revision}' is not a revision.", source={"parameter": "revision"})
        # A retired revision falls forward without a word unless the caller opts out (2026-08).
        elif revision < "2025-01" and request.headers.get("x-klaviyo-revision-fall-forward-opt-out") == "1":
            self._refuse(410, f"Revision {revision} is retired.", source={"parameter": "revision"})

    def _count(self, request: Request, found: Route) -> Mapping[str, str]:
        now = self.clock.time()
        with self.lock:
            key = f"{found.method} {found.pattern.pattern}"
            if key not in self._windows:
                self._windows[key] = tuple(
                    FixedWindow(limit, length) for limit, length in zip(found.limit, _WINDOWS, strict=False)
                )
            windows = self._windows[key]
            if "additional-fields[profile]" in request.query:
                windows = (*windows, *self._additional)
            spent = [window for window in windows if window.left(now) <= 0]
            if spent:
                wait = max(window.ends_in(now) for window in spent)
                response = self.failure(429, f"Request was throttled. Expected available in {wait} seconds.")
                raise Refusal(Response(429, response.body, {"Retry-After": str(wait)}, MEDIA_TYPE))
            for window in windows:
                window.take()
            steady = windows[1]
            return {
                "RateLimit-Limit": str(steady.limit),
                "RateLimit-Remaining": str(steady.left(now)),
                "RateLimit-Reset": str(steady.ends_in(now)),
            }

    def _error(self, status: int, detail: str, **more: Any) -> dict[str, Any]:
        code, title = _TITLES.get(status, _TITLES[500])
        unique = str(UUID(int=self.random.getrandbits(128), version=4))
        return {"id": unique, "status": status, "code": code, "title": title, "detail": detail, "meta": {}} | more

    def _refuse(self, status: int, detail: str, **more: Any) -> NoReturn:
        raise Refusal(Response(status, {"errors": [self._error(status, detail, **more)]}, media_type=MEDIA_TYPE))

    def failure(self, status: int, message: str = "") -> Response:
        detail = message or _TITLES.get(status, _TITLES[500])[1]
        return Response(status, {"errors": [self._error(status, detail)]}, media_type=MEDIA_TYPE)

    def malformed(self, errors: Sequence[ValidationError]) -> Response:
        found = [self._error(400, error.message[:300], source={"pointer": pointer(error) or "/"}) for error in errors]
        found = found or [self._error(400, "Malformed JSON body.", source={"pointer": "/"})]
        return Response(400, {"errors": found}, media_type=MEDIA_TYPE)

    # --- profiles -----------------------------------------------------------------------------------------------------

    def _import(self, request: Request, _: Mapping[str, str]) -> Response:
        data = request.json["data"]
        try:
            profile, created = self._upsert(data, len(request.body))
        except _ItemError as error:
            more: dict[str, Any] = {"code": error.code, "source": {"pointer": f"/data{error.at}"}}
            if error.other:
                more["meta"] = {"duplicate_profile_id": error.other}
            self._refuse(error.status, error.detail, **more)
        return self._answer(HTTPStatus.CREATED if created else HTTPStatus.OK, {"data": self._shown(profile)})

    def _upsert(self, data: Mapping[str, Any], size: int) -> tuple[_Profile, bool]:
        """The profile created or changed, and whether it is new. _ItemError changes nothing."""
        if size > LARGEST_PROFILE:
            raise _ItemError("invalid", "Profile is larger than 100 KB.", status=413)
        attributes = {k: v for k, v in data["attributes"].items() if k not in ("properties", "meta")}
        if isinstance(attributes.get("email"), str):
            attributes["email"] = attributes["email"].strip().lower()
        self._check_identifiers(data.get("id"), attributes)
        profile = self._found(data.get("id"), attributes)
        if profile is not None:
            for name in _IDENTIFIERS:
                owner = self._by[name].get(attributes.get(name) or "")
                if owner not in (None, profile.id):
                    raise _ItemError(
                        "duplicate_profile",
                        "A profile already exists with one of these identifiers.",
                        f"/attributes/{name}",
                        409,
                        owner or "",
                    )
        now = self.clock.time()
        created = profile is None
        if profile is None:
            profile = _Profile(self._new_id("01", 26), now, now, {})
            self._profiles[profile.id] = profile
        self._change(profile, attributes, data)
        profile.updated = now
        self.touch(profile.attributes.get("email"))
        return profile, created

    def _check_identifiers(self, id_: str | None, attributes: Mapping[str, Any]) -> None:
        email, phone = attributes.get("email"), attributes.get("phone_number")
        if email and not _EMAIL.fullmatch(email):
            raise _ItemError("invalid", f"Invalid email address: {email}", "/attributes/email")
        if phone and not _PHONE.fullmatch(phone):
            raise _ItemError("invalid", "Invalid phone number format (Ex. +1234567890).", "/attributes/phone_number")
        if not id_ and not any(attributes.get(name) for name in (*_IDENTIFIERS, "_kx", "anonymous_id")):
            raise _ItemError("invalid", "At least one identifier is required.", "/attributes")

    def _found(self, id_: str | None, attributes: Mapping[str, Any]) -> _Profile | None:
        if id_:
            profile = self._profiles.get(id_)
            if profile is None:
                raise _ItemError("not_found", f"A profile with id {id_} does not exist.", "/id", 404)
            return profile
        for name in _IDENTIFIERS:
            if (value := attributes.get(name)) and (known := self._by[name].get(value)):
                return self._profiles[known]
        return None

    def _change(self, profile: _Profile, attributes: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        for name in _IDENTIFIERS:
            if name in attributes and (old := profile.attributes.get(name)):
                self._by[name].pop(old, None)
        for name, value in attributes.items():
            if value is None:
                profile.attributes.pop(name, None)  # null clears, absent leaves as it is
            else:
                profile.attributes[name] = value
        for name in _IDENTIFIERS:
            if value := profile.attributes.get(name):
                self._by[name][value] = profile.id
        for key, value in (data["attributes"].get("properties") or {}).items():
            if value is None:
                profile.properties.pop(key, None)
            else:
                profile.properties[key] = value
        meta = data.get("meta") or data["attributes"].get("meta") or {}
        _patch(profile.properties, meta.get("patch_properties") or {}, repeats=self.append_repeats)

    def _shown(self, profile: _Profile, *, subscriptions: bool = False) -> dict[str, Any]:
        attributes: dict[str, Any] = dict.fromkeys(_SCALARS) | profile.attributes
        attributes |= {
            "created": _iso(profile.created),
            "updated": _iso(profile.updated),
            "properties": profile.properties,
        }
        if subscriptions:
            marketing = {
                "can_receive_email_marketing": not profile.suppressions,
                "consent": profile.consent,
                "suppression": profile.suppressions,
                "list_suppressions": [],
            }
            attributes["subscriptions"] = {"email": {"marketing": marketing}}
        return {
            "type": "profile",
            "id": profile.id,
            "attributes": attributes,
            "links": {"self": f"https://a.klaviyo.com/api/profiles/{profile.id}/"},
        }

    def _read_profiles(self, request: Request, _: Mapping[str, str]) -> Response:
        self._run_due_jobs()
        held = list(self._profiles.values())
        if "filter" in request.query:
            name, values = self._filter(request, "profile")
            known = [self._profiles.get(v if name == "id" else self._by[name].get(v, "")) for v in values]
            held = [profile for profile in known if profile]
        asked = "subscriptions" in request.query.get("additional-fields[profile]", "").split(",")
        return self._page(request, [_sparse(self._shown(p, subscriptions=asked), request) for p in held])

    def _read_profile(self, request: Request, parts: Mapping[str, str]) -> Response:
        profile = self._profiles.get(parts["id"])
        if profile is None:
            return self.failure(404, f"A profile with id {parts['id']} does not exist.")
        return self._answer(200, {"data": _sparse(self._shown(profile), request)})

    def _merge(self, request: Request, _: Mapping[str, str]) -> Response:
        data = request.json["data"]
        [source] = data["relationships"]["profiles"]["data"]
        for id_ in (data["id"], source["id"]):
            if id_ not in self._profiles:
                self._refuse(404, f"A profile with id {id_} does not exist.")
        if data["id"] == source["id"]:
            self._refuse(400, "A profile cannot be merged with itself.")
        self._merges.append((self.clock.time() + self.job_seconds, data["id"], source["id"]))
        return self._answer(201, {"data": {"type": "profile", "id": data["id"]}})

    def _forget(self, request: Request, _: Mapping[str, str]) -> Response:
        data = request.json["data"]["attributes"]["profile"]["data"]
        named = {k: v for k, v in {"id": data.get("id"), **data["attributes"]}.items() if v}
        if len(named) != 1:
            self._refuse(
                400,
                "Exactly one of id, email or phone_number is required.",
                source={"pointer": "/data/attributes/profile"},
            )
        name, value = next(iter(named.items()))
        value = value.strip().lower() if name == "email" else value
        profile = self._profiles.pop(value if name == "id" else self._by[name].get(value, ""), None)
        if profile is not None:
            for kind in _IDENTIFIERS:
                self._by[kind].pop(profile.attributes.get(kind, ""), None)
        return Response(202)

    # --- bulk import jobs ---------------------------------------------------------------------------------------------

    def _start_job(self, request: Request, _: Mapping[str, str]) -> Response:
        if len(request.body) > LARGEST_REQUEST:
            self._refuse(413, "The request is larger than 5 MB.")
        data = request.json["data"]
        profiles = data["attributes"]["profiles"]["data"]
        if len(profiles) > MOST_PROFILES:
            self._refuse(
                400,
                f"At most {MOST_PROFILES} profiles per request.",
                source={"pointer": "/data/attributes/profiles/data"},
            )
        for index, profile in enumerate(profiles):
            errors = list(REQUESTS["profile"].iter_errors(profile))
            if errors:
                self._refuse(
                    400,
                    errors[0].message[:300],
                    source={"pointer": f"/data/attributes/profiles/data/{index}{pointer(errors[0])}"},
                )
        lists = [item["id"] for item in data.get("relationships", {}).get("lists", {}).get("data", [])]
        if unknown := [id_ for id_ in lists if id_ not in self._lists]:
            self._refuse(404, f"A list with id {unknown[0]} does not exist.")
        now = self.clock.time()
        self._run_due_jobs()
        job = _Job(self._new_id("job", 26), now, now + self.job_seconds, profiles, lists)
        self._jobs[job.id] = job
        return self._answer(202, {"data": self._shown_job(job)})

    def _run_due_jobs(self) -> None:
        now = self.clock.time()
        for due, kept, gone in [merge for merge in self._merges if merge[0] <= now]:
            self._merges.remove((due, kept, gone))
            self._unite(kept, gone)
        for job in self._jobs.values():
            if job.applied or job.due > now:
                continue
            job.applied = True
            for index, data in enumerate(job.profiles):
                try:
                    profile, _ = self._upsert(data, len(json.dumps(data)))
                    profile.lists.update(job.lists)
                    job.completed += 1
                except _ItemError as error:
                    where = f"/data/attributes/profiles/data/{index}{error.at}"
                    job.errors.append(
                        {
                            "type": "import-error",
                            "id": self._new_id("err", 26),
                            "attributes": {
                                "code": error.code,
                                "title": "Invalid input.",
                                "detail": error.detail,
                                "source": {"pointer": where},
                                "original_payload": data,
                            },
                            "links": {"self": "https://a.klaviyo.com/api/import-errors/"},
                        }
                    )

    def _shown_job(self, job: _Job) -> dict[str, Any]:
        now = self.clock.time()
        halfway = job.created + self.job_seconds / 2
        status = "complete" if job.applied else "processing" if now >= halfway else "queued"
        attributes = {
            "status": status,
            "created_at": _iso(job.created),
            "total_count": len(job.profiles),
            "completed_count": job.completed,
            "failed_count": len(job.errors),
            "started_at": None if status == "queued" else _iso(halfway),
            "completed_at": _iso(job.due) if job.applied else None,
            "expires_at": _iso(job.created + 7 * 86_400),
        }
        return {
            "type": _JOBS,
            "id": job.id,
            "attributes": attributes,
            "links": {"self": f"https://a.klaviyo.com/api/profile-bulk-import-jobs/{job.id}/"},
        }

    def _read_jobs(self, request: Request, _: Mapping[str, str]) -> Response:
        self._run_due_jobs()
        shown = [self._shown_job(job) for job in self._jobs.values()]
        if "filter" in request.query:
            values = self._filter(request, _JOBS)[1]
            shown = [job for job in shown if job["attributes"]["status"] in values]
        return self._page(request, shown)

    def _job(self, _: Request, parts: Mapping[str, str]) -> Response:
        self._run_due_jobs()
        return self._answer(200, {"data": self._shown_job(self._known_job(parts["id"]))})

    def _job_errors(self, request: Request, parts: Mapping[str, str]) -> Response:
        self._run_due_jobs()
        return self._page(request, self._known_job(parts["id"]).errors)

    def _known_job(self, id_: str) -> _Job:
        if id_ not in self._jobs:
            self._refuse(404, f"A job with id {id_} does not exist.")
        return self._jobs[id_]

    # --- lists --------------------------------------------------------------------------------------------------------

    def _create_list(self, request: Request, _: Mapping[str, str]) -> Response:
        attributes = request.json["data"]["attributes"]
        now, id_ = _iso(self.clock.time()), self._new_id("L", 6)
        process = attributes.get("opt_in_process") or "double_opt_in"
        self._lists[id_] = {"name": attributes["name"], "created": now, "updated": now, "opt_in_process": process}
        return self._answer(201, {"data": self._shown_list(id_)})

    def _shown_list(self, id_: str) -> dict[str, Any]:
        return {
            "type": "list",
            "id": id_,
            "attributes": self._lists[id_],
            "links": {"self": f"https://a.klaviyo.com/api/lists/{id_}/"},
        }

    def _read_lists(self, request: Request, _: Mapping[str, str]) -> Response:
        ids = list(self._lists)
        if "filter" in request.query:
            name, values = self._filter(request, "list")
            ids = [id_ for id_ in ids if (id_ if name == "id" else self._lists[id_].get(name)) in values]
        return self._page(request, [self._shown_list(id_) for id_ in ids], size=10, most=10)

    def _read_list(self, _: Request, parts: Mapping[str, str]) -> Response:
        return self._answer(200, {"data": self._shown_list(self._known_list(parts))})

    def _read_list_profiles(self, request: Request, parts: Mapping[str, str]) -> Response:
        id_ = self._known_list(parts)
        return self._page(request, [self._shown(p) for p in self._profiles.values() if id_ in p.lists])

    def _add_to_list(self, request: Request, parts: Mapping[str, str]) -> Response:
        id_ = self._known_list(parts)
        for profile in self._named_profiles(request):
            profile.lists.add(id_)
        return Response(204)

    def _remove_from_list(self, request: Request, parts: Mapping[str, str]) -> Response:
        id_ = self._known_list(parts)
        for profile in self._named_profiles(request):
            profile.lists.discard(id_)
        return Response(204)

    def _named_profiles(self, request: Request) -> list[_Profile]:
        ids = [item["id"] for item in request.json["data"]]
        if unknown := [id_ for id_ in ids if id_ not in self._profiles]:
            self._refuse(404, f"A profile with id {unknown[0]} does not exist.", source={"pointer": "/data"})
        return [self._profiles[id_] for id_ in ids]

    def _known_list(self, parts: Mapping[str, str]) -> str:
        if parts["id"] not in self._lists:
            self._refuse(404, f"A list with id {parts['id']} does not exist.")
        return parts["id"]

    # --- events -------------------------------------------------------------------------------------------------------

    def _event(self, request: Request, _: Mapping[str, str]) -> Response:
        attributes = request.json["data"]["attributes"]
        self._check_time(attributes, "/data/attributes/time")
        profile = self._event_profile(attributes["profile"]["data"], "/data/attributes/profile/data")
        key = self._event_key(profile, attributes)
        if key not in self._events:  # the single endpoint keeps the first of a unique_id
            self._events[key] = self._recorded_event(profile, attributes, bool(attributes.get("backfill")))
        return Response(202)

    def _bulk_events(self, request: Request, _: Mapping[str, str]) -> Response:
        if len(request.body) > LARGEST_REQUEST:
            self._refuse(413, "The request is larger than 5 MB.")
        groups = request.json["data"]["attributes"]["events-bulk-create"]["data"]
        if sum(len(group["attributes"]["events"]["data"]) for group in groups) > MOST_EVENTS:
            self._refuse(400, f"At most {MOST_EVENTS} events per request.")
        self._check_groups(groups)
        for index, group in enumerate(groups):
            where = f"/data/attributes/events-bulk-create/data/{index}/attributes"
            for event in group["attributes"]["events"]["data"]:
                self._check_time(event["attributes"], f"{where}/events")
        for index, group in enumerate(groups):
            where = f"/data/attributes/events-bulk-create/data/{index}/attributes"
            profile = self._event_profile(group["attributes"]["profile"]["data"], f"{where}/profile/data")
            for event in group["attributes"]["events"]["data"]:
                key = self._event_key(profile, event["attributes"])
                backfill = bool(event["attributes"].get("backfill") or group["attributes"].get("backfill"))
                self._events.setdefault(key, self._recorded_event(profile, event["attributes"], backfill))
        return Response(202)

    def _check_groups(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Refuses the whole request for one bad profile, and for a unique_id that is repeated for a profile and metric:
        the single endpoint would keep the first of them."""
        seen = set(self._events)
        for index, group in enumerate(groups):
            data = group["attributes"]["profile"]["data"]
            named = {k: v.strip().lower() if k == "email" and v else v for k, v in data["attributes"].items()}
            try:
                self._check_identifiers(data.get("id"), named)
            except _ItemError as error:
                where = f"/data/attributes/events-bulk-create/data/{index}/attributes/profile/data{error.at}"
                self._refuse(error.status, error.detail, code=error.code, source={"pointer": where})
            known = self._profiles.get(data.get("id") or "") or self._found(None, named)
            who = known.id if known else next((named[name] for name in _IDENTIFIERS if named.get(name)), "")
            for event in group["attributes"]["events"]["data"]:
                if unique := event["attributes"].get("unique_id"):
                    key = who, event["attributes"]["metric"]["data"]["attributes"]["name"], unique
                    if key in seen:
                        where = f"/data/attributes/events-bulk-create/data/{index}/attributes/events"
                        detail = f"unique_id {unique} is repeated."
                        self._refuse(400, detail, code="duplicate_event", source={"pointer": where})
                    seen.add(key)

    def _event_profile(self, data: Mapping[str, Any], where: str) -> _Profile:
        try:
            return self._upsert(data, len(json.dumps(data)))[0]
        except _ItemError as error:
            self._refuse(error.status, error.detail, code=error.code, source={"pointer": where + error.at})

    def _check_time(self, attributes: Mapping[str, Any], where: str) -> None:
        if (text := attributes.get("time")) is None:
            return
        now = datetime.fromtimestamp(self.clock.time(), UTC)
        try:
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
            possible = at.year >= 1990 and (at - now).days <= 365
        except ValueError:
            possible = False
        if not possible:
            self._refuse(400, "time must be after 1990 and at most a year ahead.", source={"pointer": where})

    def _event_key(self, profile: _Profile, attributes: Mapping[str, Any]) -> tuple[str, str, str]:
        metric = attributes["metric"]["data"]["attributes"]["name"]
        unique = attributes.get("unique_id") or (attributes.get("time") or _iso(self.clock.time()))[:19]
        return profile.id, metric, unique

    def _recorded_event(self, profile: _Profile, attributes: Mapping[str, Any], backfill: bool) -> dict[str, Any]:
        return {
            "name": attributes["metric"]["data"]["attributes"]["name"],
            "profile_id": profile.id,
            "properties": attributes["properties"],
            "unique_id": attributes.get("unique_id"),
            "time": attributes.get("time") or _iso(self.clock.time()),
            "value": attributes.get("value"),
            "backfill": backfill,
        }

    # --- answers ------------------------------------------------------------------------------------------------------

    def _accounts(self, request: Request, _: Mapping[str, str]) -> Response:
        attributes = {
            "test_account": False,
            "contact_information": {
                "default_sender_name": self.account_name,
                "default_sender_email": "hello@example.com",
                "website_url": "https://shop.example.com",
                "organization_name": self.account_name,
                "street_address": {},
            },
            "industry": "Ecommerce, Apparel & Accessories",
            "timezone": "Europe/Paris",
            "preferred_currency": "EUR",
            "public_api_key": "FaKe01",
            "locale": "en-US",
        }
        account = {"type": "account", "id": "FaKe01", "attributes": attributes}
        account["links"] = {"self": "https://a.klaviyo.com/api/accounts/FaKe01/"}
        return self._answer(200, {"data": [account], "links": _links(request)})

    def _answer(self, status: int, body: Any) -> Response:
        return Response(status, body, media_type=MEDIA_TYPE)

    def _page(self, request: Request, items: list[Any], size: int = 20, most: int = 100) -> Response:
        """One page of `items`; the cursor is the offset, which callers are not to know."""
        wanted, cursor = request.query.get("page[size]", str(size)), request.query.get("page[cursor]", "o0")
        if not wanted.isdigit() or not 1 <= int(wanted) <= most or not re.fullmatch(r"o\d+", cursor):
            self._refuse(400, f"page[size] must be between 1 and {most}.", source={"parameter": "page[size]"})
        start, end = int(cursor[1:]), int(cursor[1:]) + int(wanted)
        following = f"{self.url}{request.path}?page%5Bcursor%5D=o{end}&page%5Bsize%5D={wanted}"
        links = _links(request) | {"next": following if end < len(items) else None}
        return self._answer(200, {"data": items[start:end], "links": links})

    def _filter(self, request: Request, resource: str) -> tuple[str, list[str]]:
        match = _FILTER.fullmatch(request.query["filter"])
        allowed = {"profile": ("id", *_IDENTIFIERS), "list": ("id", "name"), _JOBS: ("status",)}[resource]
        values: Any = None
        if match and match[2] in allowed:
            try:
                values = json.loads(match[3])
            except ValueError:
                values = None
        expected = str if match and match[1] == "equals" else list
        if not match or not isinstance(values, expected):
            self._refuse(400, "Invalid filter provided.", source={"parameter": "filter"})
        return match[2], [values] if isinstance(values, str) else [str(value) for value in values]

    def _new_id(self, prefix: str, length: int) -> str:
        letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        number, text = next(self._numbers), ""
        while number:
            number, digit = divmod(number, 32)
            text = letters[digit] + text
        return prefix + text.rjust(length - len(prefix), "0")


def _patch(properties: dict[str, Any], patch: Mapping[str, Any], *, repeats: bool) -> None:
    """Applies append, unappend and unset to array properties, in that order."""
    for key, value in (patch.get("append") or {}).items():
        held = _as_list(properties.get(key))
        properties[key] = held + [item for item in _as_list(value) if repeats or item not in held]
    for key, value in (patch.get("unappend") or {}).items():
        gone = _as_list(value)
        properties[key] = [item for item in _as_list(properties.get(key)) if item not in gone]
    for key in _as_list(patch.get("unset")):
        properties.pop(key, None)


def _sparse(profile: dict[str, Any], request: Request) -> dict[str, Any]:
    """The profile with only the attributes that `fields[profile]` names, when it is given."""
    if "fields[profile]" not in request.query:
        return profile
    wanted = request.query["fields[profile]"].split(",")
    return profile | {"attributes": {name: profile["attributes"].get(name) for name in wanted}}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _links(request: Request) -> dict[str, Any]:
    return {"self": f"https://a.klaviyo.com{request.path}", "next": None, "prev": None}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
