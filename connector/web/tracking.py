"""The Segment-compatible tracking API: events of sites, apps and servers, each durable before the answer.

One append for a request, one delivery for each of its events. The answers are those that Segment's and RudderStack's
clients expect: 200 {"success": true} once everything is durable, 400 for what they must not send again.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog
from flask import Response, request
from marshmallow import Schema, fields
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import Millis
from connector.domain import RawRequest
from connector.errors import NotDurable, RejectedDelivery
from connector.ports import EventLog, New
from connector.sources.segment_api import SegmentApi
from connector.sources.segment_api.calls import CALLS, MOST_EVENTS, Grant, open_call, split
from connector.sources.segment_api.calls import PREFIX as PREFIX
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.problems import not_found
from connector.web.webhooks import DURABLE_WITHIN, Answer

if TYPE_CHECKING:
    from connector.domain import SourceConfig
    from connector.services import Services
    from connector.web.metrics import Metrics

log = structlog.get_logger("tracking")

_LOOK_EVERY = 0.5  # seconds between looks for a newer configuration
_PREFLIGHT_FOR = "86400"  # seconds: browsers keep a permission for two hours at most
_ASKED = ("Authorization, Content-Type, Content-Encoding, X-Retry-Count", "GET, POST, OPTIONS")
_JSON = ("Content-Type", "application/json")
_SUCCESS = b'{"success":true}'


class Opener(NamedTuple):
    """What a write key opens: a source, by a server's or a browser's word, from these origins, this often."""

    source: str
    grant: Grant
    origins: frozenset[str]
    allowance: "Allowance | None"


class Taken(NamedTuple):
    """The deliveries of a request, ready for the log."""

    source: str
    origin: str
    deliveries: Sequence[New]


class Tracker:
    """Takes events for the configured sources; shared by the threads of a web process."""

    def __init__(self, services: "Services", metrics: "Metrics", now: Callable[[], Millis]) -> None:
        self._services = services
        self._metrics = metrics
        self.now = now
        self._openers: Mapping[bytes, Opener] | None = None
        self._origins: frozenset[str] = frozenset()
        self._looked_at = float("-inf")
        self._version = -1
        self._unread = True
        self._looking = threading.Lock()

    @property
    def log(self) -> EventLog:
        return self._services.log

    def receive(self, incoming: RawRequest) -> Answer:
        """The answer to one request: 200 only once all its events are durable. Waits for the log."""
        started = time.perf_counter()
        try:
            if self.outdated():
                self.look()
            taken = self.take(incoming)
            if isinstance(taken, Answer):
                return taken
            if taken.deliveries:
                self.log.append(taken.deliveries, DURABLE_WITHIN)
        except (NotDurable, SQLAlchemyError) as error:
            return self.failed(incoming, error)
        return self.accepted(taken, started)

    def take(self, incoming: RawRequest) -> Taken | Answer:
        """The events of a request with a valid key; or its answer, where there is nothing to keep."""
        origin = incoming.headers.get("origin", "")
        name = ""
        try:
            if incoming.method == "OPTIONS":
                return self._permission(origin)
            if incoming.method != "POST":
                raise RejectedDelivery("send events by POST", status=405, reason="method_not_allowed")
            if incoming.path.removeprefix(PREFIX) not in CALLS:
                raise RejectedDelivery("there is no such call", status=404, reason="no_call")
            call = open_call(incoming)
            opener = self._opener(call.key)
            name = opener.source
            _check_origin(opener, origin)
            claims = split(call, opener.grant)
            if opener.allowance is not None:
                opener.allowance.spend(len(claims), time.monotonic())
        except RejectedDelivery as error:
            return self._refused(name, origin, error)
        headers = orjson.dumps(opener.grant.headers()).decode()
        return Taken(
            name,
            origin,
            [
                New(f"{name}/{key}", name, id_, topic, incoming.received_at, headers, body or b"")
                for id_, topic, key, _, body in claims
            ],
        )

    def accepted(self, taken: Taken, started: float) -> Answer:
        """The answer to events that are durable; the request began at `started` of time.perf_counter."""
        self._metrics.accepted(taken.source, time.perf_counter() - started, len(taken.deliveries))
        return self._answer(200, _SUCCESS, taken.origin)

    def failed(self, incoming: RawRequest, error: NotDurable | SQLAlchemyError) -> Answer:
        """The answer to events that could not be kept: the client sends them again."""
        log.error("events.not_durable", path=incoming.path, cause=repr(error.__cause__ or error))
        body = _failure("not_durable", "the events could not be kept in time; send them again")
        return self._answer(503, body, incoming.headers.get("origin", ""), ("Retry-After", "1"))

    def browser_key(self, key: str) -> bool:
        """True for a key that stands on pages: what it opens may be told to anybody."""
        if self.outdated():
            self.look()
        opener = (self._openers or {}).get(_digest(key))
        return opener is not None and opener.grant.trust == "browser"

    def with_origin(self, origin: str) -> tuple[tuple[str, str], ...]:
        """The headers by which a page of a configured origin may read an answer. There are no cookies to allow."""
        if not origin:
            return ()
        allowed = origin in self._origins or "*" in self._origins
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin")) if allowed else (("Vary", "Origin"),)

    # --- keys and origins ---------------------------------------------------------------------------------------------

    def _opener(self, key: str) -> Opener:
        opener = (self._openers or {}).get(_digest(key)) if key else None
        if opener is None and self._unread:
            raise NotDurable("the secrets of a source cannot be read; its operator must look at the log")
        if opener is None:
            raise RejectedDelivery(
                "the write key is missing or fits no source; send it as the user of Authorization: Basic, or as "
                "`writeKey` in the body",
                status=401,
                reason="bad_write_key",
            )
        return opener

    def _permission(self, origin: str) -> Answer:
        if origin not in self._origins and "*" not in self._origins:
            raise _wrong_origin()
        asked = (("Access-Control-Allow-Headers", _ASKED[0]), ("Access-Control-Allow-Methods", _ASKED[1]))
        return self._answer(204, b"", origin, *asked, ("Access-Control-Max-Age", _PREFLIGHT_FOR))

    def _refused(self, name: str, origin: str, error: RejectedDelivery) -> Answer:
        self._metrics.rejected(name, error.reason)
        log.warning("events.rejected", source=name, status=error.status, reason=error.reason, hint=error.message)
        further = (("Retry-After", "1"), ("X-RateLimit-Reset", "1")) if error.status == 429 else ()
        return self._answer(error.status, _failure(error.reason, error.message), origin, *further)

    def _answer(self, status: int, body: bytes, origin: str, *further: tuple[str, str]) -> Answer:
        # Scripts of other origins are to read it, which is why it says so itself.
        shared = ("Cross-Origin-Resource-Policy", "cross-origin")
        headers = (_JSON, ("Content-Length", str(len(body))), shared, *self.with_origin(origin), *further)
        return Answer(status, headers, body)

    # --- the configuration in force -----------------------------------------------------------------------------------

    def outdated(self) -> bool:
        """True when it is time to `look`."""
        return time.monotonic() - self._looked_at > _LOOK_EVERY

    def look(self) -> None:
        """Learn the keys as they are configured now; it reads the database. One thread looks, the others go on. While
        the database is away, what is known goes on to count."""
        if self._looking.acquire(blocking=self._openers is None):
            try:
                if self._openers is None or self.outdated():
                    configuration = self._services.configuration()
                    if configuration.version != self._version or self._unread:
                        self._learn(configuration.sources)
                        self._version = configuration.version
                    self._looked_at = time.monotonic()
            except SQLAlchemyError as error:
                if self._openers is None:
                    raise
                self._looked_at = time.monotonic()
                log.error("tracking.state_away", error=type(error).__name__)
            finally:
                self._looking.release()

    def _learn(self, configured: "Mapping[str, SourceConfig]") -> None:
        openers: dict[bytes, Opener] = {}
        origins: set[str] = set()
        self._unread = False
        for name, (source, secrets) in self._services.sources().items():
            if source.kind != SegmentApi.kind:
                continue
            config = configured[name]
            shop = configured.get(config.shop or "")
            ids = f"{shop.kind}:{shop.name}" if shop else ""
            if config.browser is not None:
                taken = frozenset(config.browser.origins)
                origins |= taken
                for key in config.browser.keys:
                    allowance = Allowance(config.browser.events_per_second, time.monotonic())
                    openers[_digest(key)] = Opener(name, Grant("browser", ids), taken, allowance)
            for secret in secrets:
                openers[_digest(secret)] = Opener(name, Grant("server", ids), frozenset(), None)
            if not secrets:
                self._unread = True
        self._openers, self._origins = openers, frozenset(origins)


class Allowance:
    """How many events a public key may still bring: refilled each second, full with the largest batch."""

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._most = max(2 * per_second, MOST_EVENTS)
        self._left = float(self._most)
        self._at = now
        self._lock = threading.Lock()

    def spend(self, events: int, now: float) -> None:
        """Take `events` away; RejectedDelivery 429 when there are not so many left."""
        with self._lock:
            self._left = min(self._most, self._left + max(0.0, now - self._at) * self._per_second)
            self._at = now
            if events > self._left:
                raise RejectedDelivery(
                    f"this key may bring {self._per_second} events per second; send them again later",
                    status=429,
                    reason="rate_limited",
                )
            self._left -= events


def _digest(key: str) -> bytes:
    """What keys are looked up by: a comparison of digests tells nothing of a key by how long it takes."""
    return blake2b(key.encode("utf-8", "replace"), digest_size=32).digest()


def _check_origin(opener: Opener, origin: str) -> None:
    if not origin:
        return  # apps and servers have none
    if opener.grant.trust == "server":
        raise RejectedDelivery(
            "this is a server's key, and it came from a browser: replace the key, and use one of the source's "
            "`browser` keys on pages",
            status=403,
            reason="server_key_in_browser",
        )
    if origin not in opener.origins and "*" not in opener.origins:
        raise _wrong_origin()


def _wrong_origin() -> RejectedDelivery:
    return RejectedDelivery(
        "pages of this origin may not send here: name it under `origins` of the source", status=403, reason="bad_origin"
    )


def _failure(code: str, message: str) -> bytes:
    return orjson.dumps({"success": False, "code": code, "message": message})


# --- behind Flask -----------------------------------------------------------------------------------------------------

blueprint = Noun("tracking", __name__, "Events of sites, apps and servers. A write key; no bearer token.", prefix="/v1")

_SUCCEEDS = {"type": "object", "required": ["success"], "properties": {"success": {"const": True}}}


class EventsRefused(Schema):
    """Why a request's events were not taken, as the clients read it."""

    success = fields.Boolean(required=True, metadata={"examples": [False]})
    code = fields.String(required=True, metadata={"examples": ["bad_write_key"]})
    message = fields.String(required=True)


