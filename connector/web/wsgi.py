"""A WSGI application behind an RSGI server: the environ that it is given (PEP 3333), and its answer in one piece."""

import io
import sys
from typing import TYPE_CHECKING, Any

from connector.web.webhooks import Answer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from granian.rsgi import Scope

Environ = dict[str, Any]

_JOINED_BY = {"cookie": ";"}  # a comma may stand in a cookie


def environ(scope: "Scope", body: bytes) -> Environ:
    """What WSGI calls this request. Header names with an underscore are left out: they would pass for others."""
    host, _, port = scope.server.rpartition(":")
    made: Environ = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host.strip("[]"),
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" in name:
            continue
        key = name.replace("-", "_").upper()
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        made[key] = f"{made[key]}{_JOINED_BY.get(name, ',')}{value}" if key in made else value
    return made


def answer(application: "WSGIApplication", environ: Environ) -> Answer:
    """What the application answers, read to its end."""
    started: list[tuple[int, tuple[tuple[str, str], ...]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        started.append((int(status[:3]), tuple(headers)))
        return written.append

    pieces = application(environ, start_response)
    try:
        body = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    return Answer(*started[-1], b"".join(written) + body)
