"""Dead letters: looked at, mended, put in line again or aside."""

import base64
import binascii
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from connector.reporting import dead_letters as report
from connector.reporting.pages import Page, Row
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import LARGEST_ID, Done, Flag, Instant, PageQuery, instant, page_of
from connector.web.problems import Refused, not_found

dead_letters = Noun("dead letters", __name__, "What could not be processed, or was rejected for good.")

ONE = f"/dead-letters/<int(max={LARGEST_ID}):letter_id>"
_MOST_REPLAYED = 10_000  # in one request; `count` says how many it were, repeat it for more
_TEXT = validate.Length(1, 320)


class LetterFilter(Schema):
    """Which dead letters."""

    kind = fields.String(validate=validate.OneOf(report.KINDS))
    origin = fields.String(validate=_TEXT, metadata={"description": "The source, or the destination."})
    reference = fields.String(validate=_TEXT, metadata={"description": "The sender's delivery id, or the profile id."})
    topic = fields.String(validate=_TEXT, metadata={"examples": ["orders/create"]})
    reason = fields.String(validate=_TEXT, metadata={"examples": ["unprocessable"]})
    since = Instant(metadata={"description": "Died at this instant or later."})
    until = Instant(metadata={"description": "Died before this instant."})


class LetterQuery(LetterFilter, PageQuery):
    """Which part of the list of which dead letters."""

    state = fields.String(
        validate=validate.OneOf(report.STATES),
        metadata={"description": "Without it, all of them."},
    )


class LetterSummary(Schema):
    """A dead letter in a list."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(report.KINDS))
    origin = fields.String(required=True, metadata={"examples": ["shop"]})
    reference = fields.String(required=True)
    topic = fields.String(required=True)
    reason = fields.String(required=True)
    message = fields.String(required=True)
    at = instant(required=True)
    state = fields.String(required=True, validate=validate.OneOf(report.STATES))


class LetterAnswer(LetterSummary):
    """A dead letter with what it holds."""

    headers = fields.Dict(required=True)
    body = fields.String(required=True)
    encoding = fields.String(required=True, validate=validate.OneOf(["utf-8", "base64"]))


class LetterBody(Schema):
    """A mended body."""

    body = fields.String(required=True, metadata={"examples": ['{"id": 450789469, "total_price": "12.50"}']})
    encoding = fields.String(load_default="utf-8", validate=validate.OneOf(["utf-8", "base64"]))


class ReplayLettersBody(Schema):
    """Which open dead letters to try again: these ids, those of a filter, or both at once."""

    ids = fields.List(
        fields.Integer(strict=True, validate=validate.Range(0, LARGEST_ID)),
        validate=validate.Length(1, 1000),
        metadata={"examples": [[7, 8]]},
    )
    filter = fields.Nested(LetterFilter, metadata={"examples": [{"reason": "unprocessable"}]})
    fire_triggers = Flag(
        load_default=True,
        metadata={"description": "Let changes of segments send trigger events: they have not been sent yet."},
    )

    @validates_schema
    def _not_everything(self, data: dict[str, Any], **_: Any) -> None:
        if "ids" not in data and not data.get("filter"):
            raise ValidationError("give `ids`, or at least one member of `filter`")


@dead_letters.endpoint("GET", "/dead-letters", query=LetterQuery, answers=page_of(LetterSummary, "LetterPage"))
def list_dead_letters(query: dict[str, Any]) -> Page:
    """Dead letters, newest first."""
    wanted = report.Filter(**{name: value for name, value in query.items() if name not in ("cursor", "limit")})
    with current.services().database.read() as connection:
        return report.dead_letters(connection, wanted, query.get("cursor"), query["limit"])


@dead_letters.endpoint("GET", ONE, answers=LetterAnswer, refuses=(404,))
def get_dead_letter(letter_id: int) -> Row:
    """One dead letter with its headers and its body."""
    with current.services().database.read() as connection:
        found = report.one(connection, letter_id)
    if found is None:
        raise not_found("dead letter")
    return found


@dead_letters.endpoint("PATCH", ONE, body=LetterBody, answers=LetterAnswer, refuses=(404, 409))
def edit_dead_letter(body: dict[str, Any], letter_id: int) -> Row:
    """Mend the body of a delivery that could not be understood. Replay it afterwards."""
    content = _content(body)
    with current.services().database.tx() as tx:
        if not report.edit(tx, letter_id, content):
            raise _unchanged(report.one(tx, letter_id), "only an open delivery can be edited")
    return get_dead_letter(letter_id)


@dead_letters.endpoint("POST", f"{ONE}/discard", answers=LetterAnswer, refuses=(404, 409))
def discard_dead_letter(letter_id: int) -> Row:
    """Put a dead letter aside for good. It stays in the list, as discarded."""
    with current.services().database.tx() as tx:
        if not report.discard(tx, letter_id):
            raise _unchanged(report.one(tx, letter_id), "it is not open any more")
    return get_dead_letter(letter_id)


@dead_letters.endpoint("POST", "/dead-letters/replay", body=ReplayLettersBody, answers=Done, status=202)
def replay_dead_letters(body: dict[str, Any]) -> Row:
    """Try open dead letters again: deliveries go back in line, contacts and trigger events to their sender."""
    services = current.services()
    wanted = report.Filter(state="open", **body.get("filter", {}))
    with services.database.read() as connection:
        ids = report.ids(connection, wanted, body.get("ids"), _MOST_REPLAYED)
    return {"count": services.replay_dead_letters(ids, fire_triggers=body["fire_triggers"], now=current.now())}


def _content(body: dict[str, Any]) -> bytes:
    text: str = body["body"]
    if body["encoding"] == "utf-8":
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Refused(422, "not base64", errors=[{"pointer": "/body", "detail": "not base64"}]) from None


def _unchanged(found: Row | None, why: str) -> Refused:
    return not_found("dead letter") if found is None else Refused(409, why)
