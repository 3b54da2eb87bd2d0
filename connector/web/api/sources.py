"""Sources: where their deliveries go, and what they sent."""

from collections.abc import Callable

from flask import Response
from marshmallow import Schema, fields

from connector.config.schema import TRACKING
from connector.domain import SourceConfig
from connector.reporting import sources as report
from connector.reporting.pages import Row
from connector.sources.segment_api.calls import PREFIX as EVENTS
from connector.web import current, snippet
from connector.web.api.routes import Noun
from connector.web.api.shapes import instant
from connector.web.problems import not_found

sources = Noun("sources", __name__, "Systems that send us webhooks.")


class SourceAnswer(Schema):
    """A configured source and what it sent."""

    name = fields.String(required=True, metadata={"examples": ["shop"]})
    kind = fields.String(required=True, metadata={"examples": ["shopify"]})
    webhook_url = fields.String(
        required=True,
        metadata={"description": "Where it must send.", "examples": ["https://cues.example.com/webhooks/shopify/shop"]},
    )
    processed = fields.Integer(required=True, metadata={"description": "Deliveries worked off, each once."})
    topics = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    skipped = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True, metadata={"description": "By reason."}
    )
    rejected = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Requests refused at the door, by reason."},
    )
    dead = fields.Integer(required=True, metadata={"description": "Open dead letters."})
    last_at = instant("When a delivery was last worked off.", required=True)


class SourceList(Schema):
    """All configured sources."""

    items = fields.List(fields.Nested(SourceAnswer), required=True)


@sources.endpoint("GET", "/sources", answers=SourceList)
def list_sources() -> Row:
    """All sources with what they sent."""
    configured = current.services().configuration().sources
    current.metrics().flush()  # so that what this process refused shows at once
    with current.services().database.read() as connection:
        standing = report.standing(connection)
    return {"items": [_answer(config, standing) for config in configured.values()]}


@sources.endpoint("GET", "/sources/<name>", answers=SourceAnswer, refuses=(404,))
def get_source(name: str) -> Row:
    """One source."""
    config = current.services().configuration().sources.get(name)
    if config is None:
        raise not_found("source")
    current.metrics().flush()  # so that what this process refused shows at once
    with current.services().database.read() as connection:
        return _answer(config, report.standing(connection))


@sources.endpoint(
    "GET", "/sources/<name>/snippet", answers={"type": "string"}, content_type="text/plain", refuses=(404, 422)
)
def get_source_snippet(name: str) -> Response:
    """The HTML to paste into every page of the shop, as text."""
    return _to_paste(snippet.tag, name)


@sources.endpoint(
    "GET", "/sources/<name>/pixel", answers={"type": "string"}, content_type="text/plain", refuses=(404, 422)
)
def get_source_pixel(name: str) -> Response:
    """The code to paste as a custom pixel of the shop, as text."""
    return _to_paste(snippet.pixel, name)


def _to_paste(made: Callable[[SourceConfig, str], str], name: str) -> Response:
    config = current.services().configuration().sources.get(name)
    if config is None:
        raise not_found("source")
    return Response(made(config, current.services().settings.public_url), content_type="text/plain; charset=utf-8")


def _answer(config: SourceConfig, standing: dict[str, Row]) -> Row:
    address = EVENTS.rstrip("/") if config.kind == TRACKING else f"/webhooks/{config.kind}/{config.name}"
    return {
        "name": config.name,
        "kind": config.kind,
        "webhook_url": f"{current.services().settings.public_url}{address}",
        **(standing.get(config.name) or report.unheard()),
    }
