"""Destinations: how each account stands, what will be pushed, paused and resumed, approved."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice

from marshmallow import Schema, fields, validate

from connector.domain import DestinationConfig
from connector.reporting import destinations as report
from connector.reporting.pages import Row
from connector.sync import guard, outlook, store
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import instant
from connector.web.api.verification import VerificationAnswer
from connector.web.problems import Refused, not_found

destinations = Noun("destinations", __name__, "Accounts at vendors that we keep equal to the decision.")


class PushErrorAnswer(Schema):
    """What went wrong last."""

    at = instant(required=True)
    profile_id = fields.Integer(required=True)
    status = fields.String(required=True, metadata={"examples": ["rejected"]})
    reason = fields.String(required=True)
    message = fields.String(required=True)


class HoldAnswer(Schema):
    """A change to too many contacts, as it was counted."""

    changes = fields.Integer(required=True, metadata={"description": "All of them: the number to approve."})
    accepted = fields.Integer(required=True, metadata={"description": "Contacts that the vendor accepted from us."})
    changed = fields.Integer(required=True, metadata={"description": "Of these, how many would change."})
    new = fields.Integer(required=True, metadata={"description": "Contacts that may be made there."})
    only_there = fields.Integer(
        required=True, metadata={"description": "Contacts that may not be made, and change if they are there."}
    )
    since = instant("When it was counted.", required=True)


class HeldAnswer(HoldAnswer):
    """What is held at a destination until somebody approves."""

    contacts = fields.Integer(required=True, metadata={"description": "How many of them still wait."})


class EngagementAnswer(Schema):
    """Up to when an account has told what people do with its mails."""

    until = instant("Everything before it is here.", required=True)
    at = instant("When it was last asked.", required=True)
    error = fields.String(required=True, metadata={"description": "Why it did not tell; empty when it did."})


class StandingAnswer(Schema):
    """How a destination stands."""

    name = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    state = fields.String(
        required=True,
        metadata={
            "description": "`active`; `held` while a change to too many waits for your approval and people's own news"
            " flows; `paused` by you; `unauthorized` or `misconfigured` until you act and resume.",
            "examples": ["active"],
        },
    )
    message = fields.String(required=True, metadata={"description": "What the vendor or the check said."})
    retry_at = instant("Nothing is sent before: the vendor asked for it.", required=True)
    held = fields.Nested(
        HeldAnswer, required=True, allow_none=True, metadata={"description": "What waits for an approval."}
    )
    pending = fields.Integer(required=True, metadata={"description": "Contacts to push."})
    pending_cues = fields.Integer(required=True, metadata={"description": "Trigger events to send."})
    oldest_pending_at = instant("Since when the oldest contact waits.", required=True)
    last_hour = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Pushes of the last hour by status.", "examples": [{"applied": 310, "rejected": 1}]},
    )
    last_error = fields.Nested(PushErrorAnswer, required=True, allow_none=True)
    last_verification = fields.Nested(VerificationAnswer, required=True, allow_none=True)
    engagement = fields.Nested(
        EngagementAnswer,
        required=True,
        allow_none=True,
        metadata={"description": "What people do with mails, where the account is asked for it."},
    )


class DestinationAnswer(StandingAnswer):
    """A configured destination and how it stands. Credentials are never shown."""

    kind = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    dry_run = fields.Boolean(required=True)
    segments = fields.List(
        fields.String(), required=True, allow_none=True, metadata={"description": "null: all of them."}
    )
    lists = fields.Boolean(required=True)
    events = fields.Boolean(required=True)
    create_contacts = fields.String(required=True, metadata={"examples": ["always"]})
    at_most_every = fields.String(
        required=True, metadata={"description": "How long further changes of fields alone wait.", "examples": ["1m"]}
    )
    wait_for_more = fields.Boolean(
        required=True, metadata={"description": "The first change of a field waits as well."}
    )


class TagCountAnswer(Schema):
    """How many contacts get and lose a tag."""

    added = fields.Integer(required=True)
    removed = fields.Integer(required=True)


class CountingAnswer(Schema):
    """How far a refill has come; `of` is 0 while a replay is worked off."""

    done = fields.Integer(required=True)
    of = fields.Integer(required=True)


class ComingAnswer(Schema):
    """One contact that waits to be pushed. Never its address."""

    profile_id = fields.Integer(required=True)
    kind = fields.String(required=True, metadata={"examples": ["changed"]})
    held = fields.Boolean(required=True)
    tags_added = fields.List(fields.String(), required=True)
    tags_removed = fields.List(fields.String(), required=True)
    fields_ = fields.Dict(keys=fields.String(), required=True, data_key="fields", attribute="fields")
    moved = fields.Boolean(required=True, metadata={"description": "To another address."})


class OutlookQuery(Schema):
    """How much of the plan is shown."""

    contacts = fields.Integer(
        load_default=20, validate=validate.Range(0, 1000), metadata={"description": "How many contacts are listed."}
    )


class OutlookAnswer(Schema):
    """What the next pushes to a destination will do."""

    contacts = fields.Integer(required=True, metadata={"description": "To how many something will be sent."})
    new = fields.Integer(required=True)
    only_there = fields.Integer(
        required=True, metadata={"description": "May not be made (create_contacts): skipped unless they are there."}
    )
    changed = fields.Integer(required=True)
    same = fields.Integer(required=True, metadata={"description": "They wait, and nothing will be sent."})
    moved = fields.Integer(required=True, metadata={"description": "To another address."})
    tags = fields.Dict(keys=fields.String(), values=fields.Nested(TagCountAnswer), required=True)
    fields_ = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True, data_key="fields", attribute="fields"
    )
    cues = fields.Integer(required=True, metadata={"description": "Trigger events that wait."})
    waiting = fields.Integer(required=True, metadata={"description": "Contacts that wait for the guard."})
    counting = fields.Nested(CountingAnswer, required=True, allow_none=True)
    held = fields.Nested(HoldAnswer, required=True, allow_none=True)
    items = fields.List(fields.Nested(ComingAnswer), required=True)


class Approval(Schema):
    """What is approved."""

    changes = fields.Integer(required=True, metadata={"description": "`held.changes`, as it was shown."})


class DestinationList(Schema):
    """All configured destinations."""

    items = fields.List(fields.Nested(DestinationAnswer), required=True)


@destinations.endpoint("GET", "/destinations", answers=DestinationList)
def list_destinations() -> Row:
    """All destinations and how they stand."""
    return {"items": _answers(current.services().configuration().destinations.values())}


@destinations.endpoint("GET", "/destinations/<name>", answers=DestinationAnswer, refuses=(404,))
def get_destination(name: str) -> Row:
    """One destination and how it stands."""
    return _answers([_configured(name)])[0]


@destinations.endpoint("POST", "/destinations/<name>/pause", answers=DestinationAnswer, refuses=(404,))
def pause_destination(name: str) -> Row:
    """Stop pushing to a destination. Decisions go on; what it should show waits."""
    config = _configured(name)
    with current.services().database.tx() as tx:
        store.pause(tx, name, current.now(), "paused through the API")
    return _answers([config])[0]


@destinations.endpoint("POST", "/destinations/<name>/resume", answers=DestinationAnswer, refuses=(404,))
def resume_destination(name: str) -> Row:
    """Push to a destination again, after a pause or once its credentials are mended."""
    config = _configured(name)
    with current.services().database.tx() as tx:
        store.resume(tx, name, current.now())
    return _answers([config])[0]


@destinations.endpoint("GET", "/destinations/<name>/plan", query=OutlookQuery, answers=OutlookAnswer, refuses=(404,))
def get_destination_plan(query: Row, name: str) -> Row:
    """What the next pushes to a destination will do, in numbers and for the first contacts by profile id."""
    config, services = _configured(name), current.services()
    review = guard.Review() if config.dry_run else guard.review(services.database, name, current.now())
    with services.database.read() as connection:
        numbers = outlook.outlook(connection, name)
        items = [asdict(one) for one in islice(outlook.listed(connection, name), query["contacts"])]
    return {**outlook.as_json(numbers, review), "items": items}


@destinations.endpoint(
    "POST", "/destinations/<name>/approve", body=Approval, answers=DestinationAnswer, refuses=(404, 409)
)
def approve_destination(body: Row, name: str) -> Row:
    """Let go what is held at a destination. `changes` must be the number that was shown, so that nobody approves what
    they have not seen."""
    config, database = _configured(name), current.services().database
    review = guard.review(database, name, current.now())
    if review.counting is not None:
        raise Refused(409, "it is not known yet how many contacts will change: a refill or a replay is under way")
    if review.hold is None:
        raise Refused(409, "nothing is held")
    if body["changes"] != review.hold.changes:
        raise Refused(409, f"{review.hold.changes} changes are held, not {body['changes']}: look at the plan again")
    if not guard.approve(database, name, review.decision):
        raise Refused(409, "something else was decided meanwhile: look at the plan again")
    return _answers([config])[0]


def _configured(name: str) -> DestinationConfig:
    config = current.services().configuration().destinations.get(name)
    if config is None:
        raise not_found("destination")
    return config


def _answers(configs: Iterable[DestinationConfig]) -> list[Row]:
    by_name = {config.name: config for config in configs}
    with current.services().database.read() as connection:
        standings = report.standings(connection, by_name, current.now())
    return [{**_settings(by_name[standing["name"]]), **standing} for standing in standings]


def _settings(config: DestinationConfig) -> Row:
    return {
        "kind": config.kind,
        "dry_run": config.dry_run,
        "segments": None if config.segments is None else list(config.segments),
        "lists": config.lists,
        "events": config.events,
        "create_contacts": config.create_contacts,
        "at_most_every": config.at_most_every,
        "wait_for_more": config.wait_for_more,
    }
