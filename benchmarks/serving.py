"""Servers as processes of their own: started, waited for until they answer, ended with all their children."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


@contextmanager
def running(
    command: Sequence[str], port: int, folder: Path, environ: Mapping[str, str] | None = None, core: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """The command's process once `port` answers, in `folder`; on one core if one is given. Port 0: at once."""
    pinned = () if core is None else ("taskset", "-c", str(core))
    with (folder / "servers.log").open("ab") as words:
        process = subprocess.Popen(
            [*pinned, *command],
            cwd=folder,
            env={**os.environ, **(environ or {}), "PYTHONPATH": str(ROOT)},
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    try:
        if port:
            try:
                wait_for(port, process)
            except OSError:
                raise SystemExit(f"{command}:\n{(folder / 'servers.log').read_text()[-2_000:]}") from None
        yield process
    finally:
        _end(process)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Returns once something answers on `port`; raises when the process has ended, or after a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for how, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def cpu_seconds(processes: Iterable["subprocess.Popen[bytes]"]) -> float:
    """CPU that these processes and all they have started have taken so far, those that have ended included."""
    total = 0.0
    left = [psutil.Process(process.pid) for process in processes]
    while left:
        process = left.pop()
        with suppress(psutil.NoSuchProcess):
            left += process.children()
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
