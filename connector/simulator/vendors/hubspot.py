"""A fake HubSpot account: contacts, properties, lists, custom events and consent, date version 2026-03."""

import hmac
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from jsonschema.exceptions import ValidationError

from connector.simulator.vendors.account import FakeVendor, Refusal, Route, pointer, route
from connector.simulator.vendors.hubspot_lists import Lists
from connector.simulator.vendors.hubspot_portal import (
    CALLS,
    CATEGORIES,
    CUSTOM_PROPERTIES,
    EMAIL,
    MOST_UNIQUE_PROPERTIES,
    PORTAL,
    READ_ONLY,
    SCOPE_OF,
    SCOPES,
    SEARCHES_PER_SECOND,
    STANDARD,
    SUBSCRIPTIONS,
    VALID,
    ZONE,
    ItemError,
    Plan,
    check_options,
    iso,
    options_in,
    passes,
    property_of,
)
from connector.simulator.vendors.schemas.hubspot import REQUESTS
from connector.simulator.vendors.server import Request, Response
from connector.simulator.vendors.windows import RollingWindow

_SHOWN = ("email", "firstname", "lastname", "createdate", "lastmodifieddate", "hs_object_id")


@dataclass
class _Contact:
    id: str
    created: float
    updated: float
    properties: dict[str, str] = field(default_factory=dict)
    histories: dict[str, list[dict[str, str]]] = field(default_factory=dict)


