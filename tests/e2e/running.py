"""A StoreCue as a merchant runs it, in processes of its own on loopback, and a shop that does not stop sending."""

import http.client
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from connector import clock
from connector.config.settings import Settings
from connector.ports import EventLog
from connector.services import log_of
from connector.simulator.delivery import encode, sign
from connector.storage.database import Database
from tests.mortal import dies_with_us

SECRET = "hush"
_STEP = 0.02


def until(true: Callable[[], Any], seconds: float, what: str) -> None:
    """Looks again every 20 ms; fails when `what` has not come true within `seconds`, which are those of a quiet
    machine: a busy one is given four times as many."""
    deadline = time.monotonic() + 4 * seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {4 * seconds} s: {what}"
        time.sleep(_STEP)


class Running:
    """`storecue` processes on one data folder and one port. `log` is what they wrote. `environ`: what they are told
    beside that, such as DATABASE_URL; with KAFKA_BOOTSTRAP the heads of the log are looked up there."""

    def __init__(self, folder: Path, config: str, environ: Mapping[str, str] | None = None) -> None:
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("STORECUE_")}
        self.environ |= environ or {}
        self._server = self.environ.get("DATABASE_URL", "")
        self._log: EventLog | None = None
        self.data = folder / "data"
        self.file = folder / "storecue.yaml"
        self.file.write_text(config)
        self.log_file = folder / "storecue.log"
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.processes: list[psutil.Popen] = []

    def start(self, command: str) -> psutil.Popen:
        """`storecue up`, `web` or `worker`; returns at once."""
        arguments = [sys.executable, "-m", "connector", command, "--data", str(self.data)]
        arguments += ["--config", str(self.file)] if command == "up" else []
        arguments += ["--port", str(self.port)] if command != "worker" else []
        with self.log_file.open("ab") as log:
            process = psutil.Popen(
                arguments, env=self.environ, stdout=log, stderr=log, start_new_session=True, preexec_fn=dies_with_us()
            )
        self.processes.append(process)
        return process

    def apply(self) -> None:
        arguments = [sys.executable, "-m", "connector", "apply", "--data", str(self.data), "--config", str(self.file)]
        subprocess.run(arguments, check=True, capture_output=True, env=self.environ)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def worker_of(self, up: psutil.Popen) -> psutil.Process | None:
        """The worker that an `up` has started, if it lives."""
        return next((child for child in _children(up) if "worker" in _command(child)), None)

    def server_of(self, up: psutil.Popen) -> psutil.Process | None:
        """The process that answers requests for an `up` or a `web`, if it lives: granian's child."""
        found = [c for c in _children(up) if "worker" not in _command(c) and "resource_tracker" not in str(_command(c))]
        return found[0] if found else None

    def kill_all(self, up: psutil.Popen) -> None:
        """kill -9 of a process and of everything it has started: the machine lost its power."""
        family = [up, *_children(up)]
        for process in family:
            _send(process, signal.SIGKILL)
        psutil.wait_procs(family, timeout=5)

    def close(self) -> None:
        for process in self.processes:
            self.kill_all(process)
        if self._log is not None:
            self._log.close()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def rows(self, query: str, database: str = "storecue") -> list[tuple[Any, ...]]:
        if self._server:
            with psycopg.connect(self._server, autocommit=True) as asked:
                return asked.execute(query).fetchall()  # type: ignore[arg-type]  # no literal, and no stranger's either
        connection = sqlite3.connect(f"file:{self.data / database}.db?mode=ro", uri=True, timeout=15)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def worked_off(self) -> bool:
        """True when every delivery of the log has had its effect."""
        if "KAFKA_BOOTSTRAP" in self.environ:
            standing = self._kafka().standing()
            return bool(standing.partitions) and not standing.lag
        heads = {part: head for part, head in self.rows("SELECT part, head FROM log_head", "inbox") if head}
        return heads == {part: pos for part, pos in self.rows("SELECT part, pos FROM log_position") if pos}

    def _kafka(self) -> EventLog:
        if self._log is None:
            settings = Settings.from_environment(self.environ, data_dir=self.data)
            state = Database(settings.database_url)
            self._log = log_of(settings, state, state)
        return self._log

    def pushed(self) -> bool:
        """True when nothing waits for a destination."""
        contacts = self.rows("SELECT count(*) FROM sync_state WHERE pending = 1")
        return contacts + self.rows("SELECT count(*) FROM cue WHERE state = 'pending'") == [(0,), (0,)]


