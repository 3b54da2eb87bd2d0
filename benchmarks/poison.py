"""What records that break us cost the others: the CPU of a clean run beside one in which some raise.

`source`: their source stumbles over them. `thing`: the line does, as it makes a row of what is in them. `person`: it
does as it decides about the person, after most was written. `nobody`: it raises after its last write, as the database
does, and nothing says over which record. Attempts until each is a dead letter are part of it; time is made to pass.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processing import deliveries, prepare
from connector import clock
from connector.clock import MINUTE
from connector.inbox.care import Care
from connector.inbox.notes import Notes
from connector.inbox.parking import Parking
from connector.inbox.runner import run_once
from connector.logs import configure
from connector.pipeline import line, meaning, things
from connector.ports import New
from connector.segments import store as segment_store

WHERE = ("source", "thing", "person", "nobody")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--people", type=int, default=4_000)
    parser.add_argument("--every", type=int, default=100, help="One record in so many is bad.")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    configure("critical", "console")
    items = deliveries(arguments.orders, arguments.people)
    clean = run(items, "", 0)
    print(f"{'':14} {'us CPU each':>12} {'throughput':>11} {'transactions':>13} {'dead letters':>13}")
    for where in ("", *WHERE):
        cpu, transactions, dead = clean if not where else run(items, where, arguments.every)
        each = cpu / len(items) * 1e6
        print(f"{where or 'clean':14} {each:12.0f} {clean[0] / cpu:11.2f} {transactions:13,} {dead:13,}")


def run(items: list[New], where: str, every: int) -> tuple[float, int, int]:
    """CPU seconds, transactions and dead letters."""
    with tempfile.TemporaryDirectory() as folder:
        services, pipeline = prepare(Path(folder), items)
        restore = poison(where, every)
        transactions, now = 0, clock.now()

        def handle(tx: Any, records: Any, at: int) -> Any:
            nonlocal transactions
            transactions += 1
            return pipeline.handle(tx, records, at)

        care, parking = Care(), Parking(services.database, handle, Notes(Path(folder)))

        def work_off(tx: Any, records: Any) -> None:
            if care.fault is None:
                parking.work_off(tx, records, now)
            else:
                parking.put_aside(tx, records[0], care.fault, now)

        began = time.process_time()
        while run_once(services.database, services.log, work_off, wait=0, care=care):
            parking.step(now)
        for _ in range(60):
            now += MINUTE
            while parking.step(now):
                pass
        cpu = time.process_time() - began
        with services.database.read() as connection:
            dead = connection.exec_driver_sql("SELECT count(*) FROM dead_letter").scalar_one()
            assert connection.exec_driver_sql("SELECT count(*) FROM parked").scalar_one() == 0
        restore()
        services.close()
    return cpu, transactions, dead


def poison(where: str, every: int) -> Callable[[], None]:
    """Lets bad records raise there; what takes that back."""
    bad_people: set[int] = set()

    def bad(id_: str) -> bool:
        return int(id_[1:]) % every == every // 2

    def check(*ids: str) -> None:
        if any(map(bad, ids)):
            raise RuntimeError("bad")

    def source(real: Any, delivery: Any, *rest: Any) -> Any:
        check(delivery.id)
        return real(delivery, *rest)

    def thing(real: Any, made: Any, one: Any, *rest: Any) -> None:
        check(one.delivery.id)
        real(made, one, *rest)

    def identify(real: Any, tx: Any, meant: Any, *rest: Any) -> Any:
        found = real(tx, meant, *rest)
        bad_people.clear()
        bad_people.update(one.person for one in meant if bad(one.delivery.id))
        return found

    def facts(real: Any, *rest: Any) -> Any:
        return real(*rest) | dict.fromkeys(bad_people)  # None, over which every rule stumbles

    def work_off(real: Any, self: Any, tx: Any, meant: Any, now: int) -> None:
        real(self, tx, meant, now)
        check(*(one.delivery.id for one in meant))

    places: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
        "": [],
        "source": [(meaning, "_normalised", source)],
        "thing": [(things, "_add", thing)],
        "person": [(line, "identify", identify), (segment_store, "load_facts", facts)],
        "nobody": [(line.Pipeline, "_work_off", work_off)],
    }
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places[where]]
    for owner, name, instead in places[where]:
        setattr(owner, name, _instead(instead, getattr(owner, name)))

    def restore() -> None:
        for owner, name, real in before:
            setattr(owner, name, real)

    return restore


def _instead(of: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: of(real, *arguments)


if __name__ == "__main__":
    main()
