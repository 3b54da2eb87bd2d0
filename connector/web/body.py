"""A request's body, whole or refused; and never more of all of them together than there is room for."""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from connector.errors import Overloaded, RejectedDelivery
from connector.web.webhooks import too_large

if TYPE_CHECKING:
    from granian.rsgi import HTTPProtocol  # type: ignore[attr-defined]  # granian's own name for it

WITHIN = 10.0  # seconds for a body to arrive: Shopify gives up after 5 (2026-09)
_SMALL = 64 * 1024  # bytes; a body of this size is read in one call and counted once it is there


class Room:
    """Bytes that may be held at a time. For one event loop."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, count: int) -> None:
        """Raises Overloaded when there is not as much."""
        if count > self._left:
            raise Overloaded("more is under way than there is memory for; send it again")
        self._left -= count

    def give_back(self, count: int) -> None:
        self._left += count


class Arriving(Room):
    """Room for bodies on their way, and who reads one: cancelled once it has waited for it longer than `WITHIN`. One
    timer for all of them: one each would cost as much as verifying a delivery."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._due: dict[asyncio.Task[Any], float] = {}  # in the loop's time, the oldest first
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "asyncio.Task[Any]":
        """Whoever calls it; to be given to `late` when it is cancelled, and to `end`."""
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        self._due[task] = due = loop.time() + WITHIN
        if self._timer is None:
            self._timer = loop.call_at(due, self._expire, loop)
        return task

    def late(self, task: "asyncio.Task[Any]") -> bool:
        """Whether it was cancelled by us, and by nobody else."""
        return task in self._late and task.uncancel() == 0

    def end(self, task: "asyncio.Task[Any]") -> None:
        self._due.pop(task, None)
        self._late.discard(task)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for task, due in list(self._due.items()):
            if due > loop.time():
                self._timer = loop.call_at(due, self._expire, loop)
                break
            del self._due[task]
            self._late.add(task)
            task.cancel()


def unsound(headers: Collection[tuple[str, str]]) -> RejectedDelivery | None:
    """Why the server's parser should not have let this request pass; None when it is sound.

    Two Hosts would be read by whoever looks first; of a coding other than `chunked` the server undoes that part alone.
    (Content-Length beside Transfer-Encoding is no matter: the server forgets it and closes the connection afterwards.)
    """
    hosts = sum(name == "host" for name, _ in headers)
    if hosts > 1:
        return RejectedDelivery("a request has one Host", status=400, reason="two_hosts")
    if any(name == "transfer-encoding" and value.strip().lower() != "chunked" for name, value in headers):
        return RejectedDelivery("send the body as it is, or chunked", status=400, reason="transfer_encoding")
    return None


async def read(headers: dict[str, str], protocol: "HTTPProtocol", limit: int, arriving: Arriving) -> bytes:
    """The raw body; 413 from its announced length before a byte is read, or once more than the limit has come, 408 when
    it is not there in time, 400 when it broke off. Large ones take room as they come, and give it back at the end."""
    announced = headers.get("content-length")
    if announced is None and "transfer-encoding" not in headers:
        return b""
    length = None if announced is None else _length(announced, limit)
    task = arriving.begin()
    try:
        if length is None or length > _SMALL:
            return await _in_pieces(length, protocol, limit, arriving)
        body: bytes = await protocol()  # raises when it breaks off
        return body
    except asyncio.CancelledError:
        if arriving.late(task):
            raise RejectedDelivery("the body did not arrive in time", status=408, reason="slow_body") from None
        raise
    finally:
        arriving.end(task)


def _length(announced: str, limit: int) -> int:
    if not (announced.isascii() and announced.isdigit()):
        raise RejectedDelivery("Content-Length is not a number", status=400, reason="bad_length")
    if (length := int(announced)) > limit:
        raise too_large(limit)
    return length


async def _in_pieces(announced: int | None, protocol: "HTTPProtocol", limit: int, room: Room) -> bytes:
    pieces, ends = bytearray(), 0
    try:
        async for piece in protocol:
            room.take(len(piece))
            pieces += piece  # what was taken is what is here
            ends += not piece
            if len(pieces) > limit:
                raise too_large(limit)
    finally:
        room.give_back(len(pieces))
    # granian (2.8) ends a chunked body with one empty piece, and tells one that broke off by a second.
    if len(pieces) != announced if announced is not None else ends > 1:
        raise RejectedDelivery("the body broke off", status=400, reason="broken_body")
    return bytes(pieces)
