"""Who may use the API: a bearer token, STORECUE_API_TOKEN or one of those made with `storecue token create`."""

import hmac

import structlog
from flask import Flask, request

from connector.web import current, store
from connector.web.problems import Refused
from connector.web.store import Token, create_token, list_tokens, revoke_token

__all__ = ["Token", "create_token", "install", "list_tokens", "require_token", "revoke_token"]

_PREFIX = "/api/"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="storecue"'}
_WRONG = {"WWW-Authenticate": 'Bearer realm="storecue", error="invalid_token"'}
_LONGEST = 512

log = structlog.get_logger(__name__)


def install(app: Flask) -> None:
    """Ask for a token on everything under /api/, unknown routes included."""
    app.before_request(_guard)


def require_token() -> None:
    """Returns when the request carries a valid token; raises Refused (401) otherwise."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refused(
            401, "send `Authorization: Bearer <token>`; `storecue token create` makes one", headers=_CHALLENGE
        )
    if len(token) > _LONGEST or not _is_valid(token):
        log.warning("wrong API token", client=request.remote_addr, method=request.method, path=request.path)
        raise Refused(401, "this token is not valid, or was revoked", headers=_WRONG)


def _guard() -> None:
    if request.path.startswith(_PREFIX):
        require_token()


def _is_valid(token: str) -> bool:
    services = current.services()
    known = services.settings.api_token
    if known and hmac.compare_digest(store.digest(known), store.digest(token)):
        return True
    with services.database.read() as connection:
        found = store.find_token(connection, token)
    if found is None:
        return False
    now = current.now()
    if store.needs_touch(found, now):
        with services.database.tx(beside=True) as tx:
            store.touch_token(tx, found.id, now)
    return True
