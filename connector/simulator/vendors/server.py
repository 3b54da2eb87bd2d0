"""A small threaded HTTP/1.1 server on loopback, one thread per kept-alive connection.

http.server spends more time in its e-mail parser than a fake vendor spends answering; a benchmark that shares two
cores with the fakes would measure them. So requests are read here by hand: a request line, headers, Content-Length.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from io import BufferedReader
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LARGEST_BODY = 32 * 1024 * 1024
"""Bytes. Above every vendor's own limit, so that each vendor's refusal of a large body is its own."""

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Request:
    """One request as received. Header names are lower case; `query` holds the last value of each name.

    `path` is as sent, percent-encoded: a list's name may hold a slash.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> Any:
        """The body parsed, or None without one; ValueError when it is no JSON."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Response:
    """One answer. `body` is bytes as they go out, or a JSON value; None sends no body. `pieces` come in place of it,
    with their own Content-Length among the headers; when they end early, the connection does."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    pieces: Iterator[bytes] | None = None

    def encoded(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, separators=(",", ":")).encode()


Handler = Callable[[Request], Response | None]
"""Answers a request; None drops the connection without an answer."""


class Server:
    """Listens on a port of 127.0.0.1, 0 for any that is free, from construction until `close`."""

    def __init__(self, handler: Handler, name: str, port: int = 0) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._name = name
        self._accepter = threading.Thread(target=self._accept, name=f"{name}-accept", daemon=True)
        self._accepter.start()

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stops listening and closes every connection; harmless to repeat."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass  # closing a listening socket does not wake its accept() everywhere; a connection does
        self._accepter.join(timeout=2)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with self._lock:
                if self._closing:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name=self._name, daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with connection, connection.makefile("rb") as stream:
                while (request := _read(stream)) is not None:
                    response = self._handler(request)
                    if response is None:
                        return
                    connection.sendall(_written(response))
                    if response.pieces is not None:
                        for piece in response.pieces:
                            connection.sendall(piece)
                        return
                    if request.headers.get("connection", "").lower() == "close":
                        return
        except (OSError, ValueError):
            return  # the client went away, or what it sent was not HTTP
        finally:
            with self._lock:
                self._connections.discard(connection)


def _read(stream: BufferedReader) -> Request | None:
    """The next request, or None at the end of the connection. ValueError for what is not HTTP/1.1."""
    line = stream.readline(65_536)
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (raw := stream.readline(65_536)) not in (b"\r\n", b"\n", b""):
        name, _, value = raw.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= LARGEST_BODY or "transfer-encoding" in headers:
        raise ValueError("a body without a length that we take")
    body = stream.read(length) if length else b""
    if len(body) != length:
        return None
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) if parts.query else {}
    return Request(method, parts.path, query, headers, body)


def _written(response: Response) -> bytes:
    body = response.encoded()
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    if response.status != HTTPStatus.NO_CONTENT and response.pieces is None:
        lines.append(f"Content-Length: {len(body)}")
    if body:
        lines.append(f"Content-Type: {response.media_type}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
