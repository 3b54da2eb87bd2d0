"""Profiles: found by any identifier, looked at whole, as a timeline, and by segment."""

from typing import Any

from marshmallow import Schema, fields, validate

from connector.reporting import profiles as report
from connector.reporting import timeline, verdicts
from connector.reporting.pages import Page, Row
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import LARGEST_ID, PageQuery, instant, page_of
from connector.web.problems import not_found

profiles = Noun("profiles", __name__, "One profile per person: identifiers, traits, consent, segments.")

ONE = f"/profiles/<int(max={LARGEST_ID}):profile_id>"


def _identifier(description: str) -> fields.String:
    return fields.String(validate=validate.Length(1, 320), metadata={"description": description})


class ProfileQuery(PageQuery):
    """Whom to look for. Several parameters narrow the list: all of them must fit."""

    email = _identifier("An e-mail address; upper and lower case are the same.")
    phone = _identifier("A phone number with its country code, such as +33612345678.")
    customer_id = _identifier("The shop's customer id: `207119551`, or with its source `shop:207119551`.")
    source = _identifier("The source of `customer_id`; without it, any source.")
    checkout_token = _identifier("The token of a checkout.")
    cart_token = _identifier("The token of a cart.")
    anonymous_id = _identifier("The id of a visitor before anyone knew their name.")
    q = _identifier("The start of any identifier, or a profile id.")


class IdentifierAnswer(Schema):
    """One way to recognise a person."""

    kind = fields.String(required=True, validate=validate.OneOf(report.KINDS))
    value = fields.String(required=True, metadata={"examples": ["ada@example.com"]})
    source = fields.String(required=True, metadata={"examples": ["shop"]})
    seen_at = instant("When it was last seen.", required=True)


class ConsentAnswer(Schema):
    """What a person allowed on a channel."""

    state = fields.String(required=True, metadata={"examples": ["subscribed"]})
    at = instant("Since when.")
    source = fields.String(allow_none=True)
    opt_in_level = fields.String(allow_none=True)


class VerdictAnswer(Schema):
    """A person in a segment, or not, and why."""

    segment = fields.String(required=True, metadata={"examples": ["vip"]})
    matched = fields.Boolean(required=True)
    since = instant("Since when it has been so; null when it was never otherwise.", required=True)
    because = fields.String(required=True, metadata={"examples": ["total_spent is 1240, at least 1000"]})
    recheck_at = instant("When the answer can change with no new event.", required=True)


class NamedVerdictAnswer(VerdictAnswer):
    """A configured segment's verdict on a person."""

    name = fields.String(required=True, metadata={"examples": ["VIP"]})
    stored = fields.Boolean(
        required=True, metadata={"description": "False: decided just now, because nothing had to be remembered."}
    )


class SyncAnswer(Schema):
    """What a destination should show of a person, and what it last accepted."""

    destination = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    desired = fields.Dict(required=True)
    pushed = fields.Dict(required=True, allow_none=True)
    pending = fields.Boolean(required=True)
    due_at = instant("When it is tried next, while pending.", required=True)
    changed_at = instant("When the desired state last changed.", required=True)
    pushed_at = instant("When the vendor last accepted a change.", required=True)
    attempts = fields.Integer(required=True)
    remote_id = fields.String(required=True, allow_none=True)


class ProfileSummary(Schema):
    """A person in a list."""

    id = fields.Integer(required=True, metadata={"examples": [42]})
    email = fields.String(required=True, allow_none=True, metadata={"examples": ["ada@example.com"]})
    traits = fields.Dict(required=True, metadata={"description": "Names and the most asked-for numbers."})
    segments = fields.List(fields.String(), required=True, metadata={"examples": [["vip"]]})
    created_at = instant(required=True)
    updated_at = instant(required=True)


