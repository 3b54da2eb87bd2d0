"""An RSGI application for a WSGI test client: requests go in as a server of that kind would hand them over."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from connector.web.ingress import Ingress

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class Headers:
    def __init__(self, items: list[tuple[str, str]]) -> None:
        self._items = items

    def items(self) -> list[tuple[str, str]]:
        return self._items


class Protocol:
    """The body of one request, and what was answered."""

    def __init__(self, stream: Any, *, piece: int = 65_536) -> None:
        self._stream = stream
        self._piece = piece
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = b""

    async def __call__(self) -> bytes:
        body: bytes = self._stream.read()
        return body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := self._stream.read(self._piece):
            yield piece

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert not self.status, "answered twice"
        self.status, self.headers, self.body = status, headers, body


def scope(environ: dict[str, Any]) -> Any:
    """The request of a WSGI environ as granian describes it."""
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    ]
    return SimpleNamespace(
        proto="http",
        http_version="1.1",
        server=f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', 80)}",
        client="127.0.0.1:50000",
        scheme="http",
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"),
        query_string=environ.get("QUERY_STRING", ""),
        headers=Headers([(name, value) for name, value in headers if value != ""]),
    )


class OverRsgi:
    """A WSGI application that asks `ingress`."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self._loop = asyncio.new_event_loop()
        ingress.__rsgi_init__(self._loop)

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> list[bytes]:
        protocol = Protocol(environ["wsgi.input"])
        self._loop.run_until_complete(self._ingress.__rsgi__(scope(environ), protocol))  # type: ignore[arg-type]  # granian's is its own class
        start_response(f"{protocol.status} Answered", protocol.headers)
        return [protocol.body]

    def close(self) -> None:
        self._loop.close()
