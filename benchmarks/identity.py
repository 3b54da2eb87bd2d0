"""Identity: what it costs to find a person and to merge two, in a store of 10 thousand and of 1 million profiles.

    python -m benchmarks.identity [--profiles 1000000] [--deliveries 4000]

People are picked at random from the whole store, so that nothing is near anything else. CPU per delivery and the ratio
of the large store to the small one, in one run; the target is 1.5 at most.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from sqlalchemy import insert

from connector import clock
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.domain import Delivery, Event, Identifier, Normalised, StoreInfo
from connector.inbox.runner import run_once
from connector.logs import configure
from connector.pipeline import Pipeline
from connector.ports import New
from connector.services import Services
from connector.storage.tables import identifier, profile

_CONFIG = """
version: 1
sources: {shop: {kind: shopify, secrets: [benchmark-secret]}}
segments: {vip: {name: VIP, when: {trait: total_spent, ">=": 1000}}}
"""
_SMALL = 10_000


class Told:
    """A source whose deliveries say in so many words whom they mean: nothing but identity is measured."""

    kind = "shopify"

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        who = tuple(Identifier(kind, value) for kind, value in orjson.loads(delivery.body))
        event = Event(f"seen:{delivery.id}", "Page Viewed", delivery.received_at, {})
        return Normalised(identifiers=who, events=(event,))


def main() -> None:
    """Prints microseconds of CPU per delivery, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--deliveries", type=int, default=4_000)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    configure("error", "console")
    measured = {size: measure(size, arguments.deliveries) for size in (_SMALL, arguments.profiles)}
    small, large = measured.values()
    print(f"{'us of CPU per delivery':<34}{_SMALL:>12,}{arguments.profiles:>12,}   ratio")
    for name in small:
        print(f"{name:<34}{small[name]:>12.0f}{large[name]:>12.0f}{large[name] / small[name]:>8.2f}")


def measure(size: int, count: int) -> dict[str, float]:
    """CPU per delivery of finding somebody, and of a visitor who turns out to be somebody."""
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    try:
        services = Services(Settings.from_environment(environ={}, data_dir=folder))
        wanted = configuration_from(parse(_CONFIG))
        configuration_store.apply(services.database, services.vault, wanted, clock.now())
        fill(services, size)
        kinds = {**services.source_kinds, "shopify": Told()}
        pipeline = Pipeline(services.configuration(), services.ruleset(), kinds)  # type: ignore[arg-type]
        rng = random.Random(7)
        found = [[("customer_id", f"shop:{rng.randrange(size)}")] for _ in range(count)]
        visits = [[("anonymous_id", f"visitor-{number}")] for number in range(count)]
        joined = [[*who, ("customer_id", f"shop:{rng.randrange(size)}")] for who in visits]
        result = {"find a person": work(services, pipeline, "f", found)}
        result["meet a new visitor"] = work(services, pipeline, "v", visits)
        result["merge the visitor with a person"] = work(services, pipeline, "j", joined)
        services.close()
        return result
    finally:
        shutil.rmtree(folder)


def fill(services: Services, size: int) -> None:
    """`size` customers, each with an address and a browser."""
    now = clock.now()
    for start in range(0, size, 20_000):
        people = range(start, min(start + 20_000, size))
        with services.database.tx() as tx:
            rows = [
                {
                    "id": number + 1,
                    "traits": "{}",
                    "consent": "{}",
                    "email": f"p{number}@example.com",
                    "created_at": now,
                    "updated_at": now,
                }
                for number in people
            ]
            tx.execute(insert(profile), rows)
            tx.execute(insert(identifier), list(_ties(people, now)))


def _ties(people: Sequence[int], now: int) -> Iterator[dict[str, object]]:
    for kind, value in (("customer_id", "shop:{}"), ("email", "p{}@example.com"), ("anonymous_id", "browser-{}")):
        for number in people:
            tied = {"kind": kind, "value": value.format(number), "profile_id": number + 1}
            yield tied | {"source": "shop", "seen_at": now, "shared": 0}


def work(services: Services, pipeline: Pipeline, prefix: str, meant: Sequence[Sequence[tuple[str, str]]]) -> float:
    """Microseconds of CPU per delivery to work these off."""
    now = clock.now()
    for start in range(0, len(meant), 500):
        some = enumerate(meant[start : start + 500], start)
        services.log.append(
            [New(f"{prefix}{n}", "shop", f"{prefix}{n}", "told", now, "{}", orjson.dumps(who)) for n, who in some]
        )
    started = time.process_time()
    while run_once(services.database, services.log, lambda tx, some: pipeline.handle(tx, some, clock.now()), wait=0):
        pass
    return (time.process_time() - started) / len(meant) * 1e6


if __name__ == "__main__":
    main()
