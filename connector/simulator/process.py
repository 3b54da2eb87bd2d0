"""The real connector as a process of its own, for the demo: what a merchant would install, started the same way."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from connector.errors import ConfigurationError
from connector.simulator.demo import DemoSetup, Running

_STARTS_WITHIN = 20.0  # seconds
_STOPS_WITHIN = 15.0


@contextmanager
def start_connector(setup: DemoSetup) -> Iterator[Running]:
    """`storecue up` on a free port with the demo's file and secrets; its log is `connector.log` beside the data."""
    token = secrets.token_urlsafe(24)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "connector", "up", "--config", str(setup.config_file)]
    command += ["--data", str(setup.data_dir), "--port", str(port)]
    environ = {**os.environ, **setup.environment, "STORECUE_API_TOKEN": token}
    log_file = setup.data_dir / "connector.log"
    with log_file.open("wb") as log:
        # In a session of its own, so that Ctrl-C reaches the demo alone, which then stops the connector in order.
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        try:
            _wait_until_ready(process, url)
            yield Running(url, token)
        finally:
            process.terminate()
            try:
                process.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{url}/healthz", timeout=1):  # noqa: S310  (our own address on loopback)
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise ConfigurationError("the demo's connector did not start; its connector.log says why")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
