"""A fake vendor account: routes, journal, faults and life cycle. What is one vendor's own is in that vendor's file."""

import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from adapters.destination import Clock, SystemClock
from connector.simulator.vendors.faults import Faults
from connector.simulator.vendors.server import Request, Response, Server

Answer = Callable[[Request, Mapping[str, str]], Response]
"""Handles a request whose path matched; the mapping holds the path's named parts."""


class Recorded(NamedTuple):
    """One request in the journal. `at` is epoch seconds and `monotonic` seconds of the vendor's clock; `size` is the
    request body's bytes; `status` 0 means that the answer was lost."""

    method: str
    path: str
    query: Mapping[str, str]
    at: float
    monotonic: float
    status: int
    size: int
    seconds: float
    body: bytes


@dataclass(frozen=True)
class Route:
    """An operation: method, path pattern with named groups, the answer, and the schema its body must fit."""

    method: str
    pattern: re.Pattern[str]
    answer: Answer
    schema: Draft202012Validator | None = None
    limit: tuple[int, ...] = ()


def route(method: str, path: str, answer: Answer, schema: Any = None, limit: tuple[int, ...] = ()) -> Route:
    """A Route from a path with `{name}` parts, each one path segment. `schema` is a compiled validator or None."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
    return Route(method, pattern, answer, schema, limit)


class Refusal(Exception):
    """Raised anywhere in a handler: this is the answer, and nothing was changed."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class FakeVendor:
    """One account of one vendor on loopback. Use as a context manager, or `start` and `close`.

    clock: what rate windows, jobs and the journal go by. rate_limits: False switches the vendor's limits off.
    keep_bodies: True keeps request bodies in the journal. `touched` holds the latest writes to contacts: when (epoch
    seconds) and whose e-mail.
    """

    vendor = "vendor"

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        faults: Faults | None = None,
        rate_limits: bool = True,
        keep_bodies: bool = False,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.random = random.Random(seed)
        self.faults = faults or Faults(seed=seed)
        self.rate_limits = rate_limits
        self.keep_bodies = keep_bodies
        self.lock = threading.RLock()
        self.requests: list[Recorded] = []
        self.touched: deque[tuple[float, str]] = deque(maxlen=10_000)
        self._routes = tuple(self.routes())
        self._server: Server | None = None
        self._port = 0

    # --- what one vendor fills in -------------------------------------------------------------------------------------

    def routes(self) -> Sequence[Route]:
        """The operations this vendor serves; the first match wins."""
        raise NotImplementedError

    def admit(self, request: Request, found: Route | None) -> Mapping[str, str]:
        """Headers to add to the answer; raises Refusal when login or limits forbid the request."""
        raise NotImplementedError

    def failure(self, status: int, message: str = "") -> Response:
        """The vendor's own error of this status: 404, 405, 5xx."""
        raise NotImplementedError

    def malformed(self, errors: Sequence[ValidationError]) -> Response:
        """The vendor's own refusal of a body that does not fit the schema; no errors means: no JSON at all."""
        raise NotImplementedError

    def contacts(self) -> dict[str, dict[str, Any]]:
        """The account's contacts by e-mail: `id`, `tags` (sorted), `fields`, and what else the vendor keeps."""
        raise NotImplementedError

    def events(self) -> list[dict[str, Any]]:
        """The trigger events received, oldest first: `name`, `email`, `properties`, and what else the vendor keeps."""
        raise NotImplementedError

    # --- life cycle ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts listening; returns itself."""
        self._server = Server(self.handle, f"fake-{self.vendor}", self._port)
        return self

    def listening(self, port: int) -> Self:
        """Itself, to be started on this port; 0 is any that is free."""
        self._port = port
        return self

    def close(self) -> None:
        """Stops listening and drops every connection; harmless to repeat. The state stays readable."""
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Scheme, host and port: a destination's `base_url`."""
        if self._server is None:
            raise RuntimeError(f"the fake {self.vendor} is not started")
        return self._server.url

    # --- one request --------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response | None:
        """The answer to one request, or None to drop the connection; writes the journal."""
        at, monotonic, began = self.clock.time(), self.clock.monotonic(), time.perf_counter()
        if self.faults.latency:
            time.sleep(self.faults.latency)
        line = f"{request.method} {request.path}"
        ruled, scripted = self.faults.scripted(line)
        if scripted is not None:
            response = Response(scripted.status, scripted.body, scripted.headers)
        elif self.faults.outage:
            response = self.failure(503)
        elif self.faults.strikes():
            response = self.failure(self.random.choice((500, 502, 503)))
        else:
            response = self.answered(request)
        lost = (ruled and scripted is None) or self.faults.loses()
        body = request.body if self.keep_bodies else b""
        status, spent = 0 if lost else response.status, time.perf_counter() - began
        self.requests.append(
            Recorded(request.method, request.path, request.query, at, monotonic, status, len(request.body), spent, body)
        )
        return None if lost else response

    def answered(self, request: Request) -> Response:
        """What the vendor itself answers: login, limits, route, schema, then the operation."""
        found, parts, path_known = self._find(request)
        try:
            headers = self.admit(request, found)
            if found is None:
                return self.failure(405 if path_known else 404)
            if found.schema is not None:
                self._check(request, found.schema)
            with self.lock:
                response = found.answer(request, parts)
        except Refusal as refusal:
            return refusal.response
        return Response(response.status, response.body, {**headers, **response.headers}, response.media_type)

    def touch(self, email: str | None) -> None:
        """Notes that a contact was written to."""
        if email:
            self.touched.append((self.clock.time(), email))

    def counts(self) -> Counter[int]:
        """Requests by status."""
        return Counter(recorded.status for recorded in list(self.requests))

    def _find(self, request: Request) -> tuple[Route | None, Mapping[str, str], bool]:
        path_known = False
        for found in self._routes:
            match = found.pattern.fullmatch(request.path)
            if match is None:
                continue
            if found.method == request.method:
                return found, {name: unquote(part) for name, part in match.groupdict().items()}, True
            path_known = True
        return None, {}, path_known

    def _check(self, request: Request, schema: Draft202012Validator) -> None:
        try:
            body = request.json
        except (ValueError, RecursionError):
            raise Refusal(self.malformed([])) from None
        errors = sorted(schema.iter_errors(body), key=lambda error: [str(step) for step in error.absolute_path])
        if errors:
            raise Refusal(self.malformed(errors))


def pointer(error: ValidationError) -> str:
    """A JSON pointer to what is wrong: to the unknown key itself, where one is."""
    steps = [str(step) for step in error.absolute_path]
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        steps += [key for key in error.instance if key not in known][:1]
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
