"""A slow disk: what ingest and processing lose when each fsync takes longer.

    python -m benchmarks.slow_disk [--delays 0 5 20] [--seconds 4] [--orders 3000]

A library of a few lines, compiled here by gcc and put in front of the C library by LD_PRELOAD, lets every fsync and
fdatasync of the server wait. Ingest is `storecue web` under 32 connections, processing one worker's line over a full
log; the naive view of benchmarks.peers commits for each webhook and stands beside them where it is installed.
"""

import argparse
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import ingest, peers
from benchmarks.pacing import at, paced
from benchmarks.platform import platform
from benchmarks.processing import deliveries, prepare
from benchmarks.worker import hired

WORK = Path(__file__).parent / ".work"
SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void slow(void) {
    const char *given = getenv("SLOW_FSYNC_US");
    if (given) usleep((useconds_t)atoi(given));
}

int fsync(int file) {
    slow();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file) {
    slow();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
"""


def main() -> None:
    """Prints both by delay, and what is left of them beside no delay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 5, 20], help="ms; the first is the baseline")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--orders", type=int, default=3_000)
    given = parser.parse_args()
    library = build()
    if library is None:
        print("not measured: there is no gcc on the PATH that could build the library which delays fsync")
        return
    first: dict[str, float] = {}
    print("| ms added to each fsync | | each second | p99 ms | of no delay |\n|---|---|---|---|---|")
    for delay in given.delays:
        environ = {"LD_PRELOAD": str(library), "SLOW_FSYNC_US": str(delay * 1000)}
        rows = received(environ, given.seconds) | {"processing, orders": processed(environ, given.orders)}
        for name, (rate, tail) in rows.items():
            print(
                f"| {delay} | {name} | {rate:,.0f} | {tail:.1f} | {rate / first.setdefault(name, rate):.2f} |",
                flush=True,
            )


def build() -> Path | None:
    """The library, or None where there is no gcc."""
    if shutil.which("gcc") is None:
        return None
    WORK.mkdir(exist_ok=True)
    source, library = WORK / "slow_fsync.c", WORK / "slow_fsync.so"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def received(environ: dict[str, str], seconds: int) -> dict[str, tuple[float, float]]:
    """Webhooks a second and the p99 of their acknowledgement in ms, of ours and of the naive view."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        script = ingest.write_script(folder)
        address, _ = stack.enter_context(platform(ingest.LOADS_CORE))
        rows = {"ingest, webhooks": lambda: ingest.storecue(folder, environ=environ)}
        if "naive Flask" in peers.installed():
            rows["naive Flask, webhooks"] = lambda: peers.naive(folder, address, ingest.SERVERS_CORE, environ)
        for row, start in rows.items():
            with start() as (port, _):
                paced(port, ingest.requests(folder, 50), 50)
                found[row] = ingest.load(port, script, seconds)
    return found


def processed(environ: dict[str, str], orders: int) -> tuple[float, float]:
    """Orders a second and the p99 of a batch in ms, of one worker."""
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as name:
        services, _ = prepare(Path(name), deliveries(orders, orders))
        services.close()
        with hired({"STORECUE_DATA": name, **environ}, ingest.SERVERS_CORE) as worker:
            worker.ready()
            work = worker.work()
        return work.done / (work.ended - work.began), at(work.batches, 0.99) * 1e3


if __name__ == "__main__":
    main()
