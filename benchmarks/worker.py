"""One worker's line in a process of its own, which tells what its work cost; for the benchmarks that start several.

    python -m benchmarks.worker

The environment says where its data is, as for `storecue worker`. Prints a line once it is ready; works when it reads
one, until nothing came for a second; then prints `Work` as JSON.
With COUNT_STEPS it counts SQLite's own steps instead of being quick.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from sqlalchemy import event as sqlalchemy_event

from benchmarks.serving import ROOT
from connector import clock, memory
from connector.config.settings import Settings
from connector.errors import Fenced
from connector.logs import configure
from connector.services import Services
from connector.worker import Worker

_IDLE = 1.0  # seconds without work after which the log is taken to be empty
_NOTHING = 10.0  # the same for who never got any, and where a consumer group may still be sharing out
_JOINS = 6.0  # seconds for a consumer group to find together
_STEPS = 1_000  # SQLite tells every so many


class Work(NamedTuple):
    """What was done: deliveries, when it began and ended (Unix seconds), CPU seconds, the seconds of each batch, memory
    in MB that is the process's own and at most (with mapped files), and thousands of SQLite's steps if counted."""

    done: int
    began: float
    ended: float
    cpu: float
    batches: list[float]
    own: float
    most: float
    steps: int


class Hired:
    """A worker process: wait until it is `ready`, let it `begin`, ask for the `result`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ready(self) -> None:
        self._line()

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("work\n")
        self._process.stdin.flush()

    def result(self) -> Work:
        """Waits until it has worked everything off."""
        return Work(**orjson.loads(self._line()))

    def work(self) -> Work:
        """All that is there, worked off."""
        self.begin()
        return self.result()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the worker ended; its error is above")
        return line


@contextmanager
def hired(environ: Mapping[str, str], core: int | None = None) -> Iterator[Hired]:
    """A worker with these settings, on one core or on any."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    process = subprocess.Popen(
        [*pinned, sys.executable, "-m", "benchmarks.worker"],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Hired(process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """The process."""
    configure("critical", "console")
    services = Services(Settings.from_environment())
    steps = _count(services) if "COUNT_STEPS" in os.environ else [0]
    worker = Worker(services, clock.now, push=False)
    worker.refresh()
    while worker.jobs.step(worker.pipeline, worker.now()):
        pass
    joined = time.monotonic() + (_JOINS if services.settings.kafka is not None else 0)
    while time.monotonic() < joined:
        services.log.fill(0.1)
    memory.settle()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(orjson.dumps(_work(worker, steps)._asdict()).decode(), flush=True)


def _work(worker: Worker, steps: list[int]) -> Work:
    done, batches, counted, cpu = 0, [], steps[0], time.process_time()
    began = ended = time.time()
    spent = cpu
    patience = _IDLE if worker.services.settings.kafka is None else _NOTHING
    while time.time() - ended < (patience if done else _NOTHING):
        started, at = time.perf_counter(), time.time()
        try:
            some = worker._follow_log(0.05)
        except Fenced:
            continue
        if some:
            began = began if done else at
            batches.append(time.perf_counter() - started)
            done, ended, spent = done + some, time.time(), time.process_time()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, most = (int(status[name].split()[0]) / 1024 for name in ("RssAnon", "VmHWM"))
    return Work(done, began, ended, spent - cpu, batches, own, most, steps[0] - counted)


def _count(services: Services) -> list[int]:
    """A count that grows by one for each thousand steps of SQLite."""
    count = [0]

    def counted() -> int:
        count[0] += 1
        return 0

    def connected(connection: object, _record: object) -> None:
        connection.set_progress_handler(counted, _STEPS)  # type: ignore[attr-defined]

    sqlalchemy_event.listen(services.database.engine, "connect", connected)
    services.database.engine.dispose()
    return count


if __name__ == "__main__":
    main()