class FakeHubSpot(FakeVendor):
    """One HubSpot account. `plan` decides the call limits, how many properties there may be and whether custom events
    may be sent.

    `tag_property`: the multiple-checkbox property whose options `contacts()` shows as tags. `missing_scopes`: what the
    key may not do, such as `communication_preferences.read` or `crm.lists.write`.
    """

    vendor = "hubspot"

    def __init__(
        self,
        *,
        access_token: str = "pat-eu1-fake",
        plan: Plan = "starter",
        tag_property: str = "storecue_tags",
        **options: Any,
    ) -> None:
        self.access_token = access_token
        self.plan: Plan = plan
        self.tag_property = tag_property
        self.missing_scopes: set[str] = set()
        self._contacts: dict[str, _Contact] = {}
        self._merged: dict[str, str] = {}
        self._unique: dict[str, dict[str, str]] = {"email": {}}
        self._blocked: set[str] = set()
        self._properties: dict[str, dict[str, Any]] = {
            name: property_of(
                {"name": name, "label": name, "groupName": "contactinformation", "type": type_, "fieldType": "text"},
                defined=True,
            )
            for name, type_ in STANDARD.items()
        }
        self._archived: dict[str, dict[str, Any]] = {}
        self._consent: dict[tuple[str, int], str] = {}
        self._locked: dict[str, float] = {}
        self._moving_until = 0.0
        self._groups: dict[str, str] = {"contactinformation": "Contact information"}
        self._definitions: dict[str, dict[str, Any]] = {}
        self._events: dict[tuple[str, str], dict[str, Any]] = {}
        self._numbers = count(501)
        self._lists = Lists(self._contacts, self._numbers, lambda: self.clock.time(), self._refuse)
        calls, daily = CALLS[plan]
        self._ten_seconds = RollingWindow(calls, 10.0)
        self._searches = RollingWindow(SEARCHES_PER_SECOND, 1.0)
        self._daily, self._daily_used, self._day = daily, 0, ""
        super().__init__(**options)

    def routes(self) -> Sequence[Route]:
        version = "(?:2026-03|2026-09)"
        contacts, properties = f"/crm/objects/{version}/contacts", f"/crm/properties/{version}/contacts"
        events = f"/events/{version}"
        return (
            route("GET", f"/account-info/{version}/details", self._account),
            route("GET", contacts, self._read_contacts),
            route("POST", contacts, self._create, REQUESTS["create"]),
            route("POST", f"{contacts}/batch/create", self._batch_create, REQUESTS["batch_create"]),
            route("POST", f"{contacts}/batch/update", self._batch_update, REQUESTS["batch_update"]),
            route("POST", f"{contacts}/batch/upsert", self._batch_upsert, REQUESTS["batch_upsert"]),
            route("POST", f"{contacts}/batch/read", self._batch_read, REQUESTS["batch_read"]),
            route("POST", f"{contacts}/search", self._search, REQUESTS["search"]),
            route("POST", f"{contacts}/merge", self._merge, REQUESTS["merge"]),
            route("POST", f"{contacts}/gdpr-delete", self._gdpr_delete, REQUESTS["gdpr_delete"]),
            route("GET", f"{contacts}/{{id}}", self._read_contact),
            route("PATCH", f"{contacts}/{{id}}", self._update, REQUESTS["update"]),
            route("DELETE", f"{contacts}/{{id}}", self._delete_contact),
            route("GET", properties, self._read_properties),
            route("POST", properties, self._create_property, REQUESTS["property"]),
            route("POST", f"{properties}/batch/create", self._create_properties, REQUESTS["property_batch"]),
            route("GET", f"{properties}/groups", self._read_groups),
            route("POST", f"{properties}/groups", self._create_group, REQUESTS["group"]),
            route("GET", f"{properties}/groups/{{name}}", self._read_group),
            route("GET", f"{properties}/{{name}}", self._read_property),
            route("PATCH", f"{properties}/{{name}}", self._change_property, REQUESTS["property_change"]),
            *self._lists.routes(f"/crm/lists/{version}"),
            route("GET", f"{events}/event-definitions", self._read_definitions),
            route("POST", f"{events}/event-definitions", self._define_event, REQUESTS["event_definition"]),
            route(
                "POST",
                f"{events}/event-definitions/{{name}}/property",
                self._add_event_property,
                REQUESTS["event_property"],
            ),
            route("GET", f"{events}/event-definitions/{{name}}", self._read_definition),
            route("POST", f"{events}/send", self._send, REQUESTS["event"]),
            route("POST", f"{events}/send/batch", self._send_batch, REQUESTS["event_batch"]),
            route("GET", f"/crm/limits/{version}/custom-properties", self._limits),
            route("GET", f"/communication-preferences/{version}/definitions", self._subscription_types),
            route(
                "POST",
                f"/communication-preferences/{version}/statuses/batch/read",
                self._statuses,
                REQUESTS["statuses"],
            ),
        )

    def contacts(self) -> dict[str, dict[str, Any]]:
        """By e-mail: `id`, `tags` (options of the tag property), `fields` (properties that somebody created),
        `first_name`, `last_name`, `lists` (names)."""
        with self.lock:
            made = {name for name, held in self._properties.items() if not held["hubspotDefined"]}
            return {
                contact.properties["email"]: {
                    "id": contact.id,
                    "first_name": contact.properties.get("firstname"),
                    "last_name": contact.properties.get("lastname"),
                    "tags": sorted(options_in(contact.properties.get(self.tag_property, ""))),
                    "fields": {
                        name: value
                        for name, value in contact.properties.items()
                        if name in made and name != self.tag_property
                    },
                    "lists": self._lists.of(contact.id),
                }
                for contact in self._contacts.values()
                if contact.properties.get("email")
            }

    def events(self) -> list[dict[str, Any]]:
        """Oldest first: `name` (fully qualified), `email`, `object_id`, `properties`, `uuid`, `occurred_at`."""
        with self.lock:
            return [dict(event) for event in self._events.values()]

    def properties(self) -> dict[str, dict[str, Any]]:
        """The contact properties that somebody created, by name."""
        with self.lock:
            return {name: dict(held) for name, held in self._properties.items() if not held["hubspotDefined"]}

    # --- what people do there, and what befalls the account -----------------------------------------------------------

    def unsubscribe(self, email: str, subscription: int | None = None) -> None:
        """The person opts out of all e-mail, or of one of SUBSCRIPTIONS."""
        with self.lock:
            contact = self._somebody(email)
            self._note(contact, "hs_email_optout" + (f"_{subscription}" if subscription else ""), "true")
            for id_ in [subscription] if subscription else SUBSCRIPTIONS:
                self._consent[contact.id, id_] = "UNSUBSCRIBED"

    def subscribe(self, email: str, subscription: int) -> None:
        """The person asks for one of SUBSCRIPTIONS."""
        with self.lock:
            contact = self._somebody(email)
            for name in ("hs_email_optout", f"hs_email_optout_{subscription}"):
                contact.properties.pop(name, None)
            self._consent[contact.id, subscription] = "SUBSCRIBED"

    def bounce(self, email: str) -> None:
        """A mail comes back for good: HubSpot sends no more."""
        with self.lock:
            self._note(self._somebody(email), "hs_email_hard_bounce_reason_enum", "UNKNOWN_USER")

    def open(self, email: str) -> None:
        """The person opens a mail."""
        with self.lock:
            self._note(self._somebody(email), "hs_email_last_open_date", iso(self.clock.time()))

    def click(self, email: str) -> None:
        """The person clicks a link in a mail."""
        with self.lock:
            self._note(self._somebody(email), "hs_email_last_click_date", iso(self.clock.time()))

    def _note(self, contact: _Contact, name: str, value: str) -> None:
        """The portal itself sets a property, which is a change of the contact like any other."""
        contact.updated = self.clock.time()
        contact.properties[name] = value
        noted = {"value": value, "timestamp": iso(contact.updated), "sourceType": "EMAIL"}
        contact.histories.setdefault(name, []).insert(0, noted)

    def delete(self, email: str) -> None:
        """Somebody deletes the contact."""
        with self.lock:
            self._removed(self._somebody(email))

    def change_address(self, email: str, to: str) -> None:
        """Somebody gives the contact another address; the old one is nobody's."""
        with self.lock:
            contact = self._somebody(email)
            contact.properties["email"] = to.lower()
            self._unique["email"][to.lower()] = self._unique["email"].pop(email.lower())

    def add_address(self, email: str, other: str) -> None:
        """Somebody gives the contact an additional address."""
        with self.lock:
            contact = self._somebody(email)
            held = contact.properties.get("hs_additional_emails", "")
            contact.properties["hs_additional_emails"] = ";".join(filter(None, (held, other.lower())))
            self._unique["email"][other.lower()] = contact.id

    def set_options(self, name: str, values: Iterable[str]) -> None:
        """Somebody saves these options of a property, and no others."""
        with self.lock:
            self._properties[name]["options"] = [
                {"label": value, "value": value, "displayOrder": order, "hidden": False}
                for order, value in enumerate(values)
            ]

    def archive(self, name: str) -> None:
        """Somebody deletes a property: its name stays taken, and its values are gone."""
        with self.lock:
            self._archived[name] = self._properties.pop(name)
            for contact in self._contacts.values():
                contact.properties.pop(name, None)

    def hold(self, email: str, seconds: float) -> None:
        """The contact is locked for a while by something at HubSpot: writes meet a 423, batches that hold it too."""
        with self.lock:
            self._locked[self._somebody(email).id] = self.clock.time() + seconds

    def move(self, seconds: float) -> None:
        """The account moves to another data centre: every call meets a 477 meanwhile."""
        self._moving_until = self.clock.time() + seconds

    def use_up(self, left: int) -> None:
        """Others spend the day's calls but for so many."""
        with self.lock:
            self._new_day()
            self._daily_used = self._daily - left

    def _somebody(self, email: str) -> _Contact:
        return self._contacts[self._unique["email"][email.lower()]]

    def merge(self, email: str, into: str) -> None:
        """Somebody merges the first contact into the second: the result has a new id, to which both old ones lead, and
        the first address becomes an additional one."""
        with self.lock:
            self._unite(self._somebody(into), self._somebody(email))

    def _unite(self, kept: _Contact, gone: _Contact) -> _Contact:
        """A contact made of two. It keeps the first address, and whether that one was opted out of (consent belongs to
        an address there)."""
        with self.lock:
            del self._contacts[kept.id], self._contacts[gone.id]
            now = self.clock.time()
            result = _Contact(str(next(self._numbers)), now, now, gone.properties | kept.properties)
            self._contacts[result.id] = result
            before = {gone.id, kept.id}
            before |= {old for old, new in self._merged.items() if new in before}  # it may not be the first merge
            self._merged |= dict.fromkeys(before, result.id)
            for address, owner in self._unique["email"].items():
                if owner in before:
                    self._unique["email"][address] = result.id
            others = {address for address, owner in self._unique["email"].items() if owner == result.id}
            result.properties["hs_merged_object_ids"] = ";".join(sorted(before, key=int))
            result.properties["hs_additional_emails"] = ";".join(sorted(others - {kept.properties["email"]}))
            for id_ in SUBSCRIPTIONS:
                if (kept.id, id_) in self._consent:
                    self._consent[result.id, id_] = self._consent[kept.id, id_]
            for name in [name for name in gone.properties if name.startswith("hs_email_optout")]:
                if name not in kept.properties:
                    result.properties.pop(name, None)
            return result

    # --- login, limits, errors ----------------------------------------------------------------------------------------

    def admit(self, request: Request, found: Route | None) -> Mapping[str, str]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not hmac.compare_digest(token.encode(), self.access_token.encode()):
            self._refuse(
                401,
                "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
            )
        self._check_scope(request)
        if (left := self._moving_until - self.clock.time()) > 0:
            refusal = self._body(477, "This account is being moved to another data centre.")
            raise Refusal(Response(477, refusal, {"Retry-After": str(math.ceil(left))}))
        searching = request.path.endswith("/contacts/search")
        if not self.rate_limits:
            return {}
        with self.lock:
            return self._count(searching)

    def _check_scope(self, request: Request) -> None:
        line = f"{request.method} {request.path}"
        area = next((scope for prefix, scope in SCOPE_OF if request.path.startswith(prefix)), "")
        right = next(right for pattern, right in SCOPES if pattern.fullmatch(line))
        if area and area + right in self.missing_scopes:
            cause = {"message": "One or more of the following scopes are required.", "context": {}}
            cause["context"] = {"requiredGranularScopes": [area + right]}
            self._refuse(403, "This app hasn't been granted all required scopes to make this call.", errors=[cause])

    def _new_day(self) -> None:
        today = datetime.fromtimestamp(self.clock.time(), ZoneInfo(ZONE)).date().isoformat()
        if today != self._day:
            self._day, self._daily_used = today, 0

    def _count(self, searching: bool) -> Mapping[str, str]:
        now = self.clock.time()
        if searching:
            if self._searches.left(now) <= 0:
                self._throttle("SECONDLY", "You have reached your secondly limit.")
            self._searches.take(now)
            return {}  # search answers carry no rate headers
        if self._ten_seconds.left(now) <= 0:
            self._throttle("TEN_SECONDLY_ROLLING", "You have reached your ten_secondly_rolling limit.")
        self._new_day()
        if self._daily_used >= self._daily:
            self._throttle("DAILY", "You have reached your daily limit.")
        self._ten_seconds.take(now)
        self._daily_used += 1
        return {
            "X-HubSpot-RateLimit-Max": str(self._ten_seconds.limit),
            "X-HubSpot-RateLimit-Remaining": str(self._ten_seconds.left(now)),
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Daily": str(self._daily),
            "X-HubSpot-RateLimit-Daily-Remaining": str(self._daily - self._daily_used),
        }

    def _throttle(self, policy: str, message: str) -> NoReturn:
        """429 without Retry-After: the documentation names none for API clients."""
        self._refuse(429, message, policyName=policy)

    def _body(self, status: int, message: str, **more: Any) -> dict[str, Any]:
        category = CATEGORIES.get(status, "INTERNAL_ERROR")
        return {"status": "error", "message": message, "correlationId": self._uuid(), "category": category} | more

    def _refuse(self, status: int, message: str, **more: Any) -> NoReturn:
        raise Refusal(Response(status, self._body(status, message, **more)))

    def failure(self, status: int, message: str = "") -> Response:
        texts = {404: "resource not found", 405: "HTTP 405 Method Not Allowed", 503: "Service unavailable"}
        return Response(status, self._body(status, message or texts.get(status, "internal error")))

    def malformed(self, errors: Sequence[ValidationError]) -> Response:
        found = [{"message": error.message[:300], "in": pointer(error) or "/"} for error in errors]
        text = f"Invalid input JSON: {found[0]['message']} at {found[0]['in']}" if found else "Unable to parse JSON."
        return Response(400, self._body(400, text, errors=found))

    def _uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    # --- one contact --------------------------------------------------------------------------------------------------

    def _create(self, request: Request, _: Mapping[str, str]) -> Response:
        self._check_values([request.json["properties"]])
        contact = self._single(lambda: self._made(request.json["properties"]))
        return Response(201, self._shown(contact))

    def _update(self, request: Request, parts: Mapping[str, str]) -> Response:
        contact = self._named(request, parts)
        self._check_values([request.json["properties"]])
        self._single(lambda: self._changed(contact, request.json["properties"]))
        return Response(200, self._shown(contact, request.json["properties"]))

    def _single(self, action: Callable[[], _Contact]) -> _Contact:
        try:
            return action()
        except ItemError as error:
            self._refuse(error.status, error.message, context=error.context)

    def _read_contact(self, request: Request, parts: Mapping[str, str]) -> Response:
        wanted = request.query.get("properties", "").split(",")
        return Response(200, self._shown(self._named(request, parts), wanted))

    def _delete_contact(self, request: Request, parts: Mapping[str, str]) -> Response:
        self._removed(self._named(request, parts))
        return Response(204)

    def _read_contacts(self, request: Request, _: Mapping[str, str]) -> Response:
        limit, after = int(request.query.get("limit", "10")), int(request.query.get("after", "0"))
        held = list(self._contacts.values())
        wanted = request.query.get("properties", "").split(",")
        body: dict[str, Any] = {"results": [self._shown(contact, wanted) for contact in held[after : after + limit]]}
        if after + limit < len(held):
            body["paging"] = {"next": {"after": str(after + limit)}}
        return Response(200, body)

    def _named(self, request: Request, parts: Mapping[str, str]) -> _Contact:
        contact = self._held(parts["id"], request.query.get("idProperty"))
        if contact is None:
            self._refuse(404, "resource not found")
        return contact

    def _held(self, value: str, id_property: str | None) -> _Contact | None:
        if id_property in (None, "", "hs_object_id"):
            return self._contacts.get(self._merged.get(value, value))
        assert id_property is not None
        if id_property not in self._unique:
            self._refuse(400, f"Property {id_property} is not a unique identifier property.")
        value = value.lower() if id_property == "email" else value
        return self._contacts.get(self._unique[id_property].get(value, ""))

    def _made(self, properties: Mapping[str, str]) -> _Contact:
        """A new contact; ItemError leaves everything as it was."""
        self._check_unique(properties, None)
        now = self.clock.time()
        contact = _Contact(str(next(self._numbers)), now, now)
        self._contacts[contact.id] = contact
        return self._applied(contact, properties)

    def _changed(self, contact: _Contact, properties: Mapping[str, str]) -> _Contact:
        self._check_unique(properties, contact)
        if self._locked.get(contact.id, 0.0) > self.clock.time():
            self._refuse(423, "The record is locked by another process; try again later.")
        contact.updated = self.clock.time()
        return self._applied(contact, properties)

    def _applied(self, contact: _Contact, properties: Mapping[str, str]) -> _Contact:
        for name, value in properties.items():
            if name in READ_ONLY:
                continue
            kept = value.strip().lower() if name == "email" else value
            if name in self._unique:
                self._unique[name].pop(contact.properties.get(name, ""), None)
                if kept:
                    self._unique[name][kept] = contact.id
            if self._properties[name]["fieldType"] == "checkbox":
                held = options_in(contact.properties.get(name, "")) if kept.startswith(";") else []  # ";a" appends
                kept = ";".join(dict.fromkeys([*held, *options_in(kept)]))
            if kept:
                contact.properties[name] = kept
            else:
                contact.properties.pop(name, None)
        self.touch(contact.properties.get("email"))
        return contact

    def _check_unique(self, properties: Mapping[str, str], contact: _Contact | None) -> None:
        email = properties.get("email", "").strip().lower()
        if email and not EMAIL.fullmatch(email):
            raise ItemError(400, f"Email address {email} is invalid", {"propertyName": ["email"]})
        if email in self._blocked:
            raise ItemError(400, f"{email} was deleted for privacy and cannot be created again", {"email": [email]})
        for name, owners in self._unique.items():
            value = properties.get(name, "")
            owner = owners.get(value.strip().lower() if name == "email" else value)
            if value and owner is not None and (contact is None or contact.id != owner):
                text = f"Contact already exists. Existing ID: {owner}"
                raise ItemError(409, text, {"existingId": [owner], "propertyName": [name]})

    def _check_values(self, items: Iterable[Mapping[str, str]]) -> None:
        """Refuses the whole request when one property is unknown or one value does not fit its type."""
        wrong = [found for item in items for found in self._wrong_values(item)]
        if wrong:
            errors = [
                {"message": w["message"], "code": w["error"], "context": {"propertyName": [w["name"]]}} for w in wrong
            ]
            self._refuse(400, "Property values were not valid: " + json.dumps(wrong[:20]), errors=errors[:20])

    def _wrong_values(self, properties: Mapping[str, str]) -> Iterable[dict[str, Any]]:
        for name, value in properties.items():
            held = self._properties.get(name)
            if held is None:
                code, text = "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'
            elif value == "":
                continue
            elif held["type"] == "enumeration":
                allowed = {option["value"] for option in held["options"]}
                unknown = [option for option in options_in(value) if option not in allowed]
                if not unknown:
                    continue
                code, text = "INVALID_OPTION", f"{unknown[0]} was not one of the allowed options: {sorted(allowed)}"
            else:
                fits, code = VALID.get(held["type"], VALID["string"])
                if fits(value):
                    continue
                text = f"{value} was not a valid {held['type']}"
            yield {"isValid": False, "message": text, "error": code, "name": name, "portalId": PORTAL}

    def _removed(self, contact: _Contact) -> None:
        del self._contacts[contact.id]
        for owners in self._unique.values():
            for value in [value for value, owner in owners.items() if owner == contact.id]:
                del owners[value]
        self._lists.drop(contact.id)

    def _merge(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        kept, gone = (self._held(body[name], None) for name in ("primaryObjectId", "objectIdToMerge"))
        if kept is None or gone is None:
            self._refuse(404, "Object not found")
        if kept is gone:
            self._refuse(400, "Cannot merge a contact with itself.")
        return Response(200, self._shown(self._unite(kept, gone)))

    def _gdpr_delete(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        contact = self._held(body["objectId"], body.get("idProperty"))
        if contact is not None:
            self._blocked |= {address for address, owner in self._unique["email"].items() if owner == contact.id}
            self._removed(contact)
        elif body.get("idProperty") == "email":
            self._blocked.add(body["objectId"].lower())  # an unknown address goes on the blocklist all the same
        return Response(204)

    def _shown(self, contact: _Contact, wanted: Iterable[str] = ()) -> dict[str, Any]:
        own = {
            "hs_object_id": contact.id,
            "createdate": iso(contact.created),
            "lastmodifieddate": iso(contact.updated),
        }
        properties = contact.properties | own
        for name, value in contact.properties.items():
            if self._properties[name]["type"] == "datetime" and value.lstrip("-").isdigit():
                properties[name] = iso(int(value) / 1000)  # written in milliseconds, read in RFC 3339
        names = dict.fromkeys([*_SHOWN, *(name for name in wanted if name)])
        return {
            "id": contact.id,
            "properties": {name: properties.get(name) for name in names},
            "createdAt": own["createdate"],
            "updatedAt": own["lastmodifieddate"],
            "archived": False,
        }

    # --- batches ------------------------------------------------------------------------------------------------------

    def _batch_create(self, request: Request, _: Mapping[str, str]) -> Response:
        """Without a trace id on every input one conflict refuses the whole batch; with them the others go on."""
        items = request.json["inputs"]
        self._check_values(item["properties"] for item in items)
        if not all("objectWriteTraceId" in item for item in items):
            self._rehearse(items)
        return self._batch(items, lambda item: (self._made(item["properties"]), None), done=201)

    def _batch_update(self, request: Request, _: Mapping[str, str]) -> Response:
        items = request.json["inputs"]
        self._check_values(item["properties"] for item in items)

        def update(item: Mapping[str, Any]) -> tuple[_Contact, None]:
            contact = self._held(item["id"], item.get("idProperty"))
            if contact is None:
                raise ItemError(404, f"Could not get some CONTACT objects, {item['id']}", {"ids": [item["id"]]})
            return self._changed(contact, item["properties"]), None

        return self._batch(items, update)

    def _batch_upsert(self, request: Request, _: Mapping[str, str]) -> Response:
        items = request.json["inputs"]
        self._check_values(item["properties"] for item in items)
        if any(item.get("idProperty") == "email" for item in items):
            self._rehearse(items)  # "partial upserts are not supported when using email" (2026-09 contacts guide)

        def upsert(item: Mapping[str, Any]) -> tuple[_Contact, bool]:
            contact = self._held(item["id"], item.get("idProperty"))
            if contact is not None:
                return self._changed(contact, item["properties"]), False
            if not item.get("idProperty"):
                raise ItemError(404, f"Could not get some CONTACT objects, {item['id']}", {"ids": [item["id"]]})
            return self._made({item["idProperty"]: item["id"], **item["properties"]}), True

        return self._batch(items, upsert)

    def _rehearse(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Refuses the whole batch when one item would fail."""
        for item in items:
            known = self._held(item["id"], item.get("idProperty")) if "id" in item else None
            try:
                self._check_unique(item["properties"], known)
            except ItemError as error:
                self._refuse(error.status, error.message, context=error.context)

    def _batch(
        self,
        items: Iterable[Mapping[str, Any]],
        action: Callable[[Mapping[str, Any]], tuple[_Contact, bool | None]],
        done: int = 200,
    ) -> Response:
        now = iso(self.clock.time())
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for item in items:
            trace = {"objectWriteTraceId": item["objectWriteTraceId"]} if "objectWriteTraceId" in item else {}
            try:
                contact, new = action(item)
            except ItemError as error:
                context = error.context | {name: [value] for name, value in trace.items()}
                category = CATEGORIES.get(error.status, "VALIDATION_ERROR")
                errors.append(
                    {
                        "status": "error",
                        "category": category,
                        "message": error.message,
                        "context": context,
                        "errors": [],
                        "links": {},
                    }
                )
                continue
            shown = self._shown(contact, item["properties"]) | trace
            results.append(shown if new is None else shown | {"new": new})
        body: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if errors:
            return Response(207, body | {"numErrors": len(errors), "errors": errors})
        return Response(done, body)

    def _batch_read(self, request: Request, _: Mapping[str, str]) -> Response:
        now, body = iso(self.clock.time()), request.json
        if body["propertiesWithHistory"] and len(body["inputs"]) > 50:
            self._refuse(400, "A read with histories may have 50 contacts.")
        missing: list[str] = []
        found: dict[str, dict[str, Any]] = {}
        for item in body["inputs"]:
            contact = self._held(item["id"], body.get("idProperty"))
            if contact is None:
                missing.append(item["id"])
            else:
                shown = self._shown(contact, body["properties"])
                if wanted := body["propertiesWithHistory"]:
                    shown["propertiesWithHistory"] = {name: contact.histories.get(name, []) for name in wanted}
                found[contact.id] = shown  # two names of one contact are one result
        answer: dict[str, Any] = {
            "status": "COMPLETE",
            "results": list(found.values()),
            "startedAt": now,
            "completedAt": now,
        }
        if not missing:
            return Response(200, answer)
        error = {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": "Could not get some CONTACT objects, they may be deleted or not exist.",
            "context": {"ids": missing},
        }
        return Response(207, answer | {"numErrors": 1, "errors": [error]})

    def _search(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        groups = [group["filters"] for group in body.get("filterGroups", [])]
        held = [
            contact
            for contact in self._contacts.values()
            if not groups or any(all(passes(self._sought(contact), rule) for rule in rules) for rules in groups)
        ]
        for sort in body.get("sorts", ()):
            descending = sort.get("direction") == "DESCENDING"
            held.sort(key=lambda one: self._sought(one).get(sort["propertyName"], ""), reverse=descending)
        start, limit = int(body.get("after") or 0), body.get("limit", 10)
        if start + limit > 10_000:
            self._refuse(400, "The search gives 10,000 results at most.")
        shown = [self._shown(contact, body.get("properties", ())) for contact in held[start : start + limit]]
        answer: dict[str, Any] = {"total": len(held), "results": shown}
        if start + limit < len(held):
            answer["paging"] = {"next": {"after": str(start + limit)}}
        return Response(200, answer)

    def _sought(self, contact: _Contact) -> dict[str, str]:
        return contact.properties | {"lastmodifieddate": iso(contact.updated)}

    # --- properties ---------------------------------------------------------------------------------------------------

    def _read_properties(self, _: Request, __: Mapping[str, str]) -> Response:
        return Response(200, {"results": list(self._properties.values())})

    def _read_property(self, _: Request, parts: Mapping[str, str]) -> Response:
        return Response(200, self._known_property(parts["name"]))

    def _known_property(self, name: str) -> dict[str, Any]:
        if name not in self._properties:
            self._refuse(404, f"Property {name} does not exist", subCategory="Properties.PROPERTY_NOT_FOUND")
        return self._properties[name]

    def _create_property(self, request: Request, _: Mapping[str, str]) -> Response:
        try:
            return Response(201, self._new_property(request.json))
        except ItemError as error:
            self._refuse(error.status, error.message, context=error.context)

    def _create_properties(self, request: Request, _: Mapping[str, str]) -> Response:
        now, results, errors = iso(self.clock.time()), [], []
        for given in request.json["inputs"]:
            try:
                results.append(self._new_property(given))
            except ItemError as error:
                context = error.context | {"name": [given["name"]]}
                errors.append(self._body(error.status, error.message, context=context))
        answer: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if errors:
            return Response(207, answer | {"numErrors": len(errors), "errors": errors})
        return Response(201, answer)

    def _new_property(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["name"]
        if name in self._properties or name in self._archived:
            raise ItemError(409, f'A property named "{name}" already exists.', {"name": [name]})
        if given["groupName"] not in self._groups:
            raise ItemError(400, f"Property group {given['groupName']} does not exist.", {"name": [name]})
        if sum(not held["hubspotDefined"] for held in self._properties.values()) >= self._most_properties():
            raise ItemError(400, "The maximum number of custom properties has been reached.", {"name": [name]})
        check_options(given.get("options", []))
        if given.get("hasUniqueValue"):
            if len(self._unique) > MOST_UNIQUE_PROPERTIES:
                raise ItemError(400, "Only 10 unique value properties are allowed per object.", {"name": [name]})
            self._unique[name] = {}
        self._properties[name] = property_of(given)
        return self._properties[name]

    def _change_property(self, request: Request, parts: Mapping[str, str]) -> Response:
        held = self._known_property(parts["name"])
        try:
            check_options(request.json.get("options", []))
        except ItemError as error:
            self._refuse(error.status, error.message, context=error.context)
        held.update(request.json)
        return Response(200, held)

    def _most_properties(self) -> int:
        return CUSTOM_PROPERTIES.get(self.plan, 1_000)

    def _limits(self, _: Request, __: Mapping[str, str]) -> Response:
        used, most = sum(not held["hubspotDefined"] for held in self._properties.values()), self._most_properties()
        share = round(100 * used / most, 3)
        contacts = {"objectTypeId": "0-1", "singularLabel": "Contact", "pluralLabel": "Contacts"}
        by_type = [contacts | {"limit": most, "usage": used, "percentage": share}]
        overall = {"overallLimit": 10 * most, "overallUsage": used, "overallPercentage": share / 10}
        return Response(200, {"byObjectType": by_type} | overall)

    def _read_groups(self, _: Request, __: Mapping[str, str]) -> Response:
        return Response(200, {"results": [self._shown_group(name) for name in self._groups]})

    def _read_group(self, _: Request, parts: Mapping[str, str]) -> Response:
        if parts["name"] not in self._groups:
            self._refuse(404, f"Property group {parts['name']} does not exist")
        return Response(200, self._shown_group(parts["name"]))

    def _create_group(self, request: Request, _: Mapping[str, str]) -> Response:
        name = request.json["name"]
        if name in self._groups:
            self._refuse(409, f"Property group {name} already exists")
        self._groups[name] = request.json["label"]
        return Response(201, self._shown_group(name))

    def _shown_group(self, name: str) -> dict[str, Any]:
        return {"name": name, "label": self._groups[name], "displayOrder": -1, "archived": False}

    # --- custom events ------------------------------------------------------------------------------------------------

    def _require_enterprise(self) -> None:
        if self.plan != "enterprise":
            self._refuse(403, "This portal does not have access to custom behavioral events.")

    def _define_event(self, request: Request, _: Mapping[str, str]) -> Response:
        self._require_enterprise()
        body = request.json
        name = body.get("name") or re.sub(r"\W+", "_", body["label"].lower())
        full_name = f"pe{PORTAL}_{name}"
        if full_name in self._definitions:
            self._refuse(409, f"An event definition named {name} already exists.")
        named = {"name": name, "fullyQualifiedName": full_name, "id": self._uuid()}
        made = {key: value for key, value in body.items() if key != "propertyDefinitions"}
        self._definitions[full_name] = made | named | {"properties": list(body["propertyDefinitions"])}
        return Response(201, self._definitions[full_name])

    def _read_definitions(self, _: Request, __: Mapping[str, str]) -> Response:
        self._require_enterprise()
        return Response(200, {"total": len(self._definitions), "results": list(self._definitions.values())})

    def _add_event_property(self, request: Request, parts: Mapping[str, str]) -> Response:
        self._require_enterprise()
        held = self._known_definition(parts["name"])["properties"]
        if any(one["name"] == request.json["name"] for one in held):
            self._refuse(409, f"The event has a property {request.json['name']}.")
        if len(held) >= 50:
            self._refuse(400, "An event may have 50 properties.")
        held.append(request.json)
        return Response(201, request.json)

    def _read_definition(self, _: Request, parts: Mapping[str, str]) -> Response:
        self._require_enterprise()
        return Response(200, self._known_definition(parts["name"]))

    def _known_definition(self, name: str) -> dict[str, Any]:
        full_name = name if name.startswith("pe") else f"pe{PORTAL}_{name}"
        if full_name not in self._definitions:
            self._refuse(404, f"No event definition named {name}.")
        return self._definitions[full_name]

    def _send(self, request: Request, _: Mapping[str, str]) -> Response:
        self._require_enterprise()
        self._record(self._checked_event(request.json))
        return Response(204)

    def _send_batch(self, request: Request, _: Mapping[str, str]) -> Response:
        self._require_enterprise()
        for event in [self._checked_event(given) for given in request.json["inputs"]]:
            self._record(event)
        return Response(204)

    def _checked_event(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if given["eventName"] not in self._definitions:
            self._refuse(400, f"Event definition {given['eventName']} does not exist.")
        if not any(given.get(name) for name in ("email", "objectId", "utk")):
            self._refuse(400, "One of email, objectId or utk is required.")
        declared = {held["name"] for held in self._definitions[given["eventName"]]["properties"]}
        if unknown := [name for name in given["properties"] if name not in declared and not name.startswith("hs_")]:
            self._refuse(400, f"Property {unknown[0]} is not defined on {given['eventName']}.")
        return given

    def _record(self, given: Mapping[str, Any]) -> None:
        key = given["eventName"], given.get("uuid") or self._uuid()  # the same uuid counts once within an event type
        contact = self._contacts.get(given.get("objectId", ""))
        email = given.get("email") or (contact.properties.get("email") if contact else None)
        self._events.setdefault(
            key,
            {
                "name": given["eventName"],
                "email": email,
                "object_id": given.get("objectId"),
                "properties": given["properties"],
                "uuid": given.get("uuid"),
                "occurred_at": given.get("occurredAt"),
            },
        )

    # --- consent ------------------------------------------------------------------------------------------------------

    def _subscription_types(self, _: Request, __: Mapping[str, str]) -> Response:
        types = [{"id": str(id_), "name": name, "isActive": True} for id_, name in SUBSCRIPTIONS.items()]
        return Response(200, {"results": types})

    def _statuses(self, request: Request, _: Mapping[str, str]) -> Response:
        if request.query.get("channel") != "EMAIL":
            self._refuse(400, "channel is required.")
        now = iso(self.clock.time())
        results = []
        for email in request.json["inputs"]:
            person = self._unique["email"].get(email.lower(), "")
            statuses = [
                {
                    "channel": "EMAIL",
                    "subscriberIdString": email,
                    "subscriptionId": id_,
                    "subscriptionName": name,
                    "status": self._consent.get((person, id_), "NOT_SPECIFIED"),
                    "source": "",
                    "timestamp": now,
                }
                for id_, name in SUBSCRIPTIONS.items()
            ]
            results.append({"subscriberIdString": email, "statuses": statuses})
        return Response(200, {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now})

    def _account(self, _: Request, __: Mapping[str, str]) -> Response:
        return Response(
            200,
            {
                "portalId": PORTAL,
                "accountType": "STANDARD",
                "timeZone": ZONE,
                "utcOffset": "+01:00",
                "utcOffsetMilliseconds": 3_600_000,
                "companyCurrency": "EUR",
                "additionalCurrencies": [],
                "uiDomain": "app-eu1.hubspot.com",
                "dataHostingLocation": "eu1",
            },
        )
