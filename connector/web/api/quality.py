"""The quality of what sources send."""

from marshmallow import Schema, fields

from connector.quality import store
from connector.reporting import quality as report
from connector.reporting.pages import Row
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import Done, instant
from connector.web.problems import not_found

quality = Noun("quality", __name__, "Whether what sources send is valid, timely and of the shape it always had.")


class NoticeAnswer(Schema):
    """A field that was unknown, or of another type, until now."""

    topic = fields.String(required=True, metadata={"examples": ["orders/create"]})
    path = fields.String(required=True, metadata={"examples": ["line_items[].price"]})
    type = fields.String(required=True, metadata={"examples": ["number"]})
    was = fields.List(fields.String(), required=True, metadata={"description": "Its types before; empty: unknown."})
    first_at = instant(required=True)
    delivery_id = fields.String(required=True, metadata={"description": "The first delivery that had it."})


class QualityAnswer(Schema):
    """How good a source is."""

    name = fields.String(required=True, metadata={"examples": ["shop"]})
    good = fields.Integer(required=True, metadata={"description": "Deliveries that were understood."})
    last_good_at = instant(required=True)
    silent_after = fields.String(required=True, allow_none=True, metadata={"examples": ["6h"]})
    silent = fields.Boolean(required=True, metadata={"description": "Nothing good for longer than that."})
    faults = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Noticed in deliveries that counted all the same.", "examples": [{"bad_email": 3}]},
    )
    dead = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Open dead letters by reason."},
    )
    notices = fields.List(fields.Nested(NoticeAnswer), required=True)


@quality.endpoint("GET", "/sources/<name>/quality", answers=QualityAnswer, refuses=(404,))
def get_source_quality(name: str) -> Row:
    """Validity, freshness and shape of what a source sends."""
    config = current.services().configuration().sources.get(name)
    if config is None:
        raise not_found("source")
    with current.services().database.read() as connection:
        return report.quality(connection, {name: config}, current.now())[0]


@quality.endpoint("POST", "/sources/<name>/quality/acknowledge", answers=Done, refuses=(404,))
def acknowledge_source_notices(name: str) -> Row:
    """Note that the notices of a source were read: what is new in its deliveries is known from now on."""
    if name not in current.services().configuration().sources:
        raise not_found("source")
    with current.services().database.tx() as tx:
        return {"count": store.acknowledge(tx, name)}
