"""Windows that lapse: what the clock's tick costs beside recomputing everybody, and how late a flip is.

    python -m benchmarks.windows                      1,000,000 people, 10,000,000 events; 120 s of real time
    python -m benchmarks.windows --people 20000 --events 200000 --seconds 10

1. Twenty segments filled; then an hour passes in ticks of a minute (frozen clock): people with a membership that falls
   due are decided again by check, beside a full recomputation of all segments by SQL over the same database.
2. In real time: 100,000 memberships spread over an hour while 50 events/s arrive; one thread takes turns between the
   events that have come and the people that are due. Delay is commit minus the instant of the flip.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection, insert, text

from benchmarks.refill import NOW, prepare
from benchmarks.segment_data import DAY, make
from benchmarks.segment_rules import BOUGHT, RULES
from connector.clock import HOUR, MINUTE
from connector.domain import SegmentConfig, StoreInfo
from connector.segments import refill
from connector.segments.evaluate import RuleSet
from connector.segments.membership import MembershipChange, changes
from connector.segments.store import due, load_facts, load_memberships, next_due, save_memberships
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import event, metadata

WORK = Path(__file__).parent / ".work" / "refill"
DUE_PEOPLE = 100_000
PER_SECOND = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=120, help="real time of the second part")
    parser.add_argument("--keep", action="store_true", help="leave the database for another run")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    ruleset = RuleSet({id: SegmentConfig(id, id, rule.when) for id, rule in RULES.items()}, StoreInfo())
    try:
        tick_beside_everything(ruleset, given.people, given.events)
        delay_of_flips(ruleset, given.seconds)
    finally:
        if not given.keep:
            shutil.rmtree(WORK)


def fill(database: Database, ruleset: RuleSet, people: int, now: int) -> float:
    """Seconds to fill all segments."""
    began = time.perf_counter()
    for segment in ruleset.conditions:
        with database.tx() as tx:
            refill.start(tx, segment, people, now)
        done = False
        while not done:
            with database.tx() as tx:
                done = refill.step(tx, ruleset, segment, now, 20_000).done
    return time.perf_counter() - began


def decide(tx: Connection, ruleset: RuleSet, ids: list[int], now: int) -> list[tuple[int, MembershipChange]]:
    """Decide these people again and store what changed."""
    facts, before = load_facts(tx, ids, ruleset, now), load_memberships(tx, ids)
    found = [(id, move) for id in facts for move in changes(before[id], ruleset.evaluate(facts[id], now), now)]
    save_memberships(tx, found)
    return found


def tick_beside_everything(ruleset: RuleSet, people: int, events: int) -> None:
    """The first part."""
    database = Database(sqlite_url(WORK / f"shop-{people}-{events}.db"))
    prepare(database, people, events)
    fill(database, ruleset, people, NOW)
    everybody = fill(database, ruleset, people, NOW)
    decided = flips = 0
    began = time.perf_counter()
    for now in range(NOW + MINUTE, NOW + HOUR + 1, MINUTE):
        while True:
            with database.read() as connection:
                ids = due(connection, now, 2_000)
            if not ids:
                break
            with database.tx() as tx:
                found = decide(tx, ruleset, ids, now)
            decided += len(ids)
            flips += sum(1 for _, move in found if move.kind != "moved")
    ticks = time.perf_counter() - began
    database.close()
    print(f"everybody again by SQL, {len(ruleset.conditions)} segments, {people:,} people: {everybody:.1f} s")
    print(f"an hour of ticks: {decided:,} people decided, {flips:,} flips: {ticks:.2f} s ({ticks / everybody:.1%})")


def delay_of_flips(ruleset: RuleSet, seconds: int) -> None:
    """The second part."""
    path = WORK / "due.db"
    path.unlink(missing_ok=True)
    database = Database(sqlite_url(path))
    database.create(metadata)
    dice = random.Random(7)
    with database.tx() as tx:
        make(tx, DUE_PEOPLE, DUE_PEOPLE * 10, NOW)
        tx.execute(text("DELETE FROM event WHERE name = :name AND at > :at"), {"name": BOUGHT, "at": NOW - 8 * DAY})
        tx.execute(insert(event), list(lapsing_orders(dice)))
    fill(database, ruleset, DUE_PEOPLE, NOW)
    with database.read() as connection:
        counted = "SELECT count(*) FROM membership WHERE recheck_at <= :at"
        waiting = connection.execute(text(counted), {"at": NOW + HOUR}).scalar_one()
    print(f"memberships falling due within the hour: {waiting:,}")
    delays, arrived, busy = follow(database, ruleset, seconds, dice)
    database.close()
    delays.sort()
    p50, p99 = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    print(
        f"{seconds} s, {arrived:,} events: {len(delays):,} flips by the clock, late by p50 {p50:.0f} ms,"
        f" p99 {p99:.0f} ms, at most {delays[-1]:.0f} ms; busy {busy / seconds:.0%} of one core"
    )


def lapsing_orders(dice: random.Random) -> Iterable[dict[str, object]]:
    """An order for each person that leaves its week within the coming hour."""
    for person in range(1, DUE_PEOPLE + 1):
        at = NOW - 7 * DAY + dice.randrange(HOUR)
        yield order(person, at, f"{person}-lapsing")


def order(person: int, at: int, id: str) -> dict[str, object]:
    properties = json.dumps({"total": 20.5, "currency": "EUR", "order_id": id})
    return {
        "profile_id": person,
        "at": at,
        "id": id,
        "name": BOUGHT,
        "day": at // DAY,
        "properties": properties,
        "source": "shop",
    }


def follow(database: Database, ruleset: RuleSet, seconds: int, dice: random.Random) -> tuple[list[float], int, float]:
    """Delays of the clock's flips in ms, events taken, seconds of processor time."""
    began, cpu = time.perf_counter(), time.process_time()
    delays: list[float] = []
    arrived = 0
    while (elapsed := time.perf_counter() - began) < seconds:
        now = NOW + int(elapsed * 1000)
        come = int(elapsed * PER_SECOND) - arrived
        if come:
            rows = [order(dice.randint(1, DUE_PEOPLE), now, f"new-{arrived + i}") for i in range(come)]
            with database.tx() as tx:
                tx.execute(insert(event), rows)
                decide(tx, ruleset, [row["profile_id"] for row in rows], now)  # type: ignore[misc]
            arrived += come
        with database.read() as connection:
            ids = due(connection, now, 500)
            until = next_due(connection)
        if ids:
            with database.tx() as tx:
                before = load_memberships(tx, ids)
                found = decide(tx, ruleset, ids, now)
            committed = NOW + (time.perf_counter() - began) * 1000
            for id, move in found:
                instant = before[id][move.segment].recheck_at if move.segment in before[id] else None
                if move.kind != "moved" and instant is not None and instant <= now:
                    delays.append(committed - instant)
        elif not come:
            rest = 0.02 if until is None else (until - now) / 1000
            time.sleep(min(0.02, max(0.001, rest)))
    return delays, arrived, time.process_time() - cpu


if __name__ == "__main__":
    main()
