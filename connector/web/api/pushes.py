"""What was sent to the vendors."""

from typing import Any

from marshmallow import Schema, fields, validate

from connector.reporting import pushes as report
from connector.reporting.pages import Page
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import LARGEST_ID, Instant, PageQuery, instant, page_of

pushes = Noun("pushes", __name__, "What was sent to vendors, and what they said.")


class PushQuery(PageQuery):
    """Which part of the list of which pushes."""

    destination = fields.String(validate=validate.Length(1, 320))
    profile_id = fields.Integer(validate=validate.Range(0, LARGEST_ID))
    kind = fields.String(validate=validate.OneOf(report.KINDS))
    status = fields.String(validate=validate.OneOf(report.STATUSES))
    since = Instant(metadata={"description": "At this instant or later."})
    until = Instant(metadata={"description": "Before this instant."})


class PushAnswer(Schema):
    """One item sent to a vendor."""

    id = fields.Integer(required=True)
    destination = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    profile_id = fields.Integer(required=True, metadata={"examples": [42]})
    kind = fields.String(required=True, validate=validate.OneOf(report.KINDS))
    at = instant(required=True)
    status = fields.String(required=True, validate=validate.OneOf(report.STATUSES))
    reason = fields.String(required=True)
    message = fields.String(required=True)
    data = fields.Dict(required=True, metadata={"examples": [{"tags_added": ["vip"], "tags_removed": []}]})


@pushes.endpoint("GET", "/pushes", query=PushQuery, answers=page_of(PushAnswer, "PushPage"))
def list_pushes(query: dict[str, Any]) -> Page:
    """Pushes, newest first."""
    wanted = report.Filter(**{name: value for name, value in query.items() if name not in ("cursor", "limit")})
    with current.services().database.read() as connection:
        return report.pushes(connection, wanted, query.get("cursor"), query["limit"])
