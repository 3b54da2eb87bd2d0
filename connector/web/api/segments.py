"""Segments: their rules, how many are in them and who."""

from typing import Any

from marshmallow import Schema, fields

from connector.domain import SegmentConfig
from connector.reporting import segments as report
from connector.reporting.pages import Page, Row
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import PageQuery, instant, page_of
from connector.web.problems import not_found

segments = Noun("segments", __name__, "Rules that decide who is in, right to the second.")


class RefillAnswer(Schema):
    """How far the background has come in deciding a changed rule for everybody."""

    segment = fields.String(
        required=True, metadata={"description": "Empty: everybody's desired states are being renewed."}
    )
    progress = fields.Float(required=True, metadata={"description": "0 to 1.", "examples": [0.42]})
    position = fields.Integer(required=True, metadata={"description": "Profiles up to this id are done."})
    last = fields.Integer(required=True)
    started_at = instant(required=True)
    finished_at = instant(required=True)
    expected_at = instant("When it will be done at the pace so far.", required=True)


class SegmentAnswer(Schema):
    """A configured segment."""

    id = fields.String(required=True, metadata={"examples": ["vip"]})
    name = fields.String(required=True, metadata={"examples": ["VIP"]})
    when = fields.Dict(
        required=True,
        metadata={"description": "The rule as written.", "examples": [{"trait": "total_spent", ">=": 1000}]},
    )
    members = fields.Integer(required=True, metadata={"examples": [128]})
    refill = fields.Nested(RefillAnswer, required=True, allow_none=True)


class SegmentList(Schema):
    """All configured segments, in the file's order."""

    items = fields.List(fields.Nested(SegmentAnswer), required=True)


class MemberAnswer(Schema):
    """A person in a segment."""

    profile_id = fields.Integer(required=True, metadata={"examples": [42]})
    email = fields.String(required=True, allow_none=True)
    since = instant(required=True)
    because = fields.String(required=True)
    recheck_at = instant("When the person can fall out with no new event.", required=True)


@segments.endpoint("GET", "/segments", answers=SegmentList)
def list_segments() -> Row:
    """All segments with how many people are in each, and the state of their last refill."""
    now = current.now()
    configured = current.services().configuration().segments
    with current.services().database.read() as connection:
        counts, refills = report.counts(connection), report.refills(connection, now)
    return {"items": [_answer(config, counts, refills) for config in configured.values()]}


@segments.endpoint("GET", "/segments/<segment_id>", answers=SegmentAnswer, refuses=(404,))
def get_segment(segment_id: str) -> Row:
    """One segment."""
    config, now = _configured(segment_id), current.now()
    with current.services().database.read() as connection:
        return _answer(config, report.counts(connection, segment_id), report.refills(connection, now))


@segments.endpoint(
    "GET",
    "/segments/<segment_id>/members",
    query=PageQuery,
    answers=page_of(MemberAnswer, "MemberPage"),
    refuses=(404,),
)
def list_segment_members(query: dict[str, Any], segment_id: str) -> Page:
    """Who is in a segment, by profile id, with why and since when."""
    _configured(segment_id)
    with current.services().database.read() as connection:
        return report.members(connection, segment_id, query.get("cursor"), query["limit"])


def _configured(segment_id: str) -> SegmentConfig:
    config = current.services().configuration().segments.get(segment_id)
    if config is None:
        raise not_found("segment")
    return config


def _answer(config: SegmentConfig, counts: dict[str, int], refills: dict[str, Row]) -> Row:
    return {
        "id": config.id,
        "name": config.name,
        "when": config.when,
        "members": counts.get(config.id, 0),
        "refill": refills.get(config.id),
    }