_REFUSED = dict.fromkeys((400, 401, 403, 404, 429, 503), EventsRefused)


@blueprint.endpoint("POST", "/<call>", answers=_SUCCEEDS, takes="application/json", also=_REFUSED, refuses=(413,))
def track(call: str) -> Response:
    """Events, kept: one (identify, track, page, screen, group, alias, or the first letter) or a batch (b).

    The write key is the user of Authorization: Basic, or `writeKey` in the body. Any content type, gzip or none; at
    most 32 KB an event, 500 KB and 2500 events a batch. 403 is a wrong origin, 429 too many events of a browser's key.
    """
    return _received()


@blueprint.endpoint("OPTIONS", "/<call>", answers={"type": "string"}, status=204, also={403: EventsRefused})
def track_permission(call: str) -> Response:
    """What a browser asks before a page of another origin may send; for configured origins."""
    return _received()


@blueprint.endpoint("GET", "/projects/<key>/settings", answers={"type": "object"}, refuses=(404,))
def get_tracking_settings(key: str) -> Response:
    """What Segment's browser client asks when it starts: send events here, and load nothing else."""
    tracker = current.tracker()
    if not tracker.browser_key(key):
        raise not_found("browser's key")
    scheme, _, host = current.services().settings.public_url.partition("://")
    segment = {"apiKey": key, "apiHost": f"{host}/v1", "protocol": scheme, "addBundledMetadata": False}
    settings = {
        "integrations": {"Segment.io": {**segment, "unbundledIntegrations": [], "bundlingStatus": "none"}},
        "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }
    headers = [_JSON, ("Cache-Control", "public, max-age=300"), ("Cross-Origin-Resource-Policy", "cross-origin")]
    return Response(orjson.dumps(settings), 200, [*headers, *tracker.with_origin(request.headers.get("Origin", ""))])


def _received() -> Response:
    tracker = current.tracker()
    incoming = RawRequest(
        method=request.method,
        path=request.path,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.get_data(),
        received_at=tracker.now(),
    )
    answer = tracker.receive(incoming)
    return Response(answer.body, answer.status, list(answer.headers))
