"""The whole at a glance."""

from marshmallow import Schema, fields

from connector.reporting import status as report
from connector.reporting.pages import Row
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


class DeadAnswer(Schema):
    """Open dead letters of one reason."""

    kind = fields.String(required=True, metadata={"examples": ["delivery"]})
    reason = fields.String(required=True, metadata={"examples": ["unprocessable"]})
    count = fields.Integer(required=True)


class StatusAnswer(Schema):
    """The whole at a glance."""

    at = instant(required=True)
    lag = fields.Integer(required=True, metadata={"description": "Deliveries that wait."})
    oldest_waiting_at = instant("When the one was received that waits longest.", required=True)
    partitions = fields.List(
        fields.Nested(PartitionAnswer), required=True, metadata={"description": "Those with a lag."}
    )
    refills = fields.List(fields.Nested(RefillAnswer), required=True, metadata={"description": "Those under way."})
    destinations = fields.List(fields.Nested(StandingAnswer), required=True)
    dead_letters = fields.List(fields.Nested(DeadAnswer), required=True)


@status.endpoint("GET", "/status", answers=StatusAnswer)
def get_status() -> Row:
    """What waits in the log, which segments are being refilled, how destinations stand, what is dead."""
    services = current.services()
    names = list(services.configuration().destinations)
    with services.database.read() as state, services.inbox.read() as inbox:
        return report.status(state, inbox, names, current.now())
