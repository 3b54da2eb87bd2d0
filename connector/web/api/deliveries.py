"""Deliveries as received, and putting them in line again."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from connector.reporting import deliveries as report
from connector.reporting.pages import Page, Row
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import LARGEST_ID, Done, Flag, Instant, PageQuery, instant, page_of
from connector.web.problems import not_found

deliveries = Noun("deliveries", __name__, "Requests from sources, kept raw.")

_TEXT = validate.Length(1, 320)


class DeliveryFilter(Schema):
    """Which deliveries."""

    source = fields.String(validate=_TEXT)
    topic = fields.String(validate=_TEXT, metadata={"examples": ["orders/create"]})
    since = Instant(metadata={"description": "Received at this instant or later."})
    until = Instant(metadata={"description": "Received before this instant."})


class DeliveryQuery(DeliveryFilter, PageQuery):
    """Which part of the list of which deliveries."""

    state = fields.String(validate=validate.OneOf(report.STATES))
    delivery_id = fields.String(validate=_TEXT, metadata={"description": "The sender's id."})


class DeliverySummary(Schema):
    """A delivery in a list."""

    id = fields.Integer(required=True, metadata={"description": "Ours, in the order of arrival."})
    source = fields.String(required=True, metadata={"examples": ["shop"]})
    delivery_id = fields.String(required=True, metadata={"description": "The sender's."})
    topic = fields.String(required=True, metadata={"examples": ["orders/create"]})
    received_at = instant(required=True)
    state = fields.String(
        required=True,
        validate=validate.OneOf(report.STATES),
        metadata={"description": "`queued`, `processed`, or `dead`: in the dead letters."},
    )
    key = fields.String(required=True, metadata={"description": "Deliveries of one key are worked off in order."})
    part = fields.Integer(required=True)
    pos = fields.Integer(required=True)


class DeliveryAnswer(DeliverySummary):
    """A delivery with what was received."""

    headers = fields.Dict(required=True, metadata={"description": "Those that the source needs."})
    body = fields.String(required=True)
    encoding = fields.String(required=True, validate=validate.OneOf(["utf-8", "base64"]))


class ReplayBody(Schema):
    """Which stored deliveries to put in line again. At least one member of `filter` is needed."""

    filter = fields.Nested(DeliveryFilter, required=True, metadata={"examples": [{"topic": "orders/create"}]})
    fire_triggers = Flag(
        load_default=False, metadata={"description": "Let changes of segments send trigger events again."}
    )

    @validates_schema
    def _not_everything(self, data: dict[str, Any], **_: Any) -> None:
        if not data["filter"]:
            raise ValidationError("give at least one member", "filter")


@deliveries.endpoint("GET", "/deliveries", query=DeliveryQuery, answers=page_of(DeliverySummary, "DeliveryPage"))
def list_deliveries(query: dict[str, Any]) -> Page:
    """Deliveries, newest first, with what became of each."""
    services = current.services()
    wanted = report.Filter(**{name: value for name, value in query.items() if name not in ("cursor", "limit")})
    with services.database.read() as state, services.inbox.read() as inbox:
        return report.deliveries(state, inbox, wanted, query.get("cursor"), query["limit"])


@deliveries.endpoint("GET", f"/deliveries/<int(max={LARGEST_ID}):delivery_row>", answers=DeliveryAnswer, refuses=(404,))
def get_delivery(delivery_row: int) -> Row:
    """One delivery with its headers and its body as received."""
    services = current.services()
    with services.database.read() as state, services.inbox.read() as inbox:
        found = report.one(state, inbox, delivery_row)
    if found is None:
        raise not_found("delivery")
    return found


@deliveries.endpoint("POST", "/replay", body=ReplayBody, answers=Done, status=202)
def replay_deliveries(body: dict[str, Any]) -> Row:
    """Put stored deliveries in line again, oldest first. Entities and events are the same afterwards; rules, traits
    and desired states are computed anew."""
    count = current.services().replay_deliveries(
        **body["filter"], fire_triggers=body["fire_triggers"], now=current.now()
    )
    return {"count": count}
