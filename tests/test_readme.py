"""Every command of the README, run as a newcomer would; and the two that `make` runs, as far as a test can."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.mortal import dies_with_us

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.strip()
]
MAY_FIND_FAULTS = "storecue doctor"  # the keys of this test are invented, and no shop has sent anything yet


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A folder with the README's storecue.yaml, and an environment in which `storecue` is installed."""
    [config] = re.findall(r"^ *```yaml\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    lines = config.splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    (tmp_path / "storecue.yaml").write_text("\n".join(line[margin:] for line in lines) + "\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield {
        **{name: value for name, value in os.environ.items() if not name.startswith("STORECUE_")},
        "PATH": path,
        "PWD": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }


def test_the_readme_is_as_short_as_it_should_be() -> None:
    words = re.sub(r"^ *```.*?^ *```", "", README, flags=re.DOTALL | re.MULTILINE).split()
    told = re.sub(r"^\|.*\n", "", README, flags=re.MULTILINE)  # a source more is a line more in a table
    assert 350 <= len(told.split()) <= 600
    assert len(words) > 250


def test_the_commands_work_one_after_the_other(tmp_path: Path, newcomer: dict[str, str]) -> None:
    ran = []
    for command in COMMANDS:
        if command.startswith(("make ", "python3 -m venv", ".venv/bin/pip")):
            continue  # the tests below, and the environment in which this test runs
        if command.startswith("export "):
            for name, value in re.findall(r"(\w+)=(\S+)", command):
                if name != "PATH":
                    newcomer[name] = value
        elif command.startswith("storecue up"):
            run_up(command, tmp_path, newcomer)
        else:
            result = subprocess.run(
                command, shell=True, cwd=tmp_path, env=newcomer, capture_output=True, text=True, timeout=180
            )
            allowed = (0, 1) if command == MAY_FIND_FAULTS else (0,)
            assert result.returncode in allowed, f"{command}\n{result.stdout}\n{result.stderr}"
            assert "Traceback" not in result.stderr
        ran.append(command)
    assert [command.split()[1] for command in ran if command.startswith("storecue")] == [
        "plan",
        "up",
        "token",
        "doctor",
        "status",
        "dead-letters",
        "export",
    ]


def run_up(command: str, folder: Path, environ: dict[str, str]) -> None:
    """Start it, see it answer, and stop it as a supervisor would."""
    port = free_port()
    process = subprocess.Popen(
        [*command.split(), "--port", str(port)],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=dies_with_us(),
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=5)[0]
                time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_knows_what_the_readme_tells(target: str) -> None:
    assert f"make {target}" in COMMANDS
    result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert {"demo": "storecue demo", "test": "pytest"}[target] in result.stdout


def test_the_demo_shows_tags_arriving_and_stops_on_control_c(tmp_path: Path, newcomer: dict[str, str]) -> None:
    """What `make demo` starts, on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["storecue", "demo"],
        cwd=tmp_path,
        env={**newcomer, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=dies_with_us(),
    )
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 60
    try:
        while b"+ " not in seen[seen.find(b"Tags as they arrive") :] and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 65536)
        assert b"Tags as they arrive" in seen
        assert re.search(rb"\+ [a-z-]+", seen), "no tag arrived"
    finally:
        process.send_signal(signal.SIGINT)
    while process.poll() is None and time.monotonic() < deadline + 20:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                os.read(ours, 65536)
            except OSError:
                break
    assert process.wait(20) == 0
    os.close(ours)


def test_the_demo_in_one_line_of_json(tmp_path: Path, newcomer: dict[str, str]) -> None:
    for seconds in (6, 60):  # the second time on a machine that is too busy to show everything in the first
        command = f"storecue demo --headless --seed 7 --for {seconds}s --json --data {tmp_path / str(seconds)}"
        result = subprocess.run(command.split(), env=newcomer, capture_output=True, text=True, timeout=150)
        assert result.returncode == 0, result.stderr
        summary = json.loads(result.stdout)
        told = all(vendor["tagged_contacts"] for vendor in summary["destinations"].values())
        if told and summary["deliveries"]["sent"] > 100:
            break
    assert told and summary["first_tag_seconds"]
    assert summary["deliveries"]["accepted"] == summary["deliveries"]["sent"] > 100
    assert summary["dead_letters"] == 0


def test_the_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path, newcomer: dict[str, str]) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    command = ["storecue", "demo", "--headless", "--for", "1s", "--data", str(tmp_path)]
    result = subprocess.run(command, env=newcomer, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "not a demo's" in result.stderr
    assert (tmp_path / "precious.txt").exists()
