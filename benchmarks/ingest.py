"""Ingest: durable accepted webhooks per second, step by step, beside a Flask no-op + HMAC route on the same server and
what people would use instead.

    python -m benchmarks.ingest [--seconds 8] [--rounds 3] [--only NAME ...]

Signed `orders/create` of about 7 KB over 32 connections; the server on one core, `wrk` (Debian package) on the other.
Every request has its own webhook id. The steps leave parts of our own web process out (benchmarks.steps). Peers
(benchmarks.peers) do what they do for a webhook: Node-RED checks and answers and keeps nothing; the naive view commits,
makes one call to a platform that answers in 50 ms, and answers; Celery queues the call.
"""

import argparse
import base64
import hashlib
import hmac
import os
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import orjson

from benchmarks import peers
from benchmarks.databases import PostgreSQL, kafka, postgresql
from benchmarks.pacing import Request, at, paced
from benchmarks.platform import platform
from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from benchmarks.serving import cpu_seconds, free_port, running
from connector import clock
from connector.simulator import bodies

SECRET = "hush"
CONNECTIONS = 32
SERVERS_CORE, LOADS_CORE = 0, 1
BASELINE = "Flask no-op + HMAC"
SQLITE = "StoreCue, SQLite"

Processes = tuple["subprocess.Popen[bytes]", ...]

FLOOR = """
import base64, hashlib, hmac, os
from flask import Flask, request
app = Flask(__name__)

@app.post("/webhooks/shopify/shop")
def receive():
    body = request.get_data()
    if "TRUSTING" not in os.environ:
        wanted = base64.b64encode(hmac.new(b"hush", body, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(wanted, request.headers.get("X-Shopify-Hmac-Sha256", "")):
            return {"ok": False}, 401
    return {"ok": True}
"""


def main() -> None:
    """Prints requests per second and latencies of each, and the ratios of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of the rows to measure; the baseline is always one")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    rates: dict[str, list[float]] = {}
    tails: dict[str, list[float]] = {}
    calm: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    try:
        script = write_script(folder)
        with platform(LOADS_CORE) as (address, _), postgresql() as database, kafka(LOADS_CORE) as broker:
            rows = servers(address, database, broker)
            wanted = [name for name in rows if not given.only or name in (*given.only, BASELINE)]
            for _ in range(given.rounds):
                for name in wanted:
                    with rows[name](folder) as (port, processes):
                        paced(port, requests(folder, 50), 50)  # warm, and proof that it accepts
                        before = cpu_seconds(processes)
                        rate, tail = load(port, script, given.seconds)
                        spent = (cpu_seconds(processes) - before) / (rate * given.seconds) * 1e6
                        quiet = at(paced(port, requests(folder, 200), 50).acknowledged, 0.99)
                        for column, value in ((rates, rate), (tails, tail), (calm, quiet), (costs, spent)):
                            column.setdefault(name, []).append(value)
        print_rates(rates, tails, calm, costs)
        print(f"deliveries kept by StoreCue on SQLite: {count_kept(folder)}")
        print("\n".join(peers.missing()))
    finally:
        shutil.rmtree(folder)


Measured = dict[str, list[float]]


def print_rates(rates: Measured, tails: Measured, calm: Measured, costs: Measured) -> None:
    """A line for each: medians, and the rate and the CPU beside those of the baseline."""
    floor, least = statistics.median(rates[BASELINE]), statistics.median(costs[BASELINE])
    print(f"| {'':<30} | requests/s | p99 ms | p99 ms at 50/s | CPU us each | rate, to {BASELINE} | CPU, to it |")
    print("|---|---|---|---|---|---|---|")
    for name in rates:
        rate, tail, quiet, cost = (statistics.median(each[name]) for each in (rates, tails, calm, costs))
        ratios = f"{rate / floor:.2f} | {cost / least:.2f}"
        print(f"| {name:<30} | {rate:,.0f} | {tail:.1f} | {quiet:.1f} | {cost:.0f} | {ratios} |")
    ours = statistics.median(rates.get(SQLITE, [0]))
    for name in ("Node-RED", "naive Flask", "Celery + Redis"):
        if name in rates and ours:
            print(f"{SQLITE} / {name}: {ours / statistics.median(rates[name]):.2f}")


def write_script(folder: Path) -> Path:
    """The wrk script: one signed body, an id of its own for each request."""
    order = bodies.invented_order(random.Random(7), clock.now())
    body = orjson.dumps(bodies.order(order))
    (folder / "body.json").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(
        textwrap.dedent(f"""
        local file = io.open("{folder / "body.json"}", "rb")
        local body = file:read("*a")
        local n = 0
        local thread = tostring(math.random(1, 1000000000))
        function init(args) math.randomseed(os.time()) thread = tostring(os.time()) .. tostring(math.random(1e9)) end
        function request()
            n = n + 1
            return wrk.format("POST", "/webhooks/shopify/shop", {{
                ["Content-Type"] = "application/json",
                ["X-Shopify-Topic"] = "orders/create",
                ["X-Shopify-API-Version"] = "2026-10",
                ["X-Shopify-Shop-Domain"] = "bench.myshopify.com",
                ["X-Shopify-Triggered-At"] = "2026-11-21T10:00:00.123456789Z",
                ["X-Shopify-Webhook-Id"] = thread .. "-" .. n,
                ["X-Shopify-Hmac-Sha256"] = "{sign(body)}",
            }}, body)
        end
        """)
    )
    return script


def sign(body: bytes) -> str:
    return base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()


# --- servers ---------------------------------------------------------------------------------------------------------


Server = Callable[[Path], AbstractContextManager[peers.Serving]]


def servers(address: str, database: PostgreSQL, broker: str) -> dict[str, Server]:
    """Every row of the table: a server to be started in a folder. Those of PostgreSQL and of Kafka run where they like,
    as on a machine of their own, and PostgreSQL's CPU counts as ours."""

    def on_postgresql(folder: Path) -> AbstractContextManager[peers.Serving]:
        return storecue(folder, environ={"DATABASE_URL": database.database()}, beside=(database.process,))

    def on_kafka(folder: Path) -> AbstractContextManager[peers.Serving]:
        return storecue(folder, environ={"DATABASE_URL": database.database(), "KAFKA_BOOTSTRAP": broker})

    rows: dict[str, Server] = {
        "Flask no-op": lambda folder: floor(folder, {"TRUSTING": "1"}),
        BASELINE: floor,
        "StoreCue, accepted only": lambda folder: storecue(folder, leave_out="keeping,verifying"),
        "StoreCue, + HMAC": lambda folder: storecue(folder, leave_out="keeping"),
        SQLITE: storecue,
        "StoreCue, PostgreSQL": on_postgresql,
        "StoreCue, Kafka (mock)": on_kafka,
    }
    for name, peer in peers.installed().items():
        rows[name] = partial(peer, platform="" if name == "Node-RED" else address, core=SERVERS_CORE)
    return rows


