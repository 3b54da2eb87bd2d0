"""Privacy requests: a copy of what is known of a person, their erasure, and the receipts."""

import uuid
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from connector.domain import Identifier
from connector.privacy import store
from connector.privacy.requests import request
from connector.reporting import export as report
from connector.reporting.pages import Page, Row, cut, decode
from connector.sources.contacts import read_email
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import LARGEST_ID, PageQuery, instant, page_of
from connector.web.problems import Refused, not_found

privacy = Noun("privacy", __name__, "What people may ask for by law, and what became of it.")

ONE = f"/privacy-requests/<int(max={LARGEST_ID}):request_id>"


class ReceiptAnswer(Schema):
    """What became of contacts at a destination."""

    destination = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    state = fields.String(required=True, validate=validate.OneOf(["pending", "done", "dead"]))
    contacts = fields.Integer(required=True)
    at = instant(required=True)
    message = fields.String(required=True)


class PrivacyRequestAnswer(Schema):
    """A request and its receipts. It holds no address."""

    id = fields.Integer(required=True, metadata={"examples": [3]})
    kind = fields.String(required=True, validate=validate.OneOf(["export", "erase", "erase_source"]))
    source = fields.String(required=True, metadata={"description": "Who asked: a source, `api` or `cli`."})
    reference = fields.String(required=True, metadata={"description": "The sender's delivery id."})
    profile_id = fields.Integer(
        required=True, allow_none=True, metadata={"description": "null: nobody here was meant."}
    )
    received_at = instant(required=True)
    run_at = instant("Not before this instant: the erasure of a whole source can be cancelled.", required=True)
    state = fields.String(required=True, validate=validate.OneOf(["open", "done", "cancelled"]))
    people = fields.Integer(required=True, metadata={"description": "Erased here."})
    deliveries = fields.Integer(required=True, metadata={"description": "Raw deliveries erased here."})
    closed_at = instant(required=True)
    message = fields.String(required=True)
    receipts = fields.List(fields.Nested(ReceiptAnswer), required=True)


def _address(value: str) -> None:
    if read_email(value) is None:
        raise ValidationError("is not an e-mail address")


class PrivacyRequestBody(Schema):
    """Who wants what."""

    kind = fields.String(required=True, validate=validate.OneOf(["export", "erase"]))
    email = fields.String(required=True, validate=_address, metadata={"examples": ["ada@example.com"]})


class ExportAnswer(Schema):
    """All that is known of a person."""

    profile = fields.Dict(required=True)
    orders = fields.List(fields.Dict(), required=True)
    refunds = fields.List(fields.Dict(), required=True)
    records = fields.List(fields.Dict(), required=True, metadata={"description": "Things of the shop: carts, ..."})
    timeline = fields.List(fields.Dict(), required=True)


@privacy.endpoint(
    "GET", "/privacy-requests", query=PageQuery, answers=page_of(PrivacyRequestAnswer, "PrivacyRequestPage")
)
def list_privacy_requests(query: dict[str, Any]) -> Page:
    """Requests, newest first."""
    before = None if query.get("cursor") is None else int(decode(query["cursor"], int)[0])
    with current.services().database.read() as connection:
        rows = store.requests(connection, before=before, limit=query["limit"] + 1)
    return cut([dict(row) for row in rows], query["limit"], lambda row: (row["id"],))


@privacy.endpoint("POST", "/privacy-requests", body=PrivacyRequestBody, answers=PrivacyRequestAnswer, status=201)
def create_privacy_request(body: dict[str, Any]) -> Row:
    """Ask for a copy of what is known of the person with this address, or erase them here and at every destination.

    An erasure is done here before the answer; there is no way back.
    """
    services, now = current.services(), current.now()
    who = [Identifier("email", read_email(body["email"]) or "")]
    destinations, reference = services.configuration().destinations, str(uuid.uuid4())
    with services.database.tx() as tx:
        id_ = request(tx, body["kind"], who, destinations, source="api", reference=reference, received_at=now, now=now)
        assert id_ is not None  # the reference is new
        return _one(store.request(tx, id_))


@privacy.endpoint("GET", ONE, answers=PrivacyRequestAnswer, refuses=(404,))
def get_privacy_request(request_id: int) -> Row:
    """One request and its receipts."""
    with current.services().database.read() as connection:
        return _one(store.request(connection, request_id))


@privacy.endpoint("GET", f"{ONE}/export", answers=ExportAnswer, refuses=(404, 409))
def get_privacy_export(request_id: int) -> Row:
    """The copy that a person asked for, as of now. Close the request when it was handed over."""
    with current.services().database.read() as connection:
        asked = _one(store.request(connection, request_id))
        if asked["kind"] != "export":
            raise Refused(409, "this request asks for an erasure, not for a copy")
        found = None if asked["profile_id"] is None else report.export(connection, asked["profile_id"])
    if found is None:
        raise not_found("profile")
    return found


@privacy.endpoint("POST", f"{ONE}/close", answers=PrivacyRequestAnswer, refuses=(404, 409))
def close_privacy_request(request_id: int) -> Row:
    """Note that a copy was handed over."""
    with current.services().database.tx() as tx:
        asked = _one(store.request(tx, request_id))
        if asked["kind"] != "export" or not store.close_request(tx, request_id, current.now(), message="handed over"):
            raise Refused(409, "only an open request for a copy can be closed; an erasure closes when it is done")
        return _one(store.request(tx, request_id))


@privacy.endpoint("POST", f"{ONE}/run", answers=PrivacyRequestAnswer, refuses=(404, 409))
def run_privacy_request(request_id: int) -> Row:
    """Erase a source that has left now, without waiting for the rest of its seven days."""
    with current.services().database.tx() as tx:
        _one(store.request(tx, request_id))
        if not store.run_now(tx, request_id, current.now()):
            raise Refused(409, "this request does not wait")
        return _one(store.request(tx, request_id))


@privacy.endpoint("POST", f"{ONE}/cancel", answers=PrivacyRequestAnswer, refuses=(404, 409))
def cancel_privacy_request(request_id: int) -> Row:
    """Cancel the erasure of a source while it waits, because the shop has come back."""
    with current.services().database.tx() as tx:
        _one(store.request(tx, request_id))
        if not store.cancel(tx, request_id, current.now()):
            raise Refused(409, "this request does not wait")
        return _one(store.request(tx, request_id))


def _one(found: Any) -> Row:
    if found is None:
        raise not_found("privacy request")
    return dict(found)
