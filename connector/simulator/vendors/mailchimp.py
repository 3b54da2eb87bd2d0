"""A fake Mailchimp account: members, tags (which are static segments), events, merge fields and batches, API 3.0."""

import base64
import binascii
import gzip
import hashlib
import hmac
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, NoReturn
from uuid import UUID

from jsonschema.exceptions import ValidationError

from connector.simulator.vendors.account import FakeVendor, Refusal, Route, pointer, route
from connector.simulator.vendors.mailchimp_reports import Reports
from connector.simulator.vendors.schemas.mailchimp import REQUESTS
from connector.simulator.vendors.server import Request, Response

PROBLEM = "application/problem+json"
SIMULTANEOUS = 10
"""Requests in progress per user, not per key; one more gets a 429 without a body."""
SLOTS = 30
"""Merge fields per audience, the defaults included (80 on Premium)."""
TEXT_BYTES = 255
PENDING_BATCHES = 500
RESULT_SECONDS = 600
"""How long an address of results is good; asking for the batch again gives another."""
KEPT_SECONDS = 7 * 86_400
"""How long a batch is kept."""

DEFAULT_FIELDS = (("FNAME", "First Name", "text"), ("LNAME", "Last Name", "text"), ("ADDRESS", "Address", "address"),
                  ("PHONE", "Phone Number", "phone"), ("BIRTHDAY", "Birthday", "birthday"))  # fmt: skip

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_TITLES = {
    401: ("API Key Invalid", "Your API key may be invalid, or you've attempted to access the wrong datacenter."),
    404: ("Resource Not Found", "The requested resource could not be found."),
    405: ("Method Not Allowed", "The requested method and resource are not compatible."),
    500: ("Internal Server Error", "An unexpected internal error has occurred."),
    503: ("Service Unavailable", "The service is temporarily unavailable."),
}


@dataclass
class _Member:
    email: str
    contact_id: str
    status: str
    merge_fields: dict[str, Any]
    changed: float
    tags: set[str] = field(default_factory=set)
    events: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Batch:
    id: str
    created: float
    due: float
    operations: list[dict[str, Any]]
    results: list[dict[str, Any]] | None = None