class ProfileAnswer(Schema):
    """All that is known of a person."""

    id = fields.Integer(required=True, metadata={"examples": [42]})
    email = fields.String(required=True, allow_none=True, metadata={"examples": ["ada@example.com"]})
    merged_from = fields.List(
        fields.Integer(), required=True, metadata={"description": "Profiles that went into this one."}
    )
    traits = fields.Dict(required=True, metadata={"examples": [{"first_name": "Ada", "total_spent": 1240.5}]})
    consent = fields.Dict(keys=fields.String(), values=fields.Nested(ConsentAnswer), required=True)
    identifiers = fields.List(fields.Nested(IdentifierAnswer), required=True)
    segments = fields.List(fields.Nested(VerdictAnswer), required=True)
    destinations = fields.List(fields.Nested(SyncAnswer), required=True)
    created_at = instant(required=True)
    updated_at = instant(required=True)


class TimelineEntry(Schema):
    """An event, a change or a push."""

    type = fields.String(required=True, validate=validate.OneOf(["event", "change", "push"]))
    at = instant(required=True)
    name = fields.String(required=True, metadata={"examples": ["Order Completed"]})
    source = fields.String(
        required=True, allow_none=True, metadata={"description": "The source of an event, the destination of a push."}
    )
    id = fields.String(required=True)
    data = fields.Dict(required=True, metadata={"examples": [{"total": 89.9}]})


class VerdictList(Schema):
    """Every configured segment's verdict."""

    items = fields.List(fields.Nested(NamedVerdictAnswer), required=True)


@profiles.endpoint("GET", "/profiles", query=ProfileQuery, answers=page_of(ProfileSummary, "ProfilePage"))
def list_profiles(query: dict[str, Any]) -> Page:
    """Profiles, newest first, found by any identifier."""
    wanted = {kind: [query[kind]] for kind in report.KINDS if kind in query}
    if "email" in wanted:
        wanted["email"] = [query["email"].strip().lower()]
    if "phone" in wanted:
        wanted["phone"] = ["+" + "".join(digit for digit in query["phone"] if digit in "0123456789")]
    if "customer_id" in wanted:
        wanted["customer_id"] = _customer_ids(query["customer_id"], query.get("source"))
    with current.services().database.read() as connection:
        return report.search(connection, wanted, query.get("q"), query.get("cursor"), query["limit"])


@profiles.endpoint("GET", ONE, answers=ProfileAnswer, refuses=(404,))
def get_profile(profile_id: int) -> Row:
    """All that is known of a person.

    The id of a profile that was merged into another answers with that other one: its `id` differs from the one asked
    for, and `merged_from` lists the latter.
    """
    with current.services().database.read() as connection:
        found = report.one(connection, profile_id)
    if found is None:
        raise not_found("profile")
    return found


@profiles.endpoint(
    "GET", f"{ONE}/timeline", query=PageQuery, answers=page_of(TimelineEntry, "TimelinePage"), refuses=(404,)
)
def get_profile_timeline(query: dict[str, Any], profile_id: int) -> Page:
    """Everything that happened to a person: events, changes and pushes, newest first."""
    with current.services().database.read() as connection:
        found = report.survivor(connection, profile_id)
        if found is None:
            raise not_found("profile")
        return timeline.timeline(connection, found, query.get("cursor"), query["limit"])


@profiles.endpoint("GET", f"{ONE}/segments", answers=VerdictList, refuses=(404,))
def get_profile_segments(profile_id: int) -> Row:
    """Every configured segment: in or out, since when, why, and when that can change by itself."""
    services = current.services()
    configuration, ruleset = services.configuration(), services.ruleset()
    with services.database.read() as connection:
        found = report.survivor(connection, profile_id)
        if found is None:
            raise not_found("profile")
        return {"items": verdicts.verdicts(connection, configuration, ruleset, found, current.now())}


def _customer_ids(customer_id: str, source: str | None) -> list[str]:
    """The identifiers that a customer id may mean: stored, it carries its source."""
    if source is not None:
        return [f"{source}:{customer_id}"]
    return [customer_id, *(f"{name}:{customer_id}" for name in current.services().configuration().sources)]
