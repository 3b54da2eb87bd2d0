"""customers/*, tags and the three consent topics: who somebody is and what they allowed."""

from collections.abc import Mapping
from typing import Any, get_args

from connector.clock import Millis, isoformat
from connector.domain import (
    Channel,
    Consent,
    ConsentState,
    Entity,
    Identifier,
    Json,
    Normalised,
    PrivacyKind,
    TagChange,
)
from connector.errors import UnprocessableEvent
from connector.sources.contacts import read_email, read_phone
from connector.sources.instants import OLDEST
from connector.sources.shopify.arrival import Arrival, is_stub, record_id
from connector.sources.shopify.schemas import (
    CUSTOMER,
    EMAIL_CONSENT,
    MERGE,
    REDACT,
    SMS_CONSENT,
    TAGS,
    WHATSAPP_CONSENT,
)

_STATES: dict[str, ConsentState] = {state: state for state in get_args(ConsentState)}


def customer(body: Any, arrival: Arrival) -> Normalised:
    """customers/create, update, enable, disable: the customer in full, with Shopify's authority on e-mail and phone."""
    found = CUSTOMER(body)
    id_ = record_id(found)
    if is_stub(found):
        return Normalised(identifiers=(arrival.customer(id_),), skipped="stub")
    as_of = arrival.version(found.get("updated_at"), found.get("created_at"))
    return Normalised(
        identifiers=identifiers(found, arrival),
        entities=(entity(found, as_of),),
        consents=consents(found, arrival, arrival.at(found.get("updated_at"), found.get("created_at"))),
        authoritative=True,
    )


def customer_deleted(body: Any, arrival: Arrival) -> Normalised:
    """customers/delete: the body is little more than the id."""
    id_ = record_id(CUSTOMER(body))
    return Normalised(
        identifiers=(arrival.customer(id_),),
        entities=(Entity("customer", id_, arrival.version(), deleted=True),),
        authoritative=True,
    )


def merged(body: Any, arrival: Arrival) -> Normalised:
    """customers/merge: two customers are one, once the merge is completed; it may also have failed."""
    found = MERGE(body)
    if found.get("status") != "completed":
        return Normalised(skipped="merge_not_completed")
    kept = found.get("admin_graphql_api_customer_kept_id")
    gone = found.get("admin_graphql_api_customer_deleted_id")
    if kept is None or gone is None:
        raise UnprocessableEvent("/admin_graphql_api_customer_kept_id: both ids are needed", reason="bad_id")
    return Normalised(
        identifiers=(arrival.customer(kept),),
        entities=(Entity("customer", gone, arrival.version(), deleted=True),),
        merged_from=(arrival.customer(gone),),
        authoritative=True,
    )


def redacted(body: Any, arrival: Arrival) -> Normalised:
    """customers/redact: erase this person, known by id or by e-mail alone."""
    return _request(body, arrival, "erase")


def data_requested(body: Any, arrival: Arrival) -> Normalised:
    """customers/data_request: the person wants a copy of what is known of them."""
    return _request(body, arrival, "export")


def shop_redacted(body: Any, arrival: Arrival) -> Normalised:
    """shop/redact: the shop has left, 48 hours ago at least, and its people are to be erased."""
    REDACT(body)
    return Normalised(privacy="erase_source")


def _request(body: Any, arrival: Arrival, kind: PrivacyKind) -> Normalised:
    # Not authoritative: an e-mail that is another customer's by now stays theirs, and a phone is no ground to erase on.
    found = REDACT(body).get("customer") or {}
    who = _who(arrival, found.get("id"), found.get("email"), None)
    if not who:
        raise UnprocessableEvent("/customer: neither an id nor an e-mail", reason="nobody")
    return Normalised(identifiers=who, privacy=kind)


def tagged(body: Any, arrival: Arrival) -> Normalised:
    """customer.tags_added, customer.tags_removed."""
    found = TAGS(body)
    if (id_ := found.get("customerId")) is None:
        raise UnprocessableEvent("/customerId: is missing", reason="bad_id")
    change = TagChange(
        tags=tuple(found.get("tags") or ()),
        added=arrival.topic == "customer.tags_added",
        at=arrival.at(found.get("occurredAt")),
    )
    return Normalised(identifiers=(arrival.customer(id_),), tag_changes=(change,) if change.tags else ())


def email_consent(body: Any, arrival: Arrival) -> Normalised:
    """customers_email_marketing_consent/update."""
    found = EMAIL_CONSENT(body)
    who = _who(arrival, found.get("customer_id"), found.get("email_address"), None)
    return _consented(who, "email", found.get("email_marketing_consent"), arrival)


