"""Salesforce: contacts and leads, asked for by SOQL. It sends nothing; who changed is asked for once in a while."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema

from adapters.destination import Clock
from connector.clock import DAY, MINUTE, Millis, isoformat, parse_duration
from connector.domain import AdminConfig, Consent, Delivery, Entity, Identifier, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Access, Api, Claim
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import json_object, known
from connector.sources.fields import Reader, Value, flag, id_text, instant, text
from connector.sources.instants import happened_at, version_at

OBJECTS = ("Contact", "Lead")
_VERSION = re.compile(r"[1-9][0-9]\.0")


class Salesforce:
    """The source of kind `salesforce`. `objects` are asked for once in `every`, by API `version`."""

    kind = "salesforce"
    silent = True
    access = Access(
        r"[a-z0-9][a-z0-9-]{0,80}(?:\.[a-z0-9-]{1,40}){0,2}\.my\.salesforce\.com",
        "aurora.my.salesforce.com (Setup > My Domain)",
        (("client_id", "client_secret"),),
    )

    def __init__(
        self, objects: Sequence[str] = ("Contact",), every: Millis = 5 * MINUTE, version: str = "67.0"
    ) -> None:
        self._objects, self._every, self._version = tuple(objects), every, version

    def configured(self, options: Mapping[str, Json]) -> "Salesforce":
        """The source with these options. DefinitionError with a JSON pointer into them."""
        for name in options:
            if name not in ("objects", "every", "version"):
                raise DefinitionError(
                    "is not known to salesforce; it knows objects, every, version", pointer=f"/{name}"
                )
        objects = options.get("objects", ["Contact"])
        if not isinstance(objects, list) or not objects or any(one not in OBJECTS for one in objects):
            raise DefinitionError(f"must be a list of {' and '.join(OBJECTS)}", pointer="/objects")
        version = options.get("version", "67.0")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise DefinitionError('must be a version of the API as a text, such as "67.0"', pointer="/version")
        return Salesforce(list(dict.fromkeys(objects)), _every(options.get("every", "5m")), version)

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Refuses: nobody has a reason to send anything here."""
        raise RejectedDelivery(
            "sources of kind salesforce are asked, and take in nothing", status=401, reason="bad_signature"
        )

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """Refuses, likewise."""
        raise RejectedDelivery("sources of kind salesforce are asked, and take in nothing", reason="missing_topic")

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What a record means. UnprocessableEvent names the faulty field."""
        if delivery.topic not in _TOPICS:
            return Normalised(skipped="unknown_topic")
        found = _READ(json_object(delivery.body))
        if found.get("Id") is None:
            raise UnprocessableEvent("/Id: is missing", reason="bad_id")
        as_of = version_at(delivery.received_at, found.get("SystemModstamp"))
        if found.get("IsDeleted"):
            return _deleted(found, as_of, delivery)
        return _person(found, as_of, delivery)

    def api(self, name: str, config: AdminConfig, clock: Clock) -> Api:
        """The org's API. Imported when it is asked for."""
        from connector.sources.salesforce.api import OrgApi

        return OrgApi(name, config, clock, self._objects, self._every, self._version)


def _every(value: Json) -> Millis:
    try:
        every = parse_duration(value) if isinstance(value, str) else 0
    except ValueError:
        every = 0
    if not MINUTE <= every <= DAY:
        raise DefinitionError("must be from 1m to 1d, such as 5m", pointer="/every")
    return every


class _Record(Schema):
    Id = Value(id_text)
    FirstName = Value(text)
    LastName = Value(text)
    Email = Value(text)
    Phone = Value(text)
    MobilePhone = Value(text)
    MailingCity = Value(text)
    MailingCountry = Value(text)
    City = Value(text)
    Country = Value(text)
    HasOptedOutOfEmail = Value(flag)
    IsDeleted = Value(flag)
    MasterRecordId = Value(id_text)
    ConvertedContactId = Value(id_text)
    CreatedDate = Value(instant)
    SystemModstamp = Value(instant)


_READ = Reader(_Record)
_TOPICS = {f"fetched/{one}" for one in OBJECTS}


def _customer(id_: str, delivery: Delivery) -> Identifier:
    return Identifier("customer_id", f"{delivery.source}:{id_}")


def _person(found: Mapping[str, Any], as_of: Millis, delivery: Delivery) -> Normalised:
    """Somebody as Salesforce has them. A lead that became a contact is that contact. Not to have opted out is no
    consent: only the opting out is one's word."""
    contact = found.get("ConvertedContactId")
    id_ = contact or found["Id"]
    country = found.get("MailingCountry") or found.get("Country")
    who = [_customer(id_, delivery)]
    if email := read_email(found.get("Email")):
        who.append(Identifier("email", email))
    if phone := read_phone(found.get("MobilePhone") or found.get("Phone"), country):
        who.append(Identifier("phone", phone))
    created = found.get("CreatedDate")
    data = known(
        first_name=found.get("FirstName"),
        last_name=found.get("LastName"),
        email=email,
        phone=phone,
        city=found.get("MailingCity") or found.get("City"),
        country=country,
        created_at=None if created is None else isoformat(happened_at(delivery.received_at, created)),
    )
    at = happened_at(delivery.received_at, as_of)
    said = (Consent("email", "unsubscribed", at),) if found.get("HasOptedOutOfEmail") else ()
    return Normalised(
        identifiers=tuple(who),
        entities=(Entity("customer", id_, as_of, data),),
        consents=said,
        merged_from=(_customer(found["Id"], delivery),) if contact else (),
        authoritative=True,
    )


def _deleted(found: Mapping[str, Any], as_of: Millis, delivery: Delivery) -> Normalised:
    """Deleted, or merged into another record, which then has what this one had."""
    gone = _customer(found["Id"], delivery)
    if master := found.get("MasterRecordId"):
        return Normalised(identifiers=(_customer(master, delivery),), merged_from=(gone,), authoritative=True)
    entity = Entity("customer", found["Id"], as_of, deleted=True)
    return Normalised(identifiers=(gone,), entities=(entity,), known_only=True)
