"""The processes: the web server (granian, WSGI), the worker, and `up`, which runs both and minds them.

The process that minds the others imports next to nothing: what it does not load is not in memory three times.
"""

import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from connector.config.settings import Settings
    from connector.web.ingress import Ingress

# Seconds from SIGTERM until a process that has not ended is killed: both stop at once, and all is over within 10.
_WORKER_STOPS_WITHIN = 8.0
_SERVER_STOPS_WITHIN = 6  # a request that is here has its answer in 3; one that is half here may never have it
_SHORTEST_WAIT = 0.2  # seconds before a worker that died is started again: doubled while it dies young
_LOOK_EVERY = 1.0  # seconds between looks for the parent process
# The process that started this one: `up` a worker, `web` the server. Whoever asks the system for it may ask too late.
_MINDED_BY = "STORECUE_MINDED_BY"
_SETTLED = 60.0  # seconds after which a worker did not die young
# Connections at a time; whoever comes beyond them waits to be accepted. granian's backpressure counts connections and
# not requests, also those that say nothing for the 10 s that they may: with 512 of them nobody else was answered.
_CONNECTIONS = 2048
_OTHER_FILES = 256  # descriptors for databases and locks
_HEADERS = 32 * 1024  # bytes of a request's head, for granian a guide: it refuses what is twice as large


def application(settings: "Settings") -> "Ingress":
    """The RSGI application of a web process: webhooks and events in front, the API and the pages behind."""
    from connector.app import create_app
    from connector.web.current import of
    from connector.web.ingress import Ingress

    app = create_app(settings)
    return Ingress(app.wsgi_app, of(app).receiver, of(app).tracker)


def listening_address(host: str, port: int) -> str:
    """The literal address to listen on, which nobody else listens on yet. ConfigurationError otherwise.

    Asked before anything starts: the server itself would share the port with a second one of its kind, and requests
    would go to either.
    """
    try:
        family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise ConfigurationError(f"{host} is no address; give --host or STORECUE_HOST one of this machine") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one leaves traces
        try:
            probe.bind(found)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --host and --port, or with "
                "STORECUE_HOST and STORECUE_PORT, or stop what listens there"
            ) from None
    return str(found[0])


def web(address: str, port: int, stopping: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first. The environment has the other settings.
    `stopping` is called when the signal comes."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings

    os.environ[_MINDED_BY] = str(os.getpid())
    server = Granian(
        target="storecue",
        address=address,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        workers=1,
        loop=Loops.auto,  # uvloop where there is one (not on Windows): a delivery costs a seventh less
        backlog=_CONNECTIONS,
        backpressure=_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=_HEADERS),
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        respawn_interval=0.5,
        workers_kill_timeout=_SERVER_STOPS_WITHIN,
    )
    if stopping is not None:
        server.on_startup(lambda: _when_told_to_stop(stopping))
    server.serve(target_loader=_application, wrap_loader=False)


def _when_told_to_stop(stopping: Callable[[], None]) -> None:
    """Calls `stopping` before what granian does at these signals: it returns only after the last request."""
    for number in (signal.SIGTERM, signal.SIGINT):
        theirs = signal.getsignal(number)

        def both(signum: int, frame: FrameType | None, theirs: Any = theirs) -> None:
            stopping()
            theirs(signum, frame)

        signal.signal(number, both)


def _connections() -> int:
    """How many connections are taken at a time, once this process may have as many open files as that needs."""
    wanted = _CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(128, wanted - _OTHER_FILES)


def _application() -> Any:  # granian's type says callable; it takes what has __rsgi__
    """The application in the process that serves it, with this process's settings and logging."""
    from connector import logs, memory
    from connector.config.settings import Settings

    with suppress(AttributeError, OSError):  # Linux has it, and a sandbox may forbid it
        # The threads of this process wake each other for every request. As batch tasks they do not interrupt each other
        # on that: 0.8 context switches for a delivery instead of 5, a fifth less CPU (2026-11, Linux 6.18, one core).
        # Threads inherit it, so it comes before all of them.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _end_with(int(os.environ[_MINDED_BY]), lambda: os._exit(1))
    settings = Settings.from_environment()
    logs.configure(settings.log_level, settings.log_format, secrets=(settings.api_token or "", *settings.secret_keys))
    served = application(settings)
    memory.settle()
    return served