def kill(process: psutil.Process) -> None:
    """kill -9."""
    _send(process, signal.SIGKILL)


def alive(process: psutil.Process) -> bool:
    """False too for a zombie, which only waits for somebody to ask how it died."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in process.children(recursive=True) if alive(child)]
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


@dataclass(frozen=True)
class Sale:
    """One order of the shop: cents."""

    order: int
    customer: int
    total: int

    def body(self, at: int) -> dict[str, Any]:
        instant, total = clock.isoformat(at), f"{self.total / 100:.2f}"
        return {
            "id": self.order,
            "email": email(self.customer),
            "created_at": instant,
            "processed_at": instant,
            "updated_at": instant,
            "cancelled_at": None,
            "currency": "EUR",
            "total_price": total,
            "test": False,
            "customer": {"id": self.customer, "email": email(self.customer)},
            "line_items": [{"id": self.order, "product_id": 1, "quantity": 1, "price": total}],
            "refunds": [],
        }


def email(customer: int) -> str:
    return f"customer{customer}@example.com"


@dataclass
class Book:
    """What was sent and what was promised, by webhook id."""

    sales: dict[str, Sale] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    kept_at: dict[str, int] = field(default_factory=dict)  # when that was first heard, in monotonic ns
    statuses: Counter[int] = field(default_factory=Counter)


class Shop:
    """Sends orders from several threads until `close`: each until it is accepted, some twice, some as two topics."""

    def __init__(self, running: Running, *, threads: int = 4, customers: int = 60, seed: int = 7, pause: float = 0.004):
        self.book = Book()
        self._running, self._customers, self._pause = running, customers, pause
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send, args=(n, random.Random(f"{seed}/{n}")), daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops; what is under way then is answered or refused, and in the book either way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    @property
    def accepted(self) -> int:
        return sum(self.book.kept.values())

    def _send(self, number: int, chance: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=5)
        count = 0
        while not self._stopping.is_set():
            count += 1
            sale = Sale(number * 1_000_000 + count, 1 + chance.randrange(self._customers), chance.randrange(500, 9000))
            body = encode(sale.body(clock.now()))
            topics = ["orders/create", "orders/paid"] if chance.random() < 0.2 else ["orders/create"]
            for topic in topics:
                id_ = f"{topic}/{sale.order}"
                with self._lock:
                    self.book.sales[id_] = sale
                self._post(connection, id_, topic, body)
                if chance.random() < 0.1:
                    self._post(connection, id_, topic, body)  # the vendor repeats what it was promised
            self._stopping.wait(self._pause)
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, id_: str, topic: str, body: bytes) -> None:
        """Sends one delivery until it is accepted or the shop closes."""
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": topic,
            "X-Shopify-Hmac-Sha256": sign(body, SECRET),
            "X-Shopify-Webhook-Id": id_,
            "X-Shopify-API-Version": "2026-10",
        }
        while True:
            try:
                with self._lock:
                    self.book.attempts[id_] += 1
                connection.request("POST", "/webhooks/shopify/shop", body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            heard = time.monotonic_ns()
            with self._lock:
                self.book.statuses[status] += 1
                if status == 200:
                    self.book.kept[id_] += 1
                    self.book.kept_at.setdefault(id_, heard)
            if status == 200 or self._stopping.wait(_STEP):
                return