@contextmanager
def floor(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[peers.Serving]:
    """A Flask route that checks the signature and keeps nothing, on the same server with eight threads."""
    (folder / "floor_app.py").write_text(FLOOR)
    port = free_port()
    command = [str(Path(sys.executable).parent / "granian"), "--interface", "wsgi", "--no-ws", "--http", "1"]
    command += ["--blocking-threads", "8", "--port", str(port), "--log-level", "error", "floor_app:app"]
    with running(command, port, folder, environ, SERVERS_CORE) as process:
        yield peers.Serving(port, (process,))


@contextmanager
def storecue(
    folder: Path,
    head: str = HEAD,
    leave_out: str = "",
    environ: Mapping[str, str] | None = None,
    beside: Processes = (),
) -> Iterator[peers.Serving]:
    """`storecue web` alone, with an empty data directory; some of it may be left out (benchmarks.steps)."""
    data = Path(tempfile.mkdtemp(prefix="data-", dir=folder))
    (folder / "storecue.yaml").write_text(head + FIELDS + SEGMENTS)
    settings = {"STORECUE_DATA": str(data), "STORECUE_LOG_LEVEL": "error", **(environ or {})}
    apply = [sys.executable, "-m", "connector", "apply", "--config", str(folder / "storecue.yaml")]
    subprocess.run(apply, check=True, env={**os.environ, **settings}, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [sys.executable, "-m", "connector", "web", "--port", str(port)]
    if leave_out:
        settings["LEAVE_OUT"] = leave_out
        command = [sys.executable, "-m", "benchmarks.steps", str(port)]
    with running(command, port, folder, settings, SERVERS_CORE) as process:
        yield peers.Serving(port, (process, *beside))


# --- load ------------------------------------------------------------------------------------------------------------


def load(port: int, script: Path, seconds: int) -> tuple[float, float]:
    """Requests per second and p99 in ms over 32 connections; every answer must be 2xx."""
    command = [
        "taskset",
        "-c",
        str(LOADS_CORE),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
    ]
    result = subprocess.run([*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in result:
        raise SystemExit(f"not every request was accepted:\n{result}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", result)[1])  # type: ignore[index]
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", result).groups()  # type: ignore[union-attr]
    return rate, float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def requests(folder: Path, count: int) -> list[Request]:
    """The same signed body, with an id of its own each time."""
    body = (folder / "body.json").read_bytes()
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-API-Version": "2026-10",
        "X-Shopify-Hmac-Sha256": sign(body),
    }
    return [(body, {**headers, "X-Shopify-Webhook-Id": f"paced-{uuid.uuid4()}"}) for _ in range(count)]


def count_kept(folder: Path) -> int:
    """How many deliveries are in the logs that StoreCue wrote."""
    total = 0
    for path in folder.glob("data-*/inbox.db"):
        connection = sqlite3.connect(path)
        total += connection.execute("SELECT count(*) FROM delivery").fetchone()[0]
        connection.close()
    return total


if __name__ == "__main__":
    main()
