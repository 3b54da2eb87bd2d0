"""Webhooks answered in front of Flask's routing, which costs five times what verifying and keeping a delivery does.

The code that receives is the same as that of the Flask route, which stays for every other path to the application.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog

from connector.domain import RawRequest
from connector.errors import NotDurable, RejectedDelivery
from connector.web.webhooks import PREFIX, Answer, Receiver, refusal, refuse_encoding, status_line, too_large

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

log = structlog.get_logger("webhooks")

Environ = dict[str, Any]


class Ingress:
    """A WSGI application: deliveries are answered here, everything else by `inner`."""

    def __init__(self, inner: "WSGIApplication", receiver: Receiver) -> None:
        self._inner = inner
        self._receiver = receiver

    def __call__(self, environ: Environ, start_response: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "POST" or not path.startswith(PREFIX):
            return self._inner(environ, start_response)
        kind, _, name = path[len(PREFIX) :].partition("/")
        if not kind or not name or "/" in name:
            return self._inner(environ, start_response)
        try:
            answer = self._receive(kind, name, path, environ)
        except Exception:  # a fault of ours must be in our log and must not be answered as if it were kept
            log.exception("delivery.failed", source=name)
            answer = refusal(NotDurable("this is a fault of ours, and it is in the log; send it again"))
        start_response(status_line(answer.status), list(answer.headers))
        return (answer.body,)

    def _receive(self, kind: str, name: str, path: str, environ: Environ) -> Answer:
        try:
            refuse_encoding(environ.get("HTTP_CONTENT_ENCODING", ""))
            body = _body(environ, self._receiver.max_body)
        except RejectedDelivery as error:
            return refusal(error)
        headers = {key[5:].replace("_", "-").lower(): environ[key] for key in environ if key.startswith("HTTP_")}
        return self._receiver.receive(kind, name, RawRequest("POST", path, headers, body))


def _body(environ: Environ, limit: int) -> bytes:
    """The raw body; 413 from its announced length before a byte is read, or once more than `limit` has come."""
    read: Callable[[int], bytes] = environ["wsgi.input"].read
    announced = environ.get("CONTENT_LENGTH") or ""
    if announced:
        if not (announced.isascii() and announced.isdigit()):
            raise RejectedDelivery("Content-Length is not a number", status=400, reason="bad_length")
        if int(announced) > limit:
            raise too_large(limit)
        body = read(int(announced))
    else:
        body = read(limit + 1)
        if len(body) > limit:
            raise too_large(limit)
    return body
