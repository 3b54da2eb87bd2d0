"""The web process with parts of receiving left out, for benchmarks.ingest: what each part costs on the same server.

LEAVE_OUT=keeping python -m benchmarks.steps PORT              verified, filed, answered; kept nowhere
LEAVE_OUT=keeping,verifying python -m benchmarks.steps PORT    filed and answered
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from connector import serve
from connector.domain import RawRequest
from connector.ports import New, Settled
from connector.web.webhooks import Receiver


class Nowhere:
    """A log that keeps nothing and says at once that it has."""

    def append(self, items: Sequence[New], timeout: float = 3.0) -> None: ...

    def submit(self, items: Sequence[New], settled: Settled) -> None:
        settled(None)


class Trusting:
    """A source that takes everybody's word."""

    def __init__(self, source: Any) -> None:
        self.kind, self.claim = source.kind, source.claim

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None: ...


_load = serve._application


def application() -> Any:
    """The application as `storecue web` serves it, less what is to be left out."""
    left_out = os.environ["LEAVE_OUT"].split(",")
    if "keeping" in left_out:
        Receiver.log = Nowhere()  # type: ignore[assignment]
    if "verifying" in left_out:
        from connector.services import Services

        known = Services.sources
        Services.sources = lambda self: {  # type: ignore[method-assign]
            name: (Trusting(source), secrets) for name, (source, secrets) in known(self).items()
        }
    return _load()


if __name__ == "__main__":
    from benchmarks import steps  # by this name the server's process can import the loader

    serve._application = steps.application
    serve.web("127.0.0.1", int(sys.argv[1]))
