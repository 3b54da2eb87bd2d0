"""Destinations: how each account stands, paused and resumed."""

from collections.abc import Iterable

from marshmallow import Schema, fields

from connector.domain import DestinationConfig
from connector.reporting import destinations as report
from connector.reporting.pages import Row
from connector.sync import store
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import instant
from connector.web.problems import not_found

destinations = Noun("destinations", __name__, "Accounts at vendors that we keep equal to the decision.")


class PushErrorAnswer(Schema):
    """What went wrong last."""

    at = instant(required=True)
    profile_id = fields.Integer(required=True)
    status = fields.String(required=True, metadata={"examples": ["rejected"]})
    reason = fields.String(required=True)
    message = fields.String(required=True)


class StandingAnswer(Schema):
    """How a destination stands."""

    name = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    state = fields.String(
        required=True,
        metadata={
            "description": "`active`; `paused` by you; `unauthorized` or `misconfigured` until you act and resume.",
            "examples": ["active"],
        },
    )
    message = fields.String(required=True, metadata={"description": "What the vendor or the check said."})
    retry_at = instant("Nothing is sent before: the vendor asked for it.", required=True)
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
    }
