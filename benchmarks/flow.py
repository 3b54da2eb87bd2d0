"""The whole flow on two cores: signed webhooks in, contacts at the platform, beside what people would use instead.

    python -m benchmarks.flow [--seconds 10] [--rounds 3]

StoreCue keeps every delivery durable, makes profiles, decides 20 segments, makes the plans of three destinations and
pushes one of them. The peers (benchmarks.peers) make one call per webhook; Node-RED and Celery keep nothing on disk.
Measured over 32 connections: webhooks accepted per second, finished per second (until the platform is told the last),
and the CPU of all server processes for each. The platform answers in 50 ms.
"""

import argparse
import http.client
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson

from benchmarks import peers
from benchmarks.ingest import load, sign
from benchmarks.pacing import paced
from benchmarks.platform import KEY, Control, platform
from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from benchmarks.serving import cpu_seconds, free_port, running
from connector import clock
from connector.simulator import bodies

BODIES = 2_000
PATIENCE = 240  # seconds for what was accepted to be finished


class Serving(NamedTuple):
    """One of those measured: its port, its processes, and whether so many webhooks are finished."""

    port: int
    processes: tuple["subprocess.Popen[bytes]", ...]
    finished: Callable[[int], bool]


Start = Callable[[Path, str, Control], AbstractContextManager[Serving]]


def main() -> None:
    """Prints one table, medians over the rounds, and the ratios of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    measured: dict[str, list[tuple[float, float, float]]] = {}
    try:
        script = write_bodies(folder)
        for _ in range(given.rounds):
            for name, start in contenders().items():
                measured.setdefault(name, []).append(measure(start, folder, script, given.seconds))
    finally:
        shutil.rmtree(folder)
    medians = {name: [statistics.median(one) for one in zip(*rows, strict=True)] for name, rows in measured.items()}
    print(f"| {'':<16} | finished/s | accepted/s | CPU ms each | finished, StoreCue to it | CPU, StoreCue to it |")
    print("|---|---|---|---|---|---|")
    ours = medians["StoreCue"]
    for name, (finished, accepted, cpu) in medians.items():
        ratios = f"{ours[0] / finished:.2f} | {ours[2] / cpu:.2f}"
        print(f"| {name:<16} | {finished:,.0f} | {accepted:,.0f} | {cpu:.2f} | {ratios} |")
    print("\n".join(peers.missing()))


def measure(start: Start, folder: Path, script: Path, seconds: int) -> tuple[float, float, float]:
    """Finished and accepted per second, and CPU ms per webhook."""
    with platform() as (address, control), start(folder, address, control) as serving:
        journeys(serving.port, control, 50, 50)  # warm, and proof that it works
        before, cpu = control.count(), cpu_seconds(serving.processes)
        began = time.perf_counter()
        rate, _ = load(serving.port, script, seconds)
        sent = round(rate * seconds)
        while not serving.finished(before + sent):
            time.sleep(0.2)
            if time.perf_counter() - began > seconds + PATIENCE:
                raise SystemExit(f"not all of {sent} webhooks finish")
        took = time.perf_counter() - began
        return sent / took, rate, (cpu_seconds(serving.processes) - cpu) / sent * 1000


# --- what is measured ------------------------------------------------------------------------------------------------


def contenders() -> dict[str, Start]:
    """StoreCue and the peers that can run here."""
    return {"StoreCue": storecue} | {name: partial(elsewhere, peer) for name, peer in peers.installed().items()}


@contextmanager
def storecue(folder: Path, address: str, _control: Control) -> Iterator[Serving]:
    """`storecue up` with three destinations, of which Klaviyo pushes; the others plan and hold."""
    data = Path(tempfile.mkdtemp(prefix="data-", dir=folder))
    destinations = f"""
destinations:
  klaviyo: {{kind: klaviyo, credentials: {{api_key: {KEY}}}, base_url: "{address}", allow_insecure: true}}
  hubspot: {{kind: hubspot, credentials: {{access_token: "file:/nowhere"}}}}
  mailchimp: {{kind: mailchimp, credentials: {{api_key: "file:/nowhere"}}, list_id: a1b2c3d4e5}}