class FakeMailchimp(FakeVendor):
    """One Mailchimp account with one audience.

    double_optin: the audience asks by mail. slots: merge fields of the plan. batch_seconds: how long a batch takes, by
    the vendor's clock; pending_batches: how many may wait. limit_status: what the eleventh request at once gets,
    without a word, 429 or 403. bulk_tags_for_all: False refuses those who are not subscribed where tags are changed in
    bulk.
    """

    vendor = "mailchimp"

    def __init__(
        self,
        *,
        api_key: str = "0123456789abcdef0123456789abcdef-us21",
        list_id: str = "a1b2c3d4e5",
        double_optin: bool = False,
        slots: int = SLOTS,
        batch_seconds: float = 0.3,
        pending_batches: int = PENDING_BATCHES,
        limit_status: int = 429,
        bulk_tags_for_all: bool = True,
        account_name: str = "Aurora Outfitters",
        **options: Any,
    ) -> None:
        self.api_key = api_key
        self.list_id = list_id
        self.double_optin = double_optin
        self.slots = slots
        self.batch_seconds = batch_seconds
        self.pending_batches = pending_batches
        self.limit_status = limit_status
        self.bulk_tags_for_all = bulk_tags_for_all
        self.account_name = account_name
        self._members: dict[str, _Member] = {}
        self._forgotten: set[str] = set()
        self._compliance: set[str] = set()
        self._tags: dict[str, int] = {}
        self._fields: dict[str, dict[str, Any]] = {}
        self._batches: dict[str, _Batch] = {}
        self._numbers = count(1)
        self._in_progress = 0
        self._in_batch = False
        self._reports = Reports(list_id, lambda: self.clock.time(), self._page)
        for tag, name, type_ in DEFAULT_FIELDS:
            self._add_field({"tag": tag, "name": name, "type": type_})
        super().__init__(**options)

    def routes(self) -> Sequence[Route]:
        lists = f"/3.0/lists/{re.escape(self.list_id)}"
        member = f"{lists}/members/{{who}}"
        return (
            route("GET", "/3.0/?", self._root),
            route("GET", "/3.0/ping", self._ping),
            route("GET", "/3.0/lists", self._read_lists),
            route("GET", lists, self._read_list),
            route("POST", lists, self._batch_members, REQUESTS["batch_members"]),
            route("GET", f"{lists}/members", self._read_members),
            route("POST", f"{lists}/members", self._post_member, REQUESTS["post_member"]),
            route("GET", member, self._read_member),
            route("PUT", member, self._put_member, REQUESTS["put_member"]),
            route("PATCH", member, self._patch_member, REQUESTS["patch_member"]),
            route("DELETE", member, self._archive_member),
            route("GET", f"{member}/tags", self._read_tags),
            route("POST", f"{member}/tags", self._change_tags, REQUESTS["tags"]),
            route("GET", f"{member}/events", self._read_events),
            route("POST", f"{member}/events", self._event, REQUESTS["event"]),
            route("POST", f"{member}/actions/delete-permanent", self._delete_permanently),
            route("GET", f"{lists}/merge-fields", self._read_fields),
            route("POST", f"{lists}/merge-fields", self._create_field, REQUESTS["merge_field"]),
            route("GET", f"{lists}/segments", self._read_segments),
            route("POST", f"{lists}/segments", self._create_segment, REQUESTS["segment"]),
            route("GET", f"{lists}/segments/{{id}}", self._read_segment),
            route("POST", f"{lists}/segments/{{id}}", self._tag_in_bulk, REQUESTS["segment_members"]),
            route("GET", f"{lists}/tag-search", self._search_tags),
            *self._reports.routes(),
            route("POST", "/3.0/batches", self._start_batch, REQUESTS["batch"]),
            route("GET", "/3.0/batches", self._read_batches),
            route("GET", "/3.0/batches/{id}", self._read_batch),
            route("GET", r"/3.0/batch-results/{id}\.tar\.gz", self._batch_results),
        )

    def contacts(self) -> dict[str, dict[str, Any]]:
        """By e-mail: `id` (the hash), `status`, `tags`, `fields` (merge fields), `first_name`, `last_name`."""
        with self.lock:
            self._run_due_batches()
            return {
                member.email: {
                    "id": _hash(member.email),
                    "status": member.status,
                    "first_name": member.merge_fields.get("FNAME") or None,
                    "last_name": member.merge_fields.get("LNAME") or None,
                    "tags": sorted(member.tags),
                    "fields": {k: v for k, v in member.merge_fields.items() if k not in ("FNAME", "LNAME")},
                }
                for member in self._members.values()
                if member.status != "archived"
            }

    def events(self) -> list[dict[str, Any]]:
        """Oldest first: `name`, `email`, `properties`, `occurred_at`, `is_syncing`."""
        with self.lock:
            self._run_due_batches()
            found = [{**event, "email": member.email} for member in self._members.values() for event in member.events]
        return sorted(found, key=lambda event: event["number"])

    def unsubscribe(self, email: str) -> None:
        """The person unsubscribes by the link in a mail: from now on no API call may subscribe them again."""
        with self.lock:
            self._members[_hash(email)].status = "unsubscribed"
            self._compliance.add(_hash(email))

    def bounce(self, email: str) -> None:
        """Mail to the address comes back for good: Mailchimp cleans it, and no API call may subscribe it again."""
        self.unsubscribe(email)
        self._members[_hash(email)].status = "cleaned"

    def send(self, title: str, subject: str, to: Iterable[str]) -> str:
        """Somebody sends a campaign to these addresses; its id."""
        with self.lock:
            return self._reports.send(title, subject, to)

    def open(self, email: str, campaign: str) -> None:
        """The person opens the mail of a campaign."""
        with self.lock:
            self._reports.note(campaign, email, "open")

    def click(self, email: str, campaign: str, url: str) -> None:
        """The person clicks a link in the mail of a campaign."""
        with self.lock:
            self._reports.note(campaign, email, "click", url=url)

    def return_mail(self, email: str, campaign: str, kind: str = "hard") -> None:
        """The mail of a campaign comes back, `hard` or `soft`."""
        if kind == "hard":
            self.bounce(email)
        with self.lock:
            self._reports.note(campaign, email, "bounce", type=kind)

    def confirm(self, email: str) -> None:
        """The person clicks the link in the mail that a double opt-in audience sends."""
        with self.lock:
            member = self._members[_hash(email)]
            member.status = "subscribed" if member.status == "pending" else member.status

    def archive(self, email: str) -> None:
        """Somebody archives the contact: it is no longer in the audience, and what is known of it stays."""
        with self.lock:
            self._members[_hash(email)].status = "archived"

    def rename_merge_field(self, tag: str, *, name: str | None = None, new_tag: str | None = None) -> None:
        """Somebody gives a merge field another label, another tag, or both: its id and the values stay."""
        with self.lock:
            held = self._fields.pop(tag)
            held |= {"tag": new_tag or tag, "name": name or held["name"]}
            self._fields[held["tag"]] = held
            for member in self._members.values():
                if tag in member.merge_fields:
                    member.merge_fields[held["tag"]] = member.merge_fields.pop(tag)

    def delete_merge_field(self, tag: str) -> None:
        """Somebody deletes a merge field, and its values with it."""
        with self.lock:
            del self._fields[tag]
            for member in self._members.values():
                member.merge_fields.pop(tag, None)

    def delete_tag(self, name: str) -> None:
        """Somebody deletes a tag: nobody has it any more, and its id is gone."""
        with self.lock:
            del self._tags[name]
            for member in self._members.values():
                member.tags.discard(name)

    def merge_fields(self) -> dict[str, dict[str, Any]]:
        """The audience's merge fields by tag."""
        with self.lock:
            return {tag: dict(held) for tag, held in self._fields.items()}

    # --- login, limits, errors ----------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response | None:
        with self.lock:
            self._in_progress += 1
        try:
            return super().handle(request)
        finally:
            with self.lock:
                self._in_progress -= 1

    def answered(self, request: Request) -> Response:
        response = super().answered(request)
        if response.status == 200 and "fields" in request.query and isinstance(response.body, dict):
            wanted = [name.split(".") for name in request.query["fields"].split(",")]
            return Response(200, _only(response.body, wanted), response.headers, response.media_type)
        return response

    def admit(self, request: Request, found: Route | None) -> Mapping[str, str]:
        if self.rate_limits and self._in_progress > SIMULTANEOUS and not self._in_batch:
            raise Refusal(Response(self.limit_status))
        if request.path.startswith("/3.0/batch-results/"):
            return {}  # the real one is a signed address at a storage service
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = given if scheme == "Bearer" else _basic_password(given) if scheme == "Basic" else ""
        if not hmac.compare_digest(key.encode(), self.api_key.encode()):
            raise Refusal(self.failure(401))
        return {}

    def failure(self, status: int, message: str = "") -> Response:
        if status == 502:
            return Response(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", media_type="text/html")
        title, detail = _TITLES.get(status, _TITLES[500])
        return self._problem(status, title, message or detail)

    def malformed(self, errors: Sequence[ValidationError]) -> Response:
        if not errors:
            return self._problem(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.")
        found = [{"field": pointer(e).lstrip("/").replace("/", "."), "message": e.message[:300]} for e in errors]
        return self._invalid(*((item["field"], item["message"]) for item in found))

    def _problem(self, status: int, title: str, detail: str, **more: Any) -> Response:
        body = {
            "type": "https://mailchimp.com/developer/marketing/docs/errors/",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": str(UUID(int=self.random.getrandbits(128), version=4)),
        }
        return Response(status, body | more, media_type=PROBLEM)

    def _invalid(self, *errors: tuple[str, str]) -> Response:
        detail = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
        listed = [{"field": name, "message": message} for name, message in errors]
        return self._problem(400, "Invalid Resource", detail, errors=listed)

    def _refuse(self, status: int, message: str = "") -> NoReturn:
        raise Refusal(self.failure(status, message))

    # --- members ------------------------------------------------------------------------------------------------------

    def _named(self, parts: Mapping[str, str]) -> _Member | None:
        """By MD5 of the lower-case address, by the address, or by contact id."""
        who = parts["who"]
        member = self._members.get(who.lower()) or (self._members.get(_hash(who)) if "@" in who else None)
        return member or next((held for held in self._members.values() if held.contact_id == who), None)

    def _known(self, parts: Mapping[str, str]) -> _Member:
        member = self._named(parts)
        if member is None:
            self._refuse(404)
        return member

    def _put_member(self, request: Request, parts: Mapping[str, str]) -> Response:
        """Creates with `status_if_new`, or changes; the status of a known member stays when `status` is absent."""
        body, member = request.json, self._named(parts)
        if member is None:
            if parts["who"].lower() not in (_hash(body["email_address"]), body["email_address"].lower()):
                raise Refusal(self._invalid(("email_address", "The address does not belong to this subscriber hash.")))
            member = self._created(body, body.get("status") or body["status_if_new"])
        elif member.status == "archived":  # they come back as new ones
            self._changed(member, body | {"status": body.get("status") or body["status_if_new"]})
        else:
            self._changed(member, body)
        return Response(200, self._shown(member))

    def _post_member(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        known = self._members.get(_hash(body["email_address"]))
        if known is not None and known.status != "archived":
            detail = f"{body['email_address']} is already a list member. Use PUT to insert or update list members."
            raise Refusal(self._problem(400, "Member Exists", detail))
        member = self._created(body, body["status"])
        for name in body.get("tags", []):
            self._tag(member, name)
        return Response(200, self._shown(member))

    def _patch_member(self, request: Request, parts: Mapping[str, str]) -> Response:
        member = self._known(parts)
        self._changed(member, request.json)
        return Response(200, self._shown(member))

    def _read_member(self, _: Request, parts: Mapping[str, str]) -> Response:
        return Response(200, self._shown(self._known(parts)))

    def _read_members(self, request: Request, _: Mapping[str, str]) -> Response:
        status = request.query.get("status")
        held = [m for m in self._members.values() if m.status == status or (not status and m.status != "archived")]
        page, total = self._page(request, held)
        shown = [self._shown(member) for member in page]
        return Response(200, {"members": shown, "list_id": self.list_id, "total_items": total})

    def _archive_member(self, _: Request, parts: Mapping[str, str]) -> Response:
        self._known(parts).status = "archived"
        return Response(204)

    def _delete_permanently(self, _: Request, parts: Mapping[str, str]) -> Response:
        member = self._known(parts)
        del self._members[_hash(member.email)]
        self._forgotten.add(_hash(member.email))
        return Response(204)

    def _created(self, body: Mapping[str, Any], status: str) -> _Member:
        email = body["email_address"].strip()
        if not _EMAIL.fullmatch(email):
            raise Refusal(
                self._problem(400, "Invalid Resource", "Please provide a valid email address.", errors=[
                    {"field": "email_address", "message": "This value is not a valid email address."}])
            )  # fmt: skip
        self._admit_address(email)
        fields = self._merged({}, body.get("merge_fields", {}))
        number = hashlib.md5(f"contact {email.lower()}".encode(), usedforsecurity=False).hexdigest()
        member = _Member(email, number, status, fields, self.clock.time())
        self._members[_hash(email)] = member
        self._keep_extra(member, body)
        return member

    def _admit_address(self, email: str) -> None:
        if _hash(email) in self._forgotten:
            detail = f"{email} was permanently deleted and cannot be re-imported. The contact must re-subscribe."
            raise Refusal(self._problem(400, "Forgotten Email Not Subscribed", detail))

    def _changed(self, member: _Member, body: Mapping[str, Any]) -> None:
        status = body.get("status", member.status)
        if status == "subscribed" and _hash(member.email) in self._compliance:
            detail = (
                f"{member.email} is in a compliance state due to unsubscribe, bounce, or compliance review "
                "and cannot be subscribed."
            )
            raise Refusal(self._problem(400, "Member In Compliance State", detail))
        fields = self._merged(member.merge_fields, body.get("merge_fields", {}))
        email = body.get("email_address", member.email).strip()
        if _hash(email) != _hash(member.email):
            if _hash(email) in self._members:
                raise Refusal(self._problem(400, "Member Exists", f"{email} is already a list member."))
            if not _EMAIL.fullmatch(email):
                raise Refusal(self._invalid(("email_address", "This value is not a valid email address.")))
            self._admit_address(email)
            self._members[_hash(email)] = self._members.pop(_hash(member.email))
        member.email, member.status, member.merge_fields = email, status, fields
        member.changed = self.clock.time()
        self._keep_extra(member, body)

    def _keep_extra(self, member: _Member, body: Mapping[str, Any]) -> None:
        self.touch(member.email)
        known = ("email_address", "status", "status_if_new", "merge_fields", "tags")
        member.extra.update({name: value for name, value in body.items() if name not in known})

    def _merged(self, held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The merge fields with `given` laid over them. Unknown tags vanish, long text is cut, neither with a word."""
        merged, errors = dict(held), []
        for tag, value in given.items():
            known = self._fields.get(tag.upper())
            if known is None:
                continue
            if value in (None, ""):
                merged[tag.upper()] = ""
            elif known["type"] == "number":
                try:
                    merged[tag.upper()] = float(value) if float(value) % 1 else int(float(value))
                except (TypeError, ValueError, OverflowError):
                    errors.append((tag, "Please enter a number"))
            elif known["type"] == "date":
                if not re.fullmatch(r"\d{4}-\d\d-\d\d|\d\d/\d\d/\d{4}", str(value)):
                    errors.append((tag, "Please enter a date as YYYY-MM-DD or MM/DD/YYYY"))
                merged[tag.upper()] = value
            else:
                merged[tag.upper()] = _cut(value) if isinstance(value, str) else value
        if errors:
            detail = "Your merge fields were invalid."
            listed = [{"field": tag, "message": message} for tag, message in errors]
            raise Refusal(self._problem(400, "Invalid Resource", detail, errors=listed))
        return merged

    def _shown(self, member: _Member) -> dict[str, Any]:
        first, last = member.merge_fields.get("FNAME", ""), member.merge_fields.get("LNAME", "")
        return {
            "id": _hash(member.email),
            "email_address": member.email,
            "unique_email_id": member.contact_id[:10],
            "contact_id": member.contact_id,
            "full_name": f"{first} {last}".strip(),
            "email_type": "html",
            "status": member.status,
            "merge_fields": dict.fromkeys(self._fields, "") | member.merge_fields,
            "list_id": self.list_id,
            "last_changed": _iso(member.changed),
            "tags_count": len(member.tags),
            "tags": [{"id": self._tags[name], "name": name} for name in sorted(member.tags)][:50],
            **member.extra,
        }

    def _batch_members(self, request: Request, _: Mapping[str, str]) -> Response:
        """Whatever becomes of the members, the answer is 200; their refusals are in `errors`."""
        body = request.json
        new, updated, errors, seen = [], [], [], set()
        for item in body["members"]:
            email = item["email_address"]
            known = self._members.get(_hash(email))
            try:
                if _hash(email) in seen and "skip_duplicate_check" not in request.query:
                    errors.append(_item_error(email, "Duplicate items found for this email", "ERROR_GENERIC"))
                elif known is not None and known.status != "archived":
                    if not body.get("update_existing"):
                        errors.append(_item_error(email, f"{email} is already a list member", "ERROR_CONTACT_EXISTS"))
                        continue
                    self._changed(known, item)
                    if body.get("sync_tags"):
                        known.tags.clear()
                    updated.append(self._shown(known))
                elif "status" not in item:
                    errors.append(_item_error(email, "The contact must have a status.", "ERROR_GENERIC", "status"))
                else:
                    new.append(self._shown(self._created(item, item["status"])))
            except Refusal as refusal:
                first = (refusal.response.body.get("errors") or [{"field": "", "message": ""}])[0]
                message = f"{refusal.response.body['title']}: {first['message'] or refusal.response.body['detail']}"
                errors.append(_item_error(email, message, "ERROR_GENERIC", first["field"], first["message"]))
            seen.add(_hash(email))
        answer = {
            "new_members": new,
            "updated_members": updated,
            "errors": errors,
            "total_created": len(new),
            "total_updated": len(updated),
            "error_count": len(errors),
        }
        return Response(200, answer)

    # --- tags, which are static segments ------------------------------------------------------------------------------

    def _tag(self, member: _Member, name: str) -> None:
        known = self._spelt(name)
        self._tags.setdefault(known, next(self._numbers))
        member.tags.add(known)

    def _spelt(self, name: str) -> str:
        """A tag as it was first written: two that differ in case only are one."""
        return next((known for known in self._tags if known.lower() == name.lower()), name)

    def _read_tags(self, request: Request, parts: Mapping[str, str]) -> Response:
        member = self._known(parts)
        page, total = self._page(request, sorted(member.tags))
        now = _iso(member.changed)
        shown = [{"id": self._tags[name], "name": name, "date_added": now} for name in page]
        return Response(200, {"tags": shown, "total_items": total})

    def _change_tags(self, request: Request, parts: Mapping[str, str]) -> Response:
        member = self._known(parts)
        for tag in request.json["tags"]:
            if tag["status"] == "active":
                self._tag(member, tag["name"])
            else:
                member.tags.discard(self._spelt(tag["name"]))
        self.touch(member.email)
        return Response(204)

    def _read_segments(self, request: Request, _: Mapping[str, str]) -> Response:
        page, total = self._page(request, list(self._tags))
        shown = [self._shown_segment(name) for name in page]
        return Response(200, {"segments": shown, "list_id": self.list_id, "total_items": total})

    def _create_segment(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        if "static_segment" not in body:
            raise Refusal(self._invalid(("static_segment", "Only static segments are served here.")))
        if self._spelt(body["name"]) in self._tags:
            raise Refusal(self._invalid(("name", "Sorry, that tag already exists.")))
        self._tags[body["name"]] = next(self._numbers)
        for email in body["static_segment"]:
            if member := self._members.get(_hash(email)):
                member.tags.add(body["name"])
        return Response(200, self._shown_segment(body["name"]))

    def _segment_name(self, parts: Mapping[str, str]) -> str:
        name = next((name for name, id_ in self._tags.items() if str(id_) == parts["id"]), None)
        if name is None:
            self._refuse(404)
        return name

    def _read_segment(self, _: Request, parts: Mapping[str, str]) -> Response:
        return Response(200, self._shown_segment(self._segment_name(parts)))

    def _tag_in_bulk(self, request: Request, parts: Mapping[str, str]) -> Response:
        """Addresses that are not on the list are ignored without a word."""
        name, body = self._segment_name(parts), request.json
        added, removed, refused = [], [], []
        for email in body.get("members_to_add", []):
            member = self._members.get(_hash(email))
            if member is None or member.status == "archived":
                continue
            if member.status != "subscribed" and not self.bulk_tags_for_all:
                refused.append(email)
                continue
            member.tags.add(name)
            added.append(self._shown(member))
        for email in body.get("members_to_remove", []):
            if (member := self._members.get(_hash(email))) and name in member.tags:
                member.tags.discard(name)
                removed.append(self._shown(member))
        errors = [{"email_addresses": refused, "error": "The contact is not subscribed."}] if refused else []
        answer = {
            "members_added": added,
            "members_removed": removed,
            "errors": errors,
            "total_added": len(added),
            "total_removed": len(removed),
            "error_count": len(refused),
        }
        return Response(200, answer)

    def _shown_segment(self, name: str) -> dict[str, Any]:
        members = sum(name in member.tags for member in self._members.values())
        return {
            "id": self._tags[name],
            "name": name,
            "member_count": members,
            "type": "static",
            "list_id": self.list_id,
        }

    def _search_tags(self, request: Request, _: Mapping[str, str]) -> Response:
        wanted = request.query.get("name", "").lower()
        found = [{"id": id_, "name": name} for name, id_ in self._tags.items() if wanted in name.lower()]
        return Response(200, {"tags": found, "total_items": len(found)})

    # --- events and merge fields --------------------------------------------------------------------------------------

    def _event(self, request: Request, parts: Mapping[str, str]) -> Response:
        """There is no dedupe key: the same event twice is two events."""
        member, body = self._known(parts), request.json
        member.events.append(
            {
                "name": body["name"],
                "properties": body.get("properties", {}),
                "occurred_at": body.get("occurred_at") or _iso(self.clock.time()),
                "is_syncing": body.get("is_syncing", False),
                "number": next(self._numbers),
            }
        )
        return Response(204)

    def _read_events(self, request: Request, parts: Mapping[str, str]) -> Response:
        page, total = self._page(request, self._known(parts).events)
        shown = [{name: event[name] for name in ("occurred_at", "name", "properties")} for event in page]
        return Response(200, {"events": shown, "total_items": total})

    def _read_fields(self, request: Request, _: Mapping[str, str]) -> Response:
        page, total = self._page(request, list(self._fields.values()))
        return Response(200, {"merge_fields": page, "list_id": self.list_id, "total_items": total})

    def _create_field(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        if len(self._fields) >= self.slots:
            detail = f"This audience has reached its limit of {self.slots} merge fields."
            raise Refusal(self._problem(400, "Bad Request", detail))
        if body.get("tag", "").upper() in self._fields:
            detail = f'A Merge Field with the tag "{body["tag"]}" already exists for this list.'
            raise Refusal(self._problem(400, "Bad Request", detail))
        return Response(200, self._add_field(body))

    def _add_field(self, given: Mapping[str, Any]) -> dict[str, Any]:
        number = max((held["merge_id"] for held in self._fields.values()), default=0) + 1
        tag = (given.get("tag") or f"MERGE{number}").upper()
        self._fields[tag] = {
            "merge_id": number,
            "tag": tag,
            "name": given["name"],
            "type": given["type"],
            "required": given.get("required", False),
            "default_value": given.get("default_value", ""),
            "public": given.get("public", False),
            "display_order": number + 1,
            "options": given.get("options") or ({"size": 25} if given["type"] == "text" else {}),
            "help_text": given.get("help_text", ""),
            "list_id": self.list_id,
        }
        return self._fields[tag]

    # --- batches ------------------------------------------------------------------------------------------------------

    def _start_batch(self, request: Request, _: Mapping[str, str]) -> Response:
        self._run_due_batches()
        if sum(batch.results is None for batch in self._batches.values()) >= self.pending_batches:
            raise Refusal(self._problem(429, "Too Many Requests", f"You have {self.pending_batches} pending batches."))
        now = self.clock.time()
        batch = _Batch(f"{next(self._numbers):010x}", now, now + self.batch_seconds, request.json["operations"])
        self._batches[batch.id] = batch
        return Response(200, self._shown_batch(batch))

    def _read_batches(self, request: Request, _: Mapping[str, str]) -> Response:
        self._run_due_batches()
        kept = [batch for batch in self._batches.values() if self.clock.time() <= batch.created + KEPT_SECONDS]
        page, total = self._page(request, kept)
        return Response(200, {"batches": [self._shown_batch(batch) for batch in page], "total_items": total})

    def _read_batch(self, _: Request, parts: Mapping[str, str]) -> Response:
        self._run_due_batches()
        return Response(200, self._shown_batch(self._known_batch(parts)))

    def _known_batch(self, parts: Mapping[str, str]) -> _Batch:
        batch = self._batches.get(parts["id"])
        if batch is None or self.clock.time() > batch.created + KEPT_SECONDS:
            self._refuse(404)
        return batch

    def _shown_batch(self, batch: _Batch) -> dict[str, Any]:
        done = batch.results is not None
        halfway = self.clock.time() >= batch.created + self.batch_seconds / 2
        results = batch.results or []
        place = f"{self.url}/3.0/batch-results/{batch.id}.tar.gz?Expires={self.clock.time() + RESULT_SECONDS:.0f}"
        return {
            "id": batch.id,
            "status": "finished" if done else "started" if halfway else "pending",
            "total_operations": len(batch.operations),
            "finished_operations": len(results),
            "errored_operations": sum(result["status_code"] >= 400 for result in results),
            "submitted_at": _iso(batch.created),
            "completed_at": _iso(batch.due) if done else "",
            "response_body_url": place if done else "",
        }

    def _run_due_batches(self) -> None:
        now = self.clock.time()
        for batch in self._batches.values():
            if batch.results is None and batch.due <= now:
                self._in_batch = True  # the vendor's own work does not count as connections of ours
                unordered = self.random.sample(batch.operations, len(batch.operations))
                batch.results = [self._operation(operation) for operation in unordered]
                self._in_batch = False

    def _operation(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        path = "/3.0" + operation["path"].removeprefix("/3.0")
        query = {name: str(value) for name, value in operation.get("params", {}).items()}
        headers = {"authorization": f"Bearer {self.api_key}"}
        inner = Request(operation["method"], path, query, headers, operation.get("body", "").encode())
        response = self.answered(inner)
        return {
            "status_code": response.status,
            "operation_id": operation.get("operation_id", ""),
            "response": response.encoded().decode(),
        }

    def _batch_results(self, request: Request, parts: Mapping[str, str]) -> Response:
        batch = self._known_batch(parts)
        if batch.results is None or self.clock.time() > float(request.query.get("Expires", 0)):
            return Response(403, b"<Error><Code>AccessDenied</Code></Error>", media_type="application/xml")
        content = json.dumps(batch.results).encode()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(f"{batch.id}/{batch.id}.json")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        return Response(200, gzip.compress(packed.getvalue()), media_type="application/gzip")

    # --- account and audience -----------------------------------------------------------------------------------------

    def _ping(self, _: Request, __: Mapping[str, str]) -> Response:
        return Response(200, {"health_status": "Everything's Chimpy!"})

    def _root(self, _: Request, __: Mapping[str, str]) -> Response:
        total = len(self._members)
        answer = {
            "account_id": "8d3a3db4d97663a9074efcc16",
            "login_id": "1",
            "account_name": self.account_name,
            "email": "owner@example.com",
            "role": "owner",
            "pricing_plan_type": "monthly",
            "total_subscribers": total,
        }
        return Response(200, answer)

    def _read_lists(self, _: Request, __: Mapping[str, str]) -> Response:
        return Response(200, {"lists": [self._shown_list()], "total_items": 1})

    def _read_list(self, _: Request, __: Mapping[str, str]) -> Response:
        return Response(200, self._shown_list())

    def _shown_list(self) -> dict[str, Any]:
        subscribed = sum(member.status == "subscribed" for member in self._members.values())
        stats = {"member_count": subscribed, "merge_field_count": len(self._fields)}
        return {
            "id": self.list_id,
            "name": f"{self.account_name} newsletter",
            "double_optin": self.double_optin,
            "stats": stats,
        }

    def _page(self, request: Request, items: list[Any]) -> tuple[list[Any], int]:
        wanted, offset = request.query.get("count", "10"), request.query.get("offset", "0")
        if not wanted.isdigit() or not offset.isdigit() or int(wanted) > 1000:
            raise Refusal(self._invalid(("count", "This value should be between 0 and 1000.")))
        return items[int(offset) : int(offset) + int(wanted)], len(items)


def _only(value: Any, wanted: Sequence[Sequence[str]]) -> Any:
    """The parts of a JSON value that the dotted names of `fields` ask for; a name alone asks for all below it."""
    if isinstance(value, list):
        return [_only(item, wanted) for item in value]
    if not isinstance(value, dict) or any(not path for path in wanted):
        return value
    below = {key: [path[1:] for path in wanted if path[0] == key] for key in value}
    return {key: _only(held, below[key]) for key, held in value.items() if below[key]}


def _item_error(email: str, error: str, code: str, name: str = "", message: str = "") -> dict[str, str]:
    return {"email_address": email, "error": error, "error_code": code, "field": name, "field_message": message}


def _hash(email: str) -> str:
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


def _cut(text: str) -> str:
    """The first 255 bytes, without a broken character at the end."""
    return text.encode()[:TEXT_BYTES].decode(errors="ignore")


def _basic_password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
