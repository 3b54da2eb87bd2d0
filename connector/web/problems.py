"""Errors as application/problem+json (RFC 9457): who must act, where, and nothing about our insides."""

import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from flask import Flask, Response, request
from marshmallow import Schema, fields
from sqlalchemy.exc import OperationalError
from werkzeug import Response as BaseResponse
from werkzeug.exceptions import HTTPException

from connector.config.yaml_file import InvalidConfiguration
from connector.errors import (
    ConfigurationError,
    ConnectorError,
    DefinitionError,
    Fenced,
    NotDurable,
    NotPermitted,
    RejectedDelivery,
    UnprocessableEvent,
)
from connector.reporting.pages import BadCursor

CONTENT_TYPE = "application/problem+json"

_STATUS: dict[type[ConnectorError], int] = {
    BadCursor: 422,
    DefinitionError: 422,
    ConfigurationError: 422,
    UnprocessableEvent: 422,
    NotPermitted: 403,
    Fenced: 409,
    NotDurable: 503,
}

REASONS: dict[str, str] = {
    "bad_request": "The request could not be read: malformed JSON, for example. Nothing was done.",
    "unauthorized": "The route needs a bearer token: STORECUE_API_TOKEN, or one made by `storecue token create`.",
    "not_found": "There is no such route or object.",
    "method_not_allowed": "The route exists, but not for this method; see the Allow header.",
    "conflict": "The object is in a state that does not allow this.",
    "too_large": "The body is larger than STORECUE_MAX_BODY allows.",
    "unsupported_media_type": "Send the body as application/json, without a Content-Encoding.",
    "invalid": "A parameter or a part of the body is not as described; `errors` lists each with a JSON pointer.",
    "definition": "A definition is wrong at `pointer`.",
    "configuration": "The configuration cannot be used as it stands.",
    "cursor": "The cursor was not made by this list. Start again without one.",
    "not_durable": "The delivery could not be kept in time. Send it again.",
    "database_unavailable": "The database did not answer. Try again shortly.",
    "vendor_refused": "The vendor refuses what we ask of it; the text says who must act.",
    "vendor_unavailable": "The vendor does not answer now. Try again after Retry-After.",
    "internal": "A fault of ours. It is in the log under the `id` given here.",
}

_SLUGS = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
}

log = structlog.get_logger(__name__)


class Fault(Schema):
    """One thing that is wrong with a request."""

    pointer = fields.String(required=True, metadata={"description": "JSON pointer into the body, or the parameter."})
    detail = fields.String(required=True)


class Problem(Schema):
    """What went wrong, as RFC 9457 has it."""

    type = fields.String(required=True, metadata={"format": "uri-reference"})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    reason = fields.String(required=True, metadata={"description": "A slug for programs; /docs lists them."})
    pointer = fields.String(metadata={"description": "JSON pointer to what is wrong in a definition."})
    errors = fields.List(fields.Nested(Fault))
    id = fields.String(metadata={"description": "Names the fault in our log (500 only)."})


class Refused(Exception):
    """A request that we answer with a problem. `reason` is one of REASONS, or the slug of a ConnectorError."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason or _SLUGS[status]
        self.errors = errors
        self.headers = headers or {}


def not_found(what: str) -> Refused:
    """The refusal for an object that does not exist."""
    return Refused(404, f"there is no such {what}")


def problem(
    status: int, detail: str, *, reason: str, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """The response for a problem. `members` that are empty are left out."""
    body = {
        "type": f"/docs#problem-{reason}" if reason in REASONS else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
        **{name: value for name, value in members.items() if value},
    }
    return Response(orjson.dumps(body), status, {**(headers or {}), "Content-Type": CONTENT_TYPE})


def install(app: Flask) -> None:
    """Make every error of `app` a problem."""
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(ConnectorError, _connector)
    app.register_error_handler(OperationalError, _database)
    app.register_error_handler(Exception, _fault)


def _refused(error: Refused) -> Response:
    return problem(error.status, error.detail, reason=error.reason, errors=list(error.errors), headers=error.headers)


def _http(error: HTTPException) -> BaseResponse:
    status = error.code or 500
    if status < 400:  # a redirect of the router is no problem
        return error.get_response(request.environ)
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    return problem(status, error.description or "", reason=_SLUGS.get(status, "bad_request"), headers=headers)


def _connector(error: ConnectorError) -> Response:
    if isinstance(error, RejectedDelivery):
        return problem(error.status, error.message, reason=error.reason)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    if status == 500:
        return _fault(error)
    headers = {"Retry-After": str(max(1, error.retry_after // 1000))} if isinstance(error, NotDurable) else {}
    pointer = error.pointer if isinstance(error, DefinitionError) else ""
    errors: list[dict[str, str]] = []
    if isinstance(error, InvalidConfiguration):
        errors = [{"pointer": one.pointer, "detail": one.message} for one in error.problems]
        pointer = errors[0]["pointer"]
    return problem(status, error.message, reason=error.reason, headers=headers, pointer=pointer, errors=errors)


def _database(error: OperationalError) -> Response:
    log.error("database unavailable", path=request.path, error=str(error.orig))
    return problem(
        503, "the database did not answer; try again", reason="database_unavailable", headers={"Retry-After": "1"}
    )


def _fault(error: Exception) -> Response:
    fault = secrets.token_hex(8)
    log.error("request failed", id=fault, method=request.method, path=request.path, exc_info=error)
    return problem(500, "this is a fault of ours; it is in the log", reason="internal", id=fault)