def sms_consent(body: Any, arrival: Arrival) -> Normalised:
    """customers_marketing_consent/update, which is about SMS and calls the customer `id`."""
    found = SMS_CONSENT(body)
    who = _who(arrival, found.get("id"), None, found.get("phone"))
    return _consented(who, "sms", found.get("sms_marketing_consent"), arrival)


def whatsapp_consent(body: Any, arrival: Arrival) -> Normalised:
    """customers_whats_app_marketing_consent/update, since 2026-07."""
    found = WHATSAPP_CONSENT(body)
    who = _who(arrival, found.get("customer_id"), None, found.get("phone_number"))
    return _consented(who, "whatsapp", found.get("whats_app_marketing_consent"), arrival)


def identifiers(found: Mapping[str, Any], arrival: Arrival) -> tuple[Identifier, ...]:
    """Customer id, e-mail and phone of a customer, whether a body of its own or inside an order."""
    return _who(
        arrival,
        found.get("admin_graphql_api_id") or found.get("id"),
        found.get("email"),
        found.get("phone"),
        _country(found),
    )


def entity(found: Mapping[str, Any], as_of: Millis, locale: str | None = None) -> Entity:
    """The customer as of `as_of`. A key is there when the body has it: null means known to be empty."""
    data: dict[str, Json] = {key: found[key] or None for key in ("first_name", "last_name", "note") if key in found}
    data |= {key: found[key] for key in ("state", "verified_email", "tax_exempt") if found.get(key) is not None}
    if "email" in found:
        data["email"] = read_email(found["email"])
    if "phone" in found:
        data["phone"] = read_phone(found["phone"], _country(found))
    if (found.get("created_at") or 0) >= OLDEST:
        data["created_at"] = isoformat(min(found["created_at"], as_of))  # a trait, and traits have no other dates
    if "tags" in found:
        data["tags"] = found["tags"] or []
    address = found.get("default_address")
    if address is not None:
        data["country"] = address.get("country_code") or None
        data["city"] = address.get("city") or None
    if language := found.get("locale") or locale:
        data["locale"] = language
    return Entity("customer", record_id(found), as_of, data)


def consents(found: Mapping[str, Any], arrival: Arrival, undated: Millis | None) -> tuple[Consent, ...]:
    """Consent in customers before API version 2025-01.

    Without an instant of its own it counts as of `undated`; when that is None (a customer inside an order, maybe old)
    it is left out.
    """

    def at(stated: Millis | None) -> Millis | None:
        return undated if stated is None or stated < OLDEST else min(stated, arrival.received_at)

    spoken: tuple[tuple[Channel, Any], ...] = (
        ("email", found.get("email_marketing_consent")),
        ("sms", found.get("sms_marketing_consent")),
    )
    given = [
        word
        for channel, said in spoken
        if said and (word := consent(channel, said, at(said.get("consent_updated_at"))))
    ]
    accepts = found.get("accepts_marketing")  # the only word until 2024-01
    accepted_at = at(found.get("accepts_marketing_updated_at"))
    if accepts is not None and accepted_at is not None and not any(word.channel == "email" for word in given):
        state: ConsentState = "subscribed" if accepts else "not_subscribed"
        given.append(Consent("email", state, accepted_at, found.get("marketing_opt_in_level")))
    return tuple(given)


def _consented(
    who: tuple[Identifier, ...], channel: Channel, said: Mapping[str, Any] | None, arrival: Arrival
) -> Normalised:
    if not who:
        raise UnprocessableEvent("/customer_id: is missing", reason="bad_id")
    said = said or {}
    word = consent(channel, said, arrival.at(said.get("consent_updated_at"), said.get("updated_at")))
    return Normalised(identifiers=who, consents=(word,) if word else (), authoritative=True)


def consent(channel: Channel, said: Mapping[str, Any], at: Millis | None) -> Consent | None:
    """Shopify's word on one channel: GraphQL spells states in capitals, and null means that nothing was ever said."""
    state = _STATES.get((said.get("state") or "").lower())
    if state is None or at is None:
        return None
    level = said.get("opt_in_level")
    return Consent(channel, state, at, level.lower() if level else None)


def _who(
    arrival: Arrival, id_: str | None, email: str | None, phone: str | None, country: str | None = None
) -> tuple[Identifier, ...]:
    who = [arrival.customer(id_)] if id_ else []
    if address := read_email(email):
        who.append(Identifier("email", address))
    if number := read_phone(phone, country):
        who.append(Identifier("phone", number))
    return tuple(who)


def _country(found: Mapping[str, Any]) -> str | None:
    address = found.get("default_address") or {}
    country: str | None = address.get("country_code")
    return country
