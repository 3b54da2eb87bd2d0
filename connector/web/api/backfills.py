"""A source's past: fetched from its own API, and compared with what came."""

from typing import Any

from marshmallow import Schema, fields, validate

from connector import asking
from connector.backfill import store
from connector.errors import ConnectorError
from connector.reporting.pages import Row
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import Done, Instant, instant
from connector.web.problems import Refused, not_found

backfills = Noun("backfills", __name__, "What was at a source before, and what no delivery told.")

STATES = ("wanted", "bulk", "sort", "append", "pages", "cancelling", "done", "failed", "cancelled")


class BackfillAnswer(Schema):
    """How far one kind of thing has been fetched."""

    kind = fields.String(required=True, metadata={"examples": ["customers"]})
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    since = instant("Only what changed since then.", required=True)
    expected = fields.Integer(required=True, allow_none=True, metadata={"description": "Things; null: not known."})
    fetched = fields.Integer(required=True, metadata={"description": "Things put in line."})
    size = fields.Integer(required=True, allow_none=True, metadata={"description": "Bytes of the bulk result."})
    loaded = fields.Integer(required=True, metadata={"description": "Bytes of it that are here."})
    started_at = instant(required=True)
    finished_at = instant(required=True)
    message = fields.String(required=True, metadata={"description": "What it waits for, or why it failed."})


class BackfillList(Schema):
    """The latest backfill of each kind."""

    items = fields.List(fields.Nested(BackfillAnswer), required=True)


class BackfillBody(Schema):
    """What to fetch; everything when it is empty."""

    kinds = fields.List(
        fields.String(validate=validate.Length(1, 50)),
        data_key="only",
        validate=validate.Length(1, 20),
        metadata={"examples": [["orders"]]},
    )
    since = Instant(metadata={"examples": ["2026-01-01T00:00:00Z"]})


class BegunAnswer(Schema):
    """The kinds that will be fetched, without those that are being fetched already."""

    kinds = fields.List(fields.String(), required=True)


class FindingAnswer(Schema):
    """One thing that was looked at."""

    name = fields.String(required=True, metadata={"examples": ["read_orders"]})
    good = fields.Boolean(required=True)
    hint = fields.String(required=True, metadata={"description": "What was found, and who must act."})


class DayAnswer(Schema):
    """The orders placed on one local day."""

    day = fields.String(required=True, metadata={"examples": ["2026-11-21"]})
    there = fields.Integer(required=True)
    here = fields.Integer(required=True)


class SourceReport(Schema):
    """What is missing of a source, and why."""

    source = fields.String(required=True)
    good = fields.Boolean(required=True)
    findings = fields.List(fields.Nested(FindingAnswer), required=True)
    days = fields.List(fields.Nested(DayAnswer), required=True)


@backfills.endpoint("GET", "/sources/<name>/backfills", answers=BackfillList, refuses=(404,))
def list_backfills(name: str) -> Row:
    """How far what was at the source before has been fetched."""
    _known(name)
    with current.services().database.read() as connection:
        return {"items": store.all_of(connection, name)}


@backfills.endpoint("POST", "/sources/<name>/backfills", body=BackfillBody, answers=BegunAnswer, refuses=(404, 422))
def start_backfill(body: dict[str, Any], name: str) -> Row:
    """Fetch what was there before. The worker does, and goes on after a restart; nothing is started by it."""
    _known(name)
    try:
        kinds = asking.ask(current.services(), name, body.get("kinds"), body.get("since"), current.now())
    except ConnectorError as error:
        raise Refused(422, error.message) from None
    return {"kinds": kinds}


@backfills.endpoint("POST", "/sources/<name>/backfills/cancel", answers=Done, refuses=(404,))
def cancel_backfill(name: str) -> Row:
    """Fetch no further. What has been fetched stays."""
    _known(name)
    with current.services().database.tx() as tx:
        return {"count": store.cancel(tx, name, current.now())}


@backfills.endpoint("POST", "/sources/<name>/verify", answers=SourceReport, refuses=(404, 422))
def verify_source(name: str) -> Row:
    """Ask the source what it has, and compare. Changes nothing."""
    _known(name)
    try:
        found = asking.report(current.services(), name, current.now())
    except ConnectorError as error:
        raise Refused(422, error.message) from None
    return {
        "source": found.source,
        "good": found.good,
        "findings": [one._asdict() for one in found.findings],
        "days": [{"day": one.day, "there": one.there, "here": one.here} for one in found.days],
    }


def _known(name: str) -> None:
    if name not in current.services().configuration().sources:
        raise not_found("source")