"""
    (folder / "storecue.yaml").write_text(HEAD + destinations + FIELDS + SEGMENTS)
    port = free_port()
    command = [sys.executable, "-m", "connector", "up", "--config", str(folder / "storecue.yaml")]
    settings = {"STORECUE_LOG_LEVEL": "error", "STORECUE_DATA": str(data), "STORECUE_API_TOKEN": "benchmark"}
    with running([*command, "--port", str(port)], port, folder, settings) as process:

        def finished(_count: int) -> bool:
            """Nothing waits in the log, and no contact at the platform that pushes."""
            status = api(port, "/api/v1/status")
            [klaviyo] = (each for each in status["destinations"] if each["name"] == "klaviyo")
            return bool(status["lag"] == 0 and klaviyo["pending"] == 0)

        yield Serving(port, (process,), finished)


def api(port: int, path: str) -> dict:  # type: ignore[type-arg]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Authorization": "Bearer benchmark"})
    answer = orjson.loads(connection.getresponse().read())
    connection.close()
    return answer  # type: ignore[no-any-return]


@contextmanager
def elsewhere(peer: peers.Peer, folder: Path, address: str, control: Control) -> Iterator[Serving]:
    """A peer that makes one call per webhook; wrk stops with requests under way, so a few more or fewer are told."""
    with peer(folder, address, None) as serving:
        yield Serving(serving.port, serving.processes, lambda sent: control.count() >= sent * 0.998)


# --- load ------------------------------------------------------------------------------------------------------------


def write_bodies(folder: Path) -> Path:
    """The wrk script over 2,000 signed orders of as many people."""
    rng, now = random.Random(7), clock.now()
    made = folder / "bodies"
    made.mkdir()
    signatures = []
    for number in range(BODIES):
        body = orjson.dumps(bodies.order(bodies.invented_order(rng, now - rng.randrange(30 * clock.DAY))))
        (made / f"{number}.json").write_bytes(body)
        signatures.append(sign(body))
    (made / "signatures.txt").write_text("\n".join(signatures))
    script = folder / "bodies.lua"
    script.write_text(
        textwrap.dedent(f"""
        local bodies, signatures, n = {{}}, {{}}, 0
        for line in io.lines("{made}/signatures.txt") do signatures[#signatures + 1] = line end
        for i = 0, {BODIES - 1} do
            local file = io.open("{made}/" .. i .. ".json", "rb")
            bodies[i + 1] = file:read("*a")
            file:close()
        end
        local run = tostring(os.time()) .. tostring(math.random(1e9))
        function request()
            n = n + 1
            local i = n % {BODIES} + 1
            return wrk.format("POST", "/webhooks/shopify/shop", {{
                ["Content-Type"] = "application/json",
                ["X-Shopify-Topic"] = "orders/create",
                ["X-Shopify-API-Version"] = "2026-10",
                ["X-Shopify-Webhook-Id"] = run .. "-" .. n,
                ["X-Shopify-Hmac-Sha256"] = signatures[i],
            }}, bodies[i])
        end
        """)
    )
    return script


def journeys(port: int, control: Control, per_second: float, count: int) -> tuple[list[float], list[float]]:
    """ms from the instant at which each webhook was due to its acknowledgement, and to the platform's receipt of its
    contact; each is the first of a person of their own."""
    dice = random.Random()
    emails, made = [], []
    for number in range(count):
        order = bodies.invented_order(dice, clock.now())
        order.person.email = f"p{dice.getrandbits(64)}@example.com"
        body = orjson.dumps(bodies.order(order))
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-API-Version": "2026-10",
            "X-Shopify-Webhook-Id": f"paced-{number}-{dice.getrandbits(64)}",
            "X-Shopify-Hmac-Sha256": sign(body),
        }
        emails.append(order.person.email)
        made.append((body, headers))
    sent = paced(port, made, per_second)
    deadline = time.monotonic() + 60
    while not set(emails) <= (arrivals := control.arrivals()).keys() and time.monotonic() < deadline:
        time.sleep(0.2)
    if missing := set(emails) - arrivals.keys():
        raise SystemExit(f"{len(missing)} of {count} contacts did not arrive")
    return sent.acknowledged, [(arrivals[email] - due) * 1000 for email, due in zip(emails, sent.due, strict=True)]


if __name__ == "__main__":
    main()
