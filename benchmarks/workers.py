"""Workers: orders per second of one worker process and of two on the same PostgreSQL, on two cores.

    python -m benchmarks.workers [--orders 6000] [--rounds 2] [--log database kafka]

Each run has a new database, a full log and worker processes that wait for the word; the clock runs from it to the last
commit. Everything shares the two cores, PostgreSQL's processes too, so the last columns tell what each order cost them
and the workers: two workers cannot be faster than the two cores allow.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.databases import PostgreSQL, kafka, postgresql
from benchmarks.pacing import at
from benchmarks.processing import deliveries, prepare
from benchmarks.serving import cpu_seconds
from benchmarks.worker import Work, hired
from connector.logs import configure
from connector.ports import New

CORES = len(os.sched_getaffinity(0))
_TARGET = 1.7


def main() -> None:
    """Prints orders/s with one worker and with two, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--log", nargs="+", choices=("database", "kafka"), default=["database", "kafka"])
    given = parser.parse_args()
    configure("critical", "console")
    items = deliveries(given.orders, given.orders)
    print("| log in | workers | orders/s | batch p99 ms | CPU us an order, workers | PostgreSQL | WAL bytes an order |")
    print("|---|---|---|---|---|---|---|")
    with postgresql() as server:
        for log in given.log:
            rates = {}
            for count in (1, 2):
                runs = [run(server, log, count, items) for _ in range(given.rounds)]
                rate, tail, own, theirs, written = (statistics.median(column) for column in zip(*runs, strict=True))
                rates[count] = rate
                figures = f"{rate:,.0f} | {tail:.0f} | {own:.0f} | {theirs:.0f} | {written:,.0f}"
                print(f"| {log} | {count} | {figures} |", flush=True)
            print(f"| {log} | two to one | {rates[2] / rates[1]:.2f}, target {_TARGET} | | | | |", flush=True)


def run(server: PostgreSQL, log: str, count: int, items: list[New]) -> tuple[float, float, float, float, float]:
    """Orders/s, p99 of a batch in ms, CPU us an order of the workers and of PostgreSQL, and its bytes of WAL."""
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as folder, _log(log) as chosen, ExitStack() as stack:
        environ = {"STORECUE_DATA": folder, "DATABASE_URL": server.database(), **chosen}
        services, _ = prepare(Path(folder), items, environ)
        services.close()
        workers = [stack.enter_context(hired(environ)) for _ in range(count)]
        for worker in workers:
            worker.ready()
        cpu, wal = cpu_seconds((server.process,)), server.wal()
        for worker in workers:
            worker.begin()
        works: list[Work] = [worker.result() for worker in workers]
        theirs, written = cpu_seconds((server.process,)) - cpu, server.wal() - wal
    done = sum(work.done for work in works)
    if done != len(items):
        raise SystemExit(f"{done} of {len(items)} orders were worked off")
    seconds = max(work.ended for work in works if work.done) - min(work.began for work in works if work.done)
    tail = at([batch for work in works for batch in work.batches], 0.99) * 1e3
    own = sum(work.cpu for work in works)
    return done / seconds, tail, own / done * 1e6, theirs / done * 1e6, written / done


@contextmanager
def _log(name: str) -> Iterator[dict[str, str]]:
    if name == "database":
        yield {}
        return
    with kafka() as bootstrap:
        yield {"KAFKA_BOOTSTRAP": bootstrap}


if __name__ == "__main__":
    main()
