"""The whole at a glance."""

from marshmallow import Schema, fields, validate

from connector.reporting import status as report
from connector.reporting.pages import Row
from connector.storage.turns import WORKS
from connector.web import current
from connector.web.api.destinations import StandingAnswer
from connector.web.api.routes import Noun
from connector.web.api.segments import RefillAnswer
from connector.web.api.shapes import instant

status = Noun("status", __name__, "Is anything waiting, refilling, paused or dead.")


class PartitionAnswer(Schema):
    """A partition of the log with deliveries that wait."""

    part = fields.Integer(required=True)
    head = fields.Integer(required=True, metadata={"description": "The next position to be written."})
    position = fields.Integer(required=True, metadata={"description": "The next position to be worked on."})
    lag = fields.Integer(required=True)


class ParkedAnswer(Schema):
    """Deliveries that broke us, with those of the same customers behind them: tried again, then dead letters."""

    customers = fields.Integer(required=True)
    deliveries = fields.Integer(required=True)
    oldest_at = instant("Since when the customer waits who waits longest.", required=True)


class LogAnswer(Schema):
    """The log of deliveries."""

    name = fields.String(required=True, metadata={"examples": ["database"]})
    partitions = fields.Integer(required=True)
    message = fields.String(required=True, metadata={"description": "Why it does not tell, or what to know of it."})


class DeadAnswer(Schema):
    """Open dead letters of one reason."""

    kind = fields.String(required=True, metadata={"examples": ["delivery"]})
    reason = fields.String(required=True, metadata={"examples": ["unprocessable"]})
    count = fields.Integer(required=True)


class ErasureAnswer(Schema):
    """Contacts that the law wants erased and that are still there."""

    destination = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    state = fields.String(
        required=True,
        validate=validate.OneOf(["pending", "dead"]),
        metadata={"description": "`dead`: the vendor refused; somebody must erase them there."},
    )
    contacts = fields.Integer(required=True)
    since = instant(required=True)


class AskedAnswer(Schema):
    """How a source stands that has to be asked for what it only names, or does not tell at all."""

    source = fields.String(required=True)
    state = fields.String(
        required=True,
        validate=validate.OneOf(["active", "failing", "stopped"]),
        metadata={"description": "stopped: it lets us in no more; `message` says who must act."},
    )
    waiting = fields.Integer(required=True, metadata={"description": "Things to fetch."})
    failing = fields.Integer(required=True, metadata={"description": "Of these and of its polls, those that failed."})
    message = fields.String(required=True)
    stopped_since = instant(required=True)
    asked_at = instant("When it was last asked in turn.", required=True)


class StreamAnswer(Schema):
    """How a stream stands, as its holder last told."""

    name = fields.String(required=True)
    kind = fields.String(required=True, metadata={"examples": ["kafka"]})
    topic = fields.String(required=True)
    direction = fields.String(required=True, validate=validate.OneOf(["read", "publish"]))
    state = fields.String(required=True, validate=validate.OneOf(["active", "waiting", "failing", "unknown"]))
    message = fields.String(required=True)
    lag = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Records to read, or things to publish."}
    )
    lag_ms = fields.Integer(
        required=True, allow_none=True, metadata={"description": "How far behind, where the broker tells a time."}
    )
    told_at = instant(required=True)
    counts = fields.Dict(fields.String(), fields.Integer(), required=True, metadata={"description": "By outcome."})
    errors = fields.Dict(fields.String(), fields.Integer(), required=True, metadata={"description": "By reason."})


class ProcessAnswer(Schema):
    """A process that lives and works."""

    id = fields.String(required=True, metadata={"examples": ["shop-1/4711/9f03ac"]})
    kind = fields.String(required=True, metadata={"examples": ["worker"]})
    since = instant(required=True)
    until = instant("When it counts as gone unless it says more; null where the system would know.", required=True)


class TurnAnswer(Schema):
    """What only one process does at a time, and which one does it."""

    work = fields.String(required=True, validate=validate.OneOf(WORKS))
    name = fields.String(required=True, metadata={"description": "Of the destination or stream, or what is fetched."})
    process = fields.String(required=True)
    since = instant(required=True)
    until = instant("When another may take it unless its holder says more; null: never while it lives.", required=True)


class StatusAnswer(Schema):
    """The whole at a glance."""

    at = instant(required=True)
    log = fields.Nested(LogAnswer, required=True)
    lag = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "Deliveries that wait; null while the log cannot be asked."},
    )
    oldest_waiting_at = instant("When the one was received that waits longest.", required=True)
    partitions = fields.List(
        fields.Nested(PartitionAnswer), required=True, metadata={"description": "Those with a lag."}
    )
    parked = fields.Nested(ParkedAnswer, required=True)
    processes = fields.List(fields.Nested(ProcessAnswer), required=True)
    turns = fields.List(fields.Nested(TurnAnswer), required=True)
    refills = fields.List(fields.Nested(RefillAnswer), required=True, metadata={"description": "Those under way."})
    destinations = fields.List(fields.Nested(StandingAnswer), required=True)
    streams = fields.List(fields.Nested(StreamAnswer), required=True)
    sources = fields.List(
        fields.Nested(AskedAnswer),
        required=True,
        metadata={"description": "Those that have to be asked, and have anything to tell."},
    )
    erasures = fields.List(fields.Nested(ErasureAnswer), required=True)
    dead_letters = fields.List(fields.Nested(DeadAnswer), required=True)


@status.endpoint("GET", "/status", answers=StatusAnswer)
def get_status() -> Row:
    """What waits in the log, which segments are being refilled, how destinations stand, what is dead."""
    services = current.services()
    configuration = services.configuration()
    with services.database.read() as state:
        named = (list(configuration.destinations), configuration.streams)
        return report.status(state, services.log, services.turns, *named, current.now())
