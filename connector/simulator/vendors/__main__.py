"""A fake vendor for the shell: `python -m connector.simulator.vendors klaviyo`, until Ctrl-C.

Says how a destination reaches it, then each request in a line: what the vendor answered, without addresses of people.
"""

import argparse
import re
import signal
import threading
from collections.abc import Sequence

from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor, Faults

_VENDORS: dict[str, tuple[type[FakeVendor], str]] = {
    "klaviyo": (FakeKlaviyo, "api_key"),
    "hubspot": (FakeHubSpot, "access_token"),
    "mailchimp": (FakeMailchimp, "api_key"),
}
_LOOK_EVERY = 0.2


def main(arguments: Sequence[str] | None = None, stop: threading.Event | None = None) -> None:
    """Serves until `stop` is set."""
    parser = argparse.ArgumentParser(prog="python -m connector.simulator.vendors", description=__doc__)
    parser.add_argument("vendor", choices=sorted(_VENDORS))
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--key", default="simulated-us1", help="the credential that it accepts")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="before each answer")
    parser.add_argument("--error-rate", type=float, default=0.0, metavar="SHARE", help="answered with a 5xx")
    parser.add_argument("--lost-rate", type=float, default=0.0, metavar="SHARE", help="applied, and the answer lost")
    parser.add_argument("--outage", action="store_true", help="503 to everything")
    wants = parser.parse_args(arguments)
    ended = stop or threading.Event()
    if stop is None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, lambda *_: ended.set())
    faults = Faults(wants.latency, wants.error_rate, wants.lost_rate, wants.outage)
    make, credential = _VENDORS[wants.vendor]
    with make(faults=faults, **{credential: wants.key}).listening(wants.port) as vendor:
        print(_entry(wants.vendor, credential, wants.key, vendor.url), flush=True)
        told = 0
        while not ended.wait(_LOOK_EVERY):
            for row in vendor.requests[told:]:
                told += 1
                print(f"{row.status or 'lost'} {row.method} {_nobody(row.path)} ({row.size} bytes)", flush=True)


def _entry(kind: str, credential: str, key: str, url: str) -> str:
    """The destination as storecue.yaml has it."""
    audience = ", list_id: a1b2c3d4e5" if kind == "mailchimp" else ""
    return (
        f"destinations:\n  {kind}: {{kind: {kind}, credentials: {{{credential}: {key}}}{audience}, "
        f"base_url: '{url}', allow_insecure: true}}"
    )


def _nobody(path: str) -> str:
    """A path without addresses: in one, @ is often %40."""
    return re.sub(r"[^/]+(@|%40)[^/]+", "{email}", path)


if __name__ == "__main__":
    main()
