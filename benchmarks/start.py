"""Start: seconds from `storecue up` to its first answer, and the memory that its processes hold when idle.

    python -m benchmarks.start [--rounds 5]

RSS counts pages that processes share once for each; PSS splits them, so that its sum is what the machine gives up.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import psutil

from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from benchmarks.serving import free_port


def main() -> None:
    """Prints the median start, and the memory of the last round by process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as name:
        folder = Path(name)
        (folder / "storecue.yaml").write_text(HEAD + FIELDS + SEGMENTS)
        first, later = [], []
        for number in range(arguments.rounds):
            data = folder / f"data-{number}"
            first.append(start(folder, data)[0])
            seconds, memory = start(folder, data)
            later.append(seconds)
        print(f"first start, with the databases to make: {statistics.median(first):.2f} s")
        print(f"later starts:                            {statistics.median(later):.2f} s")
        print(f"\n{'idle':<10}{'RSS MB':>8}{'PSS MB':>8}")
        for process, (rss, pss) in memory.items():
            print(f"{process:<10}{rss:>8.0f}{pss:>8.0f}")
        both = [memory["web"], memory["worker"]]
        print(f"{'web+worker':<10}{sum(rss for rss, _ in both):>8.0f}{sum(pss for _, pss in both):>8.0f}")


def start(folder: Path, data: Path) -> tuple[float, dict[str, tuple[float, float]]]:
    """Seconds until /healthz answers, and {process: (RSS, PSS)} in MB after ten idle seconds."""
    port = free_port()
    command = [sys.executable, "-m", "connector", "up", "--config", str(folder / "storecue.yaml"), "--data", str(data)]
    environ = {**os.environ, "STORECUE_LOG_LEVEL": "error", "PYTHONPATH": str(Path(__file__).parent.parent)}
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--port", str(port)], env=environ, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                time.sleep(0.01)
        seconds = time.perf_counter() - started
        time.sleep(10)
        memory = {"minder": megabytes(psutil.Process(process.pid))}
        for child in psutil.Process(process.pid).children(recursive=True):
            memory["worker" if "worker" in child.cmdline() else "web"] = megabytes(child)
        return seconds, memory
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def megabytes(process: psutil.Process) -> tuple[float, float]:
    found = process.memory_full_info()
    return found.rss / 1e6, found.pss / 1e6


if __name__ == "__main__":
    main()
