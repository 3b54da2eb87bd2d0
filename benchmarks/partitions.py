"""Whether the events should be partitioned by month on PostgreSQL: the reads and writes of a batch on both.

    python -m benchmarks.partitions                      50,000 people, 1,000,000 events in 24 months
    python -m benchmarks.partitions --people 5000 --events 100000

Milliseconds, the median of the rounds, each for 500 people at random: what the rules ask (`load_facts`) with windows of
30 days only, and with one rule that has none; the events of a merge by their ids; 500 new events beside 500 that are
there already. The partitioned table has its id unique together with the instant, which is all that PostgreSQL allows.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import psycopg
from sqlalchemy import Connection

from benchmarks.databases import postgresql
from connector.domain import SegmentConfig, StoreInfo
from connector.profiles.store import add_events
from connector.segments.evaluate import RuleSet
from connector.segments.store import load_facts
from connector.storage.database import Database
from connector.storage.rows import write
from connector.storage.tables import event, metadata, profile

NOW = 1_795_000_000_000
MONTH = 30 * 86_400_000
MONTHS = 24
_PEOPLE = 500
_NAMES = ("Order Completed", "Product Viewed", "Product Added", "Checkout Started")
_WINDOWS = {
    "buyers": {"event": "Order Completed", "within": "30d"},
    "lookers": {"event": "Product Viewed", "within": "7d"},
}
_NO_WINDOW = {"loyal": {"event": "Order Completed", "count": {">=": 3}}}


def rules(given: dict[str, object]) -> RuleSet:
    return RuleSet({id: SegmentConfig(id, id, when) for id, when in given.items()}, StoreInfo())  # type: ignore[arg-type]


def partitioned(connection: "psycopg.Connection[object]") -> None:
    connection.execute("DROP TABLE event")
    connection.execute(
        "CREATE TABLE event (profile_id bigint NOT NULL, at bigint NOT NULL, id text NOT NULL, name text NOT NULL,"
        " day int NOT NULL, properties text NOT NULL, source text NOT NULL, PRIMARY KEY (profile_id, at, id))"
        " PARTITION BY RANGE (at)"
    )
    for month in range(MONTHS):
        low = NOW - (MONTHS - month) * MONTH
        connection.execute(f"CREATE TABLE event_{month} PARTITION OF event FOR VALUES FROM ({low}) TO ({low + MONTH})")
    connection.execute("CREATE UNIQUE INDEX event_id ON event (id, at)")


def fill(database: Database, people: int, events: int) -> None:
    """Rows in the order in which they would come: by time."""
    chance = random.Random(1)
    said = '{"product_id": "p1", "price": 19.9, "quantity": 1, "order_id": "1001", "name": "A coat that is warm"}'

    def rows() -> list[tuple[object, ...]]:
        made = []
        for number in range(events):
            at = NOW - MONTHS * MONTH + number * (MONTHS * MONTH // events)
            made.append(
                (
                    chance.randrange(1, people + 1),
                    at,
                    f"shop:event:{number}",
                    chance.choice(_NAMES),
                    at // 86_400_000,
                    said,
                    "shop",
                )
            )
        return made

    with database.tx() as tx:
        write(tx, profile, [[(n, "{}", "{}", None, 1, 1, None) for n in range(1, people + 1)]])
        write(tx, event, [rows()])
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")


def timed(database: Database, rounds: int, work: Callable[[Connection, random.Random], object]) -> float:
    """Milliseconds of one, the first few left out: plans and pages are in memory then."""
    chance, taken = random.Random(2), []
    for number in range(rounds + 3):
        with database.tx() as tx:
            began = time.perf_counter()
            work(tx, chance)
            if number >= 3:
                taken.append((time.perf_counter() - began) * 1000)
            tx.rollback()
            tx.begin()
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    windows, all_of_them = rules(dict(_WINDOWS)), rules({**_WINDOWS, **_NO_WINDOW})

    def some(chance: random.Random) -> list[int]:
        return chance.sample(range(1, given.people + 1), _PEOPLE)

    def by_id(tx: Connection, chance: random.Random) -> None:
        ids = [f"shop:event:{chance.randrange(given.events)}" for _ in range(_PEOPLE)]
        assert len(tx.execute(event.select().where(event.c.id.in_(ids))).all()) > _PEOPLE * 0.9

    def add(tx: Connection, chance: random.Random) -> None:
        new = [_row(person, NOW - 1000 + n, f"new:{n}") for n, person in enumerate(some(chance))]
        known = tx.execute(event.select().limit(_PEOPLE)).mappings().all()
        add_events(tx, [*new, *(dict(row) for row in known)])

    work: dict[str, Callable[[Connection, random.Random], object]] = {
        "load_facts, windows of 30 days": lambda tx, chance: load_facts(tx, some(chance), windows, NOW),
        "load_facts, one rule without a window": lambda tx, chance: load_facts(tx, some(chance), all_of_them, NOW),
        "events by id, as a merge is undone": by_id,
        "500 new events, 500 repeated": add,
    }
    with postgresql() as server:
        found: dict[str, list[float]] = {name: [] for name in work}
        for made in (False, True):
            url = server.database()
            database = Database(url)
            database.create(metadata)
            if made:
                with psycopg.connect(url) as connection:
                    partitioned(connection)
            fill(database, given.people, given.events)
            for name, one in work.items():
                found[name].append(timed(database, given.rounds, one))
            database.close()
    print(f"{given.people:,} people, {given.events:,} events, {MONTHS} months; milliseconds")
    print("| | one table | by month | ratio |\n|---|---|---|---|")
    for name, (one, many) in found.items():
        print(f"| {name} | {one:.1f} | {many:.1f} | {many / one:.2f} |")


def _row(person: int, at: int, id: str) -> dict[str, object]:
    return {
        "profile_id": person,
        "at": at,
        "id": id,
        "name": "Product Viewed",
        "day": at // 86_400_000,
        "properties": "{}",
        "source": "shop",
    }


if __name__ == "__main__":
    main()
