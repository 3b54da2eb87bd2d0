"""A request's body, whole or refused; and never more of all of them together than there is room for."""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

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


async def read(headers: dict[str, str], protocol: "HTTPProtocol", limit: int, room: Room) -> bytes:
    """The raw body; 413 from its announced length before a byte is read, or once more than the limit has come, 408 when
    it is not there in time, 400 when it broke off. Large ones take `room` as they come, and give it back at the end."""
    announced = headers.get("content-length")
    if announced is None and "transfer-encoding" not in headers:
        return b""
    if announced is not None:
        if not (announced.isascii() and announced.isdigit()):
            raise RejectedDelivery("Content-Length is not a number", status=400, reason="bad_length")
        if int(announced) > limit:
            raise too_large(limit)
    try:
        async with asyncio.timeout(WITHIN):
            if announced is not None and int(announced) <= _SMALL:
                body: bytes = await protocol()  # raises when it breaks off
                return body
            return await _in_pieces(None if announced is None else int(announced), protocol, limit, room)
    except TimeoutError:
        raise RejectedDelivery("the body did not arrive in time", status=408, reason="slow_body") from None


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