def _end_with(parent: int, end: Callable[[], None]) -> None:
    """Calls `end` once the process that started us is gone: kill -9 reached it alone, and whoever takes its place must
    find the port free and no second worker."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def worker(settings: "Settings", *, line: bool = True, send: bool = True) -> None:
    """Work until SIGTERM or SIGINT; the batch under way is finished first. `line` is what follows the log, `send` what
    speaks to vendors and sources."""
    from connector import clock, memory
    from connector.services import Services
    from connector.storage.server_clock import ServerClock
    from connector.worker import Worker

    services = Services(settings)
    worker = Worker(services, ServerClock(services.database, clock.now), line=line, send=send)
    memory.settle()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if minder := os.environ.get(_MINDED_BY):
        _end_with(int(minder), worker.stop)
    try:
        worker.run()
    finally:
        services.close()
    # All that is ours is written. A vendor that does not answer must not hold us up: Python would wait for the call.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class Minder:
    """Keeps one worker process running beside the web server: started anew when it dies, stopped when we stop."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._asked_at = 0.0  # monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._mind, name="worker-minder", daemon=True)

    def start(self) -> None:
        self._process = self._spawn()
        self._thread.start()

    def ask(self) -> None:
        """Tell the worker to stop."""
        if not self._stopping.is_set():
            self._asked_at = time.monotonic()
            self._stopping.set()
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()

    def stop(self) -> None:
        """Tell the worker to stop and wait for it; kill it when it takes too long: nothing is lost then either."""
        self.ask()
        process = self._process
        if process is not None:
            try:
                process.wait(max(0.1, self._asked_at + _WORKER_STOPS_WITHIN - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        environ = {**os.environ, _MINDED_BY: str(os.getpid())}
        return subprocess.Popen([sys.executable, "-m", "connector", "worker"], env=environ)

    def _mind(self) -> None:
        wait = _SHORTEST_WAIT
        while not self._stopping.is_set():
            process = self._process
            if process is None:
                return
            began = time.monotonic()
            code = process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _SETTLED:
                wait = _SHORTEST_WAIT
            click.echo(f"the worker ended with code {code}; starting it again in {wait} s", err=True)
            self._stopping.wait(wait)
            wait = min(wait * 2, 10.0)
            if not self._stopping.is_set():
                self._process = self._spawn()


def up(prepare: "Callable[[], Settings]") -> None:
    """Web server and worker together until SIGTERM or SIGINT, after `prepare` has opened the data."""
    address, port = _prepared(prepare)
    minder = Minder()
    minder.start()
    try:
        web(address, port, minder.ask)
    finally:
        minder.stop()


def web_alone(prepare: "Callable[[], Settings]") -> None:
    """The web server until SIGTERM or SIGINT, after `prepare` has opened the data."""
    web(*_prepared(prepare))


def _prepared(prepare: "Callable[[], Settings]") -> tuple[str, int]:
    """The address and port to listen on; the environment has the other settings from here on.

    `prepare` runs in a process of its own, so that what only it needs does not stay in the memory of the server.
    """
    receiving, sending = multiprocessing.Pipe(duplex=False)
    preparing = multiprocessing.get_context("fork").Process(target=_prepare, args=(prepare, sending))
    preparing.start()
    preparing.join()
    if preparing.exitcode:
        raise SystemExit(preparing.exitcode)
    host, port, variables = receiving.recv()
    os.environ.update(variables)
    address = listening_address(host, port)
    click.echo(f"StoreCue listens on http://{f'[{host}]' if ':' in host else host}:{port}", err=True)
    return address, port


def _prepare(prepare: "Callable[[], Settings]", sending: Connection) -> None:
    settings = prepare()
    sending.send((settings.host, settings.port, environment(settings)))


def environment(settings: "Settings") -> dict[str, str]:
    """The variables that give another process these settings; keys and tokens it takes from the same environment."""
    return {
        "STORECUE_DATA": str(settings.data_dir.absolute()),
        "STORECUE_HOST": settings.host,
        "STORECUE_PORT": str(settings.port),
        "STORECUE_LOG_LEVEL": settings.log_level,
        "STORECUE_LOG_FORMAT": settings.log_format,
    }
