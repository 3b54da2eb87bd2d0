"""Processing: from a claimed delivery to its desired states, orders per second of one worker on one core, and where
the time goes, beside the floor of the same run (JSON parse plus one grouped insert).

    python -m benchmarks.processing [--orders 10000] [--people 4000] [--profile]

Twenty segments, half of them with windows; three destinations; SQLite with synchronous=FULL.
"""

import argparse
import cProfile
import os
import pstats
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.pacing import at
from benchmarks.rules import DESTINATIONS, FIELDS, HEAD, SEGMENTS
from connector import clock, memory
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.domain import RawRequest
from connector.inbox.runner import run_once
from connector.logs import configure
from connector.pipeline import Pipeline, line
from connector.pipeline.decisions import Decisions
from connector.ports import New
from connector.profiles import store as profile_store
from connector.segments import store as segment_store
from connector.services import Services
from connector.simulator import bodies
from connector.storage.database import Database

_STAGES: tuple[tuple[str, Any, str], ...] = (
    ("normalise", line, "understand"),
    ("identity", line, "identify"),
    ("load people", line, "load"),
    ("entities", line, "store_things"),
    ("events", profile_store, "add_events"),
    ("traits", line, "compute_traits"),
    ("save people", profile_store, "save"),
    ("facts", segment_store, "load_facts"),
    ("memberships read", segment_store, "load_memberships"),
    ("memberships written", segment_store, "save_memberships"),
    ("desired states", Decisions, "want"),
    ("timeline", profile_store, "add_changes"),
)


def main() -> None:
    """Prints orders per second, the floor, and milliseconds per 1,000 orders by stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--people", type=int, default=4_000)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    configure("error", "console")
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    try:
        items = deliveries(arguments.orders, arguments.people)
        floor = time_floor(folder / "floor.db", items)
        services, pipeline = prepare(folder / "data", items)
        spent = watch()
        memory.settle()  # as a worker does
        batches, cpu = process(services, pipeline, arguments.profile)
        seconds = sum(batches)
        rate, size = len(items) / seconds, sum(len(item.body) for item in items) / len(items)
        print(f"{len(items)} orders of {size:.0f} bytes by {arguments.people} people, 20 segments, 3 destinations")
        each = f"{1e6 / rate:6.0f} us each, of which CPU {cpu / len(items) * 1e6:.0f} us"
        print(f"processing   {rate:8.0f} orders/s   {each}")
        print(f"floor        {floor:8.0f} orders/s   {1e6 / floor:6.0f} us each (orjson.loads + one grouped insert)")
        print(f"ratio        {rate / floor:8.2f}")
        middle, tail = at(batches, 0.5) * 1e3, at(batches, 0.99) * 1e3
        print(f"batches      {len(batches):8}            p50 {middle:.0f} ms, p99 {tail:.0f} ms")
        for name, database in (("state", services.database), ("log", services.inbox)):
            print(f"{name:<13}{kept(database) / len(items):8.0f} bytes an order on the disk")
        print("\nstage                    ms per 1,000 orders")
        for name, cost in spent.items():
            print(f"{name:<24}{cost / len(items) * 1e6:8.1f}")
        services.close()
    finally:
        shutil.rmtree(folder)


def kept(database: Database) -> int:
    """Bytes of the file once everything is in it."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(
            connection.exec_driver_sql(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).scalar_one()
        )


def deliveries(count: int, people: int) -> list[New]:
    """Signed-size orders/create deliveries, each of one of `people`, over the last 60 days."""
    rng = random.Random(7)
    now = clock.now()
    source = _source()
    made = []
    customers = bodies.invent_people(rng, people)
    for number in range(count):
        order = bodies.invented_order(rng, now - rng.randrange(60 * clock.DAY))
        order.person = rng.choice(customers)
        body = orjson.dumps(bodies.order(order))
        headers = {"x-shopify-topic": "orders/create", "x-shopify-webhook-id": f"w{number}"}
        [claim] = source.claim(RawRequest("POST", "/", headers, body))
        kept = orjson.dumps(claim.headers).decode()
        made.append(New(f"shop/{claim.key}", "shop", claim.delivery_id, claim.topic, now, kept, body))
    return made


def _source() -> Any:
    from connector.sources import SOURCES

    return SOURCES["shopify"]


def prepare(folder: Path, items: list[New], environ: Mapping[str, str] | None = None) -> tuple[Services, Pipeline]:
    """A StoreCue with the rules applied and the deliveries in its log."""
    services = Services(Settings.from_environment(environ=environ or {}, data_dir=folder))
    wanted = configuration_from(parse(HEAD + DESTINATIONS + FIELDS + SEGMENTS))
    configuration_store.apply(services.database, services.vault, wanted, clock.now())
    for start in range(0, len(items), 500):
        services.log.append(items[start : start + 500])
    return services, Pipeline(services.configuration(), services.ruleset(), services.source_kinds)


def process(services: Services, pipeline: Pipeline, profile: bool) -> tuple[list[float], float]:
    """Seconds of each batch until the log is worked off, and seconds on the processor in all."""
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    batches, cpu = [], time.process_time()
    while True:
        began = time.perf_counter()
        done = run_once(
            services.database, services.log, lambda tx, records: pipeline.handle(tx, records, clock.now()), wait=0
        )
        if not done:
            break
        batches.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    if profile:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
    return batches, cpu


def watch() -> dict[str, float]:
    """Seconds spent in each stage, added up as they run."""
    spent = dict.fromkeys((name for name, _, _ in _STAGES), 0.0)
    for name, owner, attribute in _STAGES:
        setattr(owner, attribute, _timed(getattr(owner, attribute), name, spent))
    return spent


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - started

    return timed


def time_floor(path: Path, items: list[New]) -> float:
    """Orders per second of the least that anybody must do: parse, and keep the body in groups of 500."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, number TEXT, body BLOB)")
    started = time.perf_counter()
    for start in range(0, len(items), 500):
        rows = [(orjson.loads(item.body)["name"], item.body) for item in items[start : start + 500]]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO kept (number, body) VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return len(items) / seconds


if __name__ == "__main__":
    main()
