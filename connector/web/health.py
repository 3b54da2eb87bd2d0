"""Is the process alive, is it ready, and how much has it done."""

from collections.abc import Callable

from flask import Response, request
from marshmallow import Schema, fields, validate
from sqlalchemy.exc import SQLAlchemyError

from connector.errors import ConnectorError
from connector.web import auth, current, store
from connector.web.api.routes import Noun
from connector.web.metrics import CONTENT_TYPE

health = Noun("health", __name__, "For load balancers, supervisors and Prometheus.", prefix="")

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


class Alive(Schema):
    """The process answers."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class Check(Schema):
    """One thing that must work before traffic makes sense."""

    name = fields.String(required=True, metadata={"examples": ["database"]})
    ok = fields.Boolean(required=True)


class Ready(Schema):
    """What was tried, and whether all of it worked."""

    status = fields.String(required=True, validate=validate.OneOf(["ok", "unavailable"]))
    checks = fields.List(fields.Nested(Check), required=True)


@health.endpoint("GET", "/healthz", answers=Alive)
def get_health() -> dict[str, str]:
    """Whether the process is alive. It asks nothing else, so that a full disk does not restart it for ever."""
    return {"status": "ok"}


@health.endpoint("GET", "/readyz", answers=Ready, also={503: Ready})
def get_readiness() -> tuple[dict[str, object], int]:
    """Whether deliveries can be kept: the database takes a write transaction and the log takes deliveries."""
    checks = [{"name": name, "ok": _works(check)} for name, check in _CHECKS.items()]
    ok = all(check["ok"] for check in checks)
    return {"status": "ok" if ok else "unavailable", "checks": checks}, 200 if ok else 503


@health.endpoint("GET", "/metrics", answers={"type": "string"}, content_type="text/plain", refuses=(401,))
def get_metrics() -> Response:
    """The metrics in Prometheus' text format. From another machine, or through a proxy, with a bearer token."""
    if request.remote_addr not in _LOOPBACK or any(name in request.headers for name in _FORWARDED):
        auth.require_token()
    return Response(current.metrics().exposition(), content_type=CONTENT_TYPE)


def _database() -> None:
    with current.services().database.tx() as tx:
        store.note_ready(tx, current.now())


def _log() -> None:
    current.services().log.check()


_CHECKS = {"database": _database, "log": _log}


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except (ConnectorError, SQLAlchemyError):
        return False
    return True
