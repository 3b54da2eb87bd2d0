"""The tracking clients of others, as they are published: where they are installed, and a browser to run them in.

What this machine does not have is skipped, and the reason says what is missing. Where CI is set, nothing may be.
"""

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.mortal import dies_with_us

PACKAGES = (
    "@segment/analytics-node@3.1.0",
    "@rudderstack/rudder-sdk-node@3.0.13",
    "@segment/analytics-next@1.84.3",
)
_INSTALLED_WITHIN = 240  # seconds
# A browser that talks to nobody but the page, and runs as root in a container.
_QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --disable-dev-shm-usage"
).split()


def missing(what: str) -> None:
    """Skips the test, and fails it where everything must be tested."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and this run must test every client")
    pytest.skip(what)


def node() -> str:
    """The Node.js of this machine."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        missing("there is no Node.js with npm on this machine")
    assert found is not None
    return found


def chromium() -> str:
    """The browser of this machine."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    missing("there is no Chromium on this machine")
    raise AssertionError


@functools.cache
def modules() -> Path:
    """A `node_modules` with PACKAGES in it, outside the repository and kept for the next run."""
    node()
    digest = hashlib.sha256("\n".join(PACKAGES).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "storecue-tests"
    folder = cache / digest
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as draft:
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", draft, *PACKAGES]
            made = subprocess.run(command, cwd=draft, capture_output=True, text=True, timeout=_INSTALLED_WITHIN)
            if made.returncode:
                missing(f"npm could not install the clients: {made.stderr[-300:]}")
            try:
                Path(draft).rename(folder)
            except OSError:
                assert folder.exists(), "another run was not faster"
            else:
                Path(draft).mkdir()
    return folder / "node_modules"


def run_node(script: str, *arguments: str) -> str:
    """What a script prints that may `require` the clients."""
    environ = {**os.environ, "NODE_PATH": str(modules())}
    done = subprocess.run(
        [node(), "-e", script, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def pages(folder: Path, port: int) -> Iterator[list[str]]:
    """A web server of the shop's pages, of an origin of its own, and the paths that it is asked for."""
    asked: list[str] = []

    class Pages(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", port), partial(Pages, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join(5)


@contextmanager
def visiting(address: str, folder: Path) -> Iterator[None]:
    """A headless browser that has opened a page. It names itself as people's do: crawlers are no visitors."""
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
    command = [
        chromium(),
        *_QUIET,
        f"--user-agent={agent}",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'browser'}",
        "--remote-debugging-port=0",
        address,
    ]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, preexec_fn=dies_with_us(signal.SIGKILL)
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
