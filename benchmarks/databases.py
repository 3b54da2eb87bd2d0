"""The databases and the broker of the benchmarks: SQLite in a folder, a PostgreSQL from the tests' wheel that waits for
its disk as in production, and librdkafka's mock cluster in a process of its own.

Each gives the variables that tell StoreCue where its data is.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.serving import ROOT
from tests import postgres as wheel
from tests.brokers import MockKafka

Environ = dict[str, str]
_MEMORY = {"shared_buffers": "1GB", "max_wal_size": "8GB", "effective_cache_size": "8GB", "checkpoint_timeout": "30min"}


class PostgreSQL:
    """A server of our own. `process` is its first, the parent of all others, `folder` where it keeps everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = wheel.Server(folder, durable=True)
        self._server._settings.update(_MEMORY)
        self._server.start()
        assert self._server._process is not None
        self.process = self._server._process

    def database(self) -> str:
        """The URL of a new, empty database."""
        return wheel.create_database(self._server.dsn)

    def wal(self) -> int:
        """Bytes of write-ahead log so far."""
        return int(self._ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def touched(self) -> tuple[int, int]:
        """Rows that statements fetched from tables, and pages they looked at, so far, in all databases."""
        told = "sum({})::bigint FROM pg_stat_database"
        return (
            int(self._ask("SELECT " + told.format("tup_fetched + tup_returned"))),
            int(self._ask("SELECT " + told.format("blks_hit + blks_read"))),
        )

    def images(self) -> int:
        """Pages written whole into the write-ahead log so far: each the first time after a checkpoint."""
        return int(self._ask("SELECT wal_fpi FROM pg_stat_wal"))

    def checkpoint(self) -> None:
        with psycopg.connect(self._server.dsn, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def _ask(self, question: str) -> int:
        with psycopg.connect(self._server.dsn) as connection:
            row = connection.execute(question).fetchone()  # type: ignore[call-overload]
            return int(row[0])

    def stop(self) -> None:
        self._server.stop()


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A server for as long as it is needed. A socket's path has at most 107 bytes, hence its own folder."""
    with tempfile.TemporaryDirectory(prefix="storecue-pg", ignore_cleanup_errors=True) as name:
        server = PostgreSQL(Path(name))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def kafka(core: int | None = None) -> Iterator[str]:
    """The address of a mock cluster of one broker, which keeps 5 MB of a partition, in memory."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    process = subprocess.Popen(
        [*pinned, sys.executable, "-m", "benchmarks.databases"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    cluster = MockKafka()
    cluster.topic("storecue.deliveries", 64)  # the mock cluster cannot be asked to make one
    print(cluster.bootstrap, flush=True)
    sys.stdin.read()
