"""What granian's web process serves, over RSGI: webhooks in an event loop, everything else by Flask in a few threads.

Flask's routing costs five times what verifying a delivery does. A thread per request costs as much again: each sleeps
until its commit, and to wake it and to give it the interpreter lock takes three context switches. Here one call wakes a
whole group of deliveries, a group has as many as there are senders, and who sends slowly holds no thread. One core, CPU
for a delivery (2026-11): 150 us with 32 threads, 115 us here, 100 us with uvloop; a Flask route that keeps nothing 95.
The code that receives is the same as that of the Flask route, which stays for every other server.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]  # granian's own names for them
from sqlalchemy.exc import SQLAlchemyError

from connector.domain import RawRequest
from connector.errors import NotDurable, Overloaded, RejectedDelivery
from connector.ports import EventLog, New
from connector.web import body as bodies
from connector.web import wsgi
from connector.web.body import Arriving, Room
from connector.web.tracking import PREFIX as EVENTS
from connector.web.tracking import Tracker
from connector.web.webhooks import DURABLE_WITHIN, PREFIX, Answer, Receiver, refusal, refuse_encoding

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from granian.rsgi import HTTPProtocol, Scope  # type: ignore[attr-defined]  # as above

log = structlog.get_logger("webhooks")

_OURS = ("POST", "GET", "OPTIONS")
_LARGE = 64 * 1024  # bytes of a batch of events that a thread takes apart: it would hold up everybody else
_THREADS = 8  # for everything that is no webhook
_ROOM = 64 * 1024 * 1024  # bytes of bodies that wait for their answer, and as many of large ones that are arriving


class Ingress:
    """An RSGI application: deliveries are answered here, everything else by `inner`."""

    def __init__(self, inner: "WSGIApplication", receiver: Receiver, tracker: Tracker) -> None:
        self._inner = inner
        self._receiver = receiver
        self._tracker = tracker
        self._threads = ThreadPoolExecutor(_THREADS, "request")
        # Two rooms: who is slow with large bodies must not keep out those whose bodies are here.
        size = max(_ROOM, 2 * receiver.max_body)
        self._arriving, self._waiting = Arriving(size), Room(size)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._groups = Groups(self._receiver.log, loop)

    async def __rsgi__(self, scope: "Scope", protocol: "HTTPProtocol") -> None:
        path = scope.path
        kind, _, name = path[len(PREFIX) :].partition("/")
        ours = scope.method in _OURS and path.startswith(PREFIX) and kind and name and "/" not in name
        events = path.startswith(EVENTS) and scope.method in ("POST", "OPTIONS")
        held = 0
        try:
            given = scope.headers.items()
            headers = dict(given)
            if (len(headers) != len(given) or "transfer-encoding" in headers) and (fault := bodies.unsound(given)):
                refused = refusal(fault)  # where such a request ends is not sure, so it is the connection's last
                protocol.response_bytes(fault.status, [*refused.headers, ("Connection", "close")], refused.body)
                return
            body = await bodies.read(headers, protocol, self._receiver.max_body, self._arriving)
            self._waiting.take(len(body))
            held = len(body)
            if ours or events:
                now = self._receiver.now()
                query, origin = scope.query_string, self._receiver.origin
                incoming = RawRequest(scope.method, path, headers, body, query, now, origin)
                answer = await (self._track(incoming) if events else self._receive(kind, name, incoming))
            else:
                environ = wsgi.environ(scope, body)
                answer = await self._loop.run_in_executor(self._threads, wsgi.answer, self._inner, environ)
        except RejectedDelivery as error:
            answer = refusal(error)
        except Overloaded as error:
            answer = self._receiver.shed(name if ours else "", error)
        except (ProtocolClosed, ProtocolError):
            return  # nobody is there to be answered
        except Exception:  # a fault of ours must be in our log and must not be answered as if it were kept
            log.exception("request.failed", path=path)
            answer = refusal(NotDurable("this is a fault of ours, and it is in the log; send it again"))
        finally:
            self._waiting.give_back(held)
        protocol.response_bytes(answer.status, list(answer.headers), answer.body)

    async def _receive(self, kind: str, name: str, incoming: RawRequest) -> Answer:
        started = time.perf_counter()
        receiver = self._receiver
        try:
            refuse_encoding(incoming.headers.get("content-encoding", ""))
            if receiver.outdated():  # it reads the database
                await self._loop.run_in_executor(self._threads, receiver.look)
            admitted = receiver.admit(kind, name, incoming)
            if isinstance(admitted, Answer):
                return admitted
            if admitted:
                await self._groups.keep(admitted)
        except (RejectedDelivery, NotDurable, SQLAlchemyError) as error:
            return receiver.refused(name, error)
        return receiver.accepted(name, started, len(admitted))

    async def _track(self, incoming: RawRequest) -> Answer:
        started = time.perf_counter()
        tracker = self._tracker
        try:
            if tracker.outdated():  # it reads the database
                await self._loop.run_in_executor(self._threads, tracker.look)
            if len(incoming.body) > _LARGE:
                taken = await self._loop.run_in_executor(self._threads, tracker.take, incoming)
            else:
                taken = tracker.take(incoming)
            if isinstance(taken, Answer):
                return taken
            if taken.deliveries:
                await self._groups.keep(taken.deliveries)
        except (NotDurable, SQLAlchemyError) as error:
            return tracker.failed(incoming, error)
        return tracker.accepted(taken, started)


class Groups:
    """Hands deliveries to the log in groups: while one is being written the next one forms. For one event loop."""

    def __init__(self, log: EventLog, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._loop = loop
        self._forming: list[_Kept] = []
        self._writing: list[_Kept] = []
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, deliveries: Sequence[New]) -> "asyncio.Future[None]":
        """Done once one request's deliveries are durable, all in one commit; NotDurable when the disk refuses, or three
        seconds were not enough."""
        kept = (deliveries, self._loop.create_future(), self._loop.time() + DURABLE_WITHIN)
        if not self._writing and not self._forming:
            self._loop.call_soon(self._hand_over)  # after whoever else is ready in this turn of the loop
        if self._timer is None:
            self._timer = self._loop.call_at(kept[2], self._expire)
        self._forming.append(kept)
        return kept[1]

    def _hand_over(self) -> None:
        if self._forming and not self._writing:
            self._writing, self._forming = self._forming, []
            self._log.submit([one for deliveries, _, _ in self._writing for one in deliveries], self._told)

    def _told(self, error: NotDurable | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it those who would hear of it
            self._loop.call_soon_threadsafe(self._settled, error)

    def _settled(self, error: NotDurable | None) -> None:
        group, self._writing = self._writing, []
        for _, future, _ in group:
            if not future.done():  # it has expired, or its sender has gone
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
        # Two turns later: their senders' next deliveries have come by then, if they were waiting to be sent.
        self._loop.call_soon(self._loop.call_soon, self._hand_over)

    def _expire(self) -> None:
        """One timer for all: what is overdue is refused, and not even handed over if it still waits for that."""
        now = self._loop.time()
        for _, future, due in (*self._writing, *self._forming):
            if due <= now and not future.done():
                future.set_exception(NotDurable("the log did not confirm the delivery in time"))
        self._forming = [kept for kept in self._forming if not kept[1].done()]
        left = [due for _, future, due in (*self._writing, *self._forming) if not future.done()]
        self._timer = self._loop.call_at(min(left), self._expire) if left else None


_Kept = tuple[Sequence[New], "asyncio.Future[None]", float]
"""A request's deliveries, who waits for it, and until when, in the loop's time."""
