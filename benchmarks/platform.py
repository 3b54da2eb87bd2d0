"""The e-mail platform of the benchmarks: a fake Klaviyo in a process of its own that takes 50 ms for an answer and has
no rate limits, so that what calls it is what is measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from adapters.destination import SystemClock
from connector.simulator.vendors import FakeKlaviyo, Faults

KEY = "pk_benchmark"
LATENCY = 0.05


class Control:
    """Asks the platform's process what it was sent."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def count(self) -> int:
        """Calls so far."""
        return int(self._ask("count"))  # type: ignore[call-overload]

    def arrivals(self) -> dict[str, float]:
        """E-mail -> when it was first told of this contact (Unix seconds), counted from before its 50 ms."""
        return self._ask("arrivals")  # type: ignore[return-value]

    def _ask(self, question: str) -> object:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return orjson.loads(self._process.stdout.readline())


@contextmanager
def platform(core: int | None = None) -> Iterator[tuple[str, Control]]:
    """Its address, and what it has received."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    process = subprocess.Popen(
        [*pinned, sys.executable, "-m", "benchmarks.platform"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), Control(process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Prints its address, then answers the questions on its standard input."""
    fake = FakeKlaviyo(
        api_key=KEY, clock=SystemClock(), faults=Faults(latency=LATENCY), rate_limits=False, keep_bodies=True
    )
    with fake:
        print(fake.url, flush=True)
        for line in sys.stdin:
            if line.strip() == "count":
                print(sum(1 for request in list(fake.requests) if request.method == "POST"), flush=True)
            else:
                found: dict[str, float] = {}
                for request in list(fake.requests):
                    if request.body and b"@" in request.body:
                        for email in _emails(orjson.loads(request.body)):
                            found.setdefault(email, request.at)
                print(orjson.dumps(found).decode(), flush=True)


def _emails(body: dict) -> Iterator[str]:  # type: ignore[type-arg]
    attributes = body["data"]["attributes"]
    if "email" in attributes:
        yield attributes["email"]
    for profile in attributes.get("profiles", {}).get("data", []):
        yield profile["attributes"]["email"]


if __name__ == "__main__":
    main()
