"""A delivery received: verified on its raw bytes, filed, durable, answered. Nothing is parsed here."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog
from flask import Response, request
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import Millis
from connector.domain import RawRequest
from connector.errors import ConnectorError, NotDurable, RejectedDelivery
from connector.ports import EventLog, Greets, New, Reply, Source, Thanks
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.problems import CONTENT_TYPE

if TYPE_CHECKING:
    from connector.services import Services
    from connector.web.metrics import Metrics

log = structlog.get_logger("webhooks")

PREFIX = "/webhooks/"
_LOOK_EVERY = 0.5  # seconds between looks for a newer configuration: a look costs as much as an append
DURABLE_WITHIN = 3.0  # seconds: Shopify gives up after 5 (2026-09)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender gets."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


_ACCEPTED = Answer(200, (("Content-Type", "application/json"), ("Content-Length", "12")), b'{"ok":true}\n')


class _Known(NamedTuple):
    """A source as it is configured now, and what its kind does besides: to ask that of a Protocol takes 6 us."""

    source: Source
    secrets: tuple[str, ...]
    greets: Greets | None
    accepted: Answer

    @classmethod
    def of(cls, source: Source, secrets: tuple[str, ...]) -> "_Known":
        thanks = _answer(source.accepted) if isinstance(source, Thanks) else _ACCEPTED
        return cls(source, secrets, source if isinstance(source, Greets) else None, thanks)


class Receiver:
    """Receives deliveries for the configured sources; shared by the threads of a web process."""

    def __init__(self, services: "Services", metrics: "Metrics", now: Callable[[], Millis]) -> None:
        self._services = services
        self._metrics = metrics
        self.now = now
        self._known: Mapping[str, _Known] | None = None
        self._looked_at = float("-inf")
        self._looking = threading.Lock()
        self._told_at = float("-inf")  # when the log was last told of too much
        self.origin: str = services.settings.public_url

    @property
    def log(self) -> EventLog:
        return self._services.log

    @property
    def max_body(self) -> int:
        return self._services.settings.max_body

    def receive(self, kind: str, name: str, incoming: RawRequest) -> Answer:
        """The answer to one delivery: 200 only once it is durable, a problem otherwise. Waits for the log."""
        started = time.perf_counter()
        try:
            if self.outdated():
                self.look()
            admitted = self.admit(kind, name, incoming)
            if isinstance(admitted, Answer):
                return admitted
            if admitted:
                self._services.log.append(admitted, DURABLE_WITHIN)
        except (RejectedDelivery, NotDurable, SQLAlchemyError) as error:
            return self.refused(name, error)
        return self.accepted(name, started, len(admitted))

    def admit(self, kind: str, name: str, incoming: RawRequest) -> list[New] | Answer:
        """The deliveries of a genuine request, ready for the log; or the answer to a sender that tries the address.

        Raises RejectedDelivery, or NotDurable without secrets.
        """
        found = (self._known or {}).get(name)
        if found is None or found.source.kind != kind:
            raise RejectedDelivery(f"there is no {kind} source named {name!r}", status=404, reason="no_source")
        source, secrets, greets, _ = found
        if not secrets:
            raise NotDurable(f"the secrets of source {name!r} cannot be read; its operator must look at the log")
        if greets is not None and (reply := greets.greet(incoming, secrets)) is not None:
            return _answer(reply)
        if incoming.method != "POST":
            raise RejectedDelivery("send deliveries by POST", status=405, reason="method_not_allowed")
        source.verify(incoming, secrets)
        return [
            New(
                key=f"{name}/{claim.key}",
                source=name,
                delivery_id=claim.delivery_id,
                topic=claim.topic,
                received_at=incoming.received_at,
                headers=orjson.dumps(claim.headers).decode(),
                body=incoming.body if claim.body is None else claim.body,
            )
            for claim in source.claim(incoming)
        ]

    def accepted(self, name: str, started: float, count: int) -> Answer:
        """The answer to `count` deliveries that are durable; they began at `started` of time.perf_counter."""
        self._metrics.accepted(name, time.perf_counter() - started, count)
        found = (self._known or {}).get(name)
        return _ACCEPTED if found is None else found.accepted

    def refused(self, name: str, error: RejectedDelivery | NotDurable | SQLAlchemyError) -> Answer:
        """The answer to a delivery that was not taken, counted and logged."""
        if isinstance(error, RejectedDelivery):
            self._metrics.rejected(name if error.reason != "no_source" else "", error.reason)
            log.warning("delivery.rejected", source=name, status=error.status, reason=error.reason, hint=error.message)
            return refusal(error)
        if isinstance(error, SQLAlchemyError):
            log.error("delivery.database_failed", source=name, exc_info=error)
            return refusal(NotDurable("the database did not answer; send it again"))
        self._metrics.rejected(name, error.reason)
        log.error("delivery.not_durable", source=name, hint=error.message, cause=repr(error.__cause__))
        return refusal(error)

    def shed(self, name: str, error: NotDurable) -> Answer:
        """The answer to a request that was refused because there is too much: counted, logged once a second."""
        self._metrics.rejected(name if name in (self._known or {}) else "", error.reason)
        if time.monotonic() - self._told_at > 1.0:
            self._told_at = time.monotonic()
            log.error("delivery.overloaded", source=name, hint=error.message)
        return refusal(error)

    def outdated(self) -> bool:
        """True when it is time to `look`."""
        return time.monotonic() - self._looked_at > _LOOK_EVERY

    def look(self) -> None:
        """Learn the sources as they are configured now. One thread looks; the others go on with what is known, but at
        the very start they wait, because a source that is not known yet would be refused. A state that is away is no
        reason to refuse what the log would take: what is known goes on to count."""
        if self._looking.acquire(blocking=self._known is None):
            try:
                if self._known is None or self.outdated():
                    self._known = {name: _Known.of(*held) for name, held in self._services.sources().items()}
                    self._looked_at = time.monotonic()
            except SQLAlchemyError as error:
                if self._known is None:
                    raise
                self._looked_at = time.monotonic()
                log.error("webhooks.state_away", error=type(error).__name__)
            finally:
                self._looking.release()


def _answer(reply: Reply) -> Answer:
    """A handshake's answer. It may repeat a stranger's words, so no browser may take it for a page."""
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    stated = {name.lower() for name, _ in reply.headers}
    return Answer(
        reply.status,
        (
            *reply.headers,
            *(header for header in headers if header[0].lower() not in stated),
            ("Content-Length", str(len(reply.body))),
        ),
        reply.body,
    )


def refusal(error: RejectedDelivery | NotDurable) -> Answer:
    """The problem+json of a delivery that was not taken."""
    status = error.status if isinstance(error, RejectedDelivery) else 503
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": _TITLES[status],
            "status": status,
            "detail": error.message,
            "reason": error.reason,
        }
    )
    headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))]
    if status == 405:
        headers.append(("Allow", "GET, OPTIONS, POST"))
    if isinstance(error, NotDurable):
        headers.append(("Retry-After", str(max(1, error.retry_after // 1000))))
    return Answer(status, tuple(headers), body)


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    503: "Service Unavailable",
}


def refuse_encoding(encoding: str) -> None:
    """Raises unless the body is sent as it is: no sender of ours compresses, and a bomb must not be inflated."""
    if encoding and encoding != "identity":
        raise RejectedDelivery(
            f"send the body uncompressed: Content-Encoding {encoding!r} is not taken here",
            status=415,
            reason="content_encoding",
        )


def too_large(limit: int) -> RejectedDelivery:
    return RejectedDelivery(f"the body is larger than {limit} bytes", status=413, reason="too_large")


blueprint = Noun("webhooks", __name__, "Where sources deliver. Signed; no bearer token.", prefix=PREFIX.rstrip("/"))


@blueprint.endpoint(
    "POST",
    "/<kind>/<source>",
    answers={"type": "object", "properties": {"ok": {"const": True}}},
    takes="application/json",
    refuses=(400, 401, 404, 413, 415, 503),
)
def receive(kind: str, source: str) -> Response:
    """One delivery, kept: 200 once it is durable, so that a repeat is harmless.

    The raw body is verified, kept durably and answered; what it means is worked out afterwards.
    """
    return _received(kind, source)


@blueprint.endpoint(
    "GET",
    "/<kind>/<source>",
    answers={"type": "string"},
    content_type="text/plain",
    refuses=(400, 401, 404, 405, 503),
)
def challenge(kind: str, source: str) -> Response:
    """The answer to a sender that tries the address before it uses it, where its kind does that; 405 elsewhere."""
    return _received(kind, source)


@blueprint.endpoint(
    "OPTIONS",
    "/<kind>/<source>",
    answers={"type": "string"},
    content_type="text/plain",
    refuses=(400, 401, 404, 405, 503),
)
def permission(kind: str, source: str) -> Response:
    """The answer to a sender that asks whether it may send (CloudEvents' WebHook-Request-Origin); 405 elsewhere."""
    return _received(kind, source)


def _received(kind: str, source: str) -> Response:
    receiver = current.receiver()
    try:
        refuse_encoding(request.headers.get("Content-Encoding", ""))
        incoming = RawRequest(
            method=request.method,
            path=request.path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.get_data(),
            query=request.query_string.decode("latin-1"),
            received_at=receiver.now(),
            origin=receiver.origin,
        )
        answer = receiver.receive(kind, source, incoming)
    except ConnectorError as error:
        if not isinstance(error, RejectedDelivery):
            raise
        answer = refusal(error)
    return Response(answer.body, answer.status, list(answer.headers))
