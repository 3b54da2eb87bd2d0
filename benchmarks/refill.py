"""Refill of twenty segments: our time beside SQL written by hand for the same rule and the same table.

    python -m benchmarks.refill                       1,000,000 people, 10,000,000 events
    python -m benchmarks.refill --people 20000 --events 200000

Columns: members; seconds of the hand-written SELECT; of the same written to a table like ours, in one statement and
one transaction; of our refill (in ranges, each its own transaction with synchronous=FULL, with the list of who entered
or left); ratio of the last two. Both must find the same members.
"""

import argparse
import shutil
import time
from pathlib import Path

from sqlalchemy import text

from benchmarks.segment_data import make
from benchmarks.segment_rules import RULES
from connector.domain import SegmentConfig, StoreInfo
from connector.segments import refill
from connector.segments.evaluate import RuleSet
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import metadata

WORK = Path(__file__).parent / ".work" / "refill"
NOW = 1_795_000_000_000

_BY_HAND_TABLE = (
    """
    CREATE TABLE by_hand (segment TEXT NOT NULL, profile_id BIGINT NOT NULL, matched INTEGER NOT NULL,
    since BIGINT NOT NULL, because TEXT NOT NULL, recheck_at BIGINT, PRIMARY KEY (segment, profile_id)) WITHOUT ROWID
    """,
    "CREATE INDEX by_hand_profile ON by_hand (profile_id)",
    "CREATE INDEX by_hand_recheck ON by_hand (recheck_at) WHERE recheck_at IS NOT NULL",
)
_MEMBERS = "WITH m(profile_id, matched, recheck_at) AS ({query}) SELECT count(*) FROM m WHERE matched = 1"
_BY_HAND = """
INSERT INTO by_hand (segment, profile_id, matched, since, because, recheck_at)
WITH m(profile_id, matched, recheck_at) AS ({query})
SELECT :segment, m.profile_id, m.matched, :now, :because, m.recheck_at FROM m
"""
_DIFFERENT = """
SELECT count(*) FROM (
  SELECT profile_id FROM (SELECT profile_id FROM membership WHERE segment = :segment AND matched = 1
    EXCEPT SELECT profile_id FROM by_hand WHERE segment = :segment AND matched = 1)
  UNION ALL SELECT profile_id FROM (SELECT profile_id FROM by_hand WHERE segment = :segment AND matched = 1
    EXCEPT SELECT profile_id FROM membership WHERE segment = :segment AND matched = 1))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--size", type=int, default=100_000, help="profiles in one range")
    parser.add_argument("--only", nargs="*", default=list(RULES), help="segments to measure")
    parser.add_argument("--keep", action="store_true", help="leave the database for another run")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    database = Database(sqlite_url(WORK / f"shop-{given.people}-{given.events}.db"))
    try:
        prepare(database, given.people, given.events)
        measure(database, given.people, given.size, given.only)
    finally:
        database.close()
        if not given.keep:
            shutil.rmtree(WORK)


def prepare(database: Database, people: int, events: int) -> None:
    """Make the data unless an earlier run left them; empty what is measured."""
    database.create(metadata)
    with database.tx() as tx:
        if not tx.execute(text("SELECT EXISTS (SELECT 1 FROM profile)")).scalar_one():
            began = time.perf_counter()
            make(tx, people, events, NOW)
            print(f"data made in {time.perf_counter() - began:.0f} s")
        tx.execute(text("DELETE FROM membership"))
        tx.execute(text("DROP TABLE IF EXISTS by_hand"))
        for part in _BY_HAND_TABLE:
            tx.execute(text(part))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def measure(database: Database, people: int, size: int, only: list[str]) -> None:
    """Run every rule three ways and print a line each."""
    ruleset = RuleSet({id: SegmentConfig(id, id, rule.when) for id, rule in RULES.items()}, StoreInfo())
    print(f"{'segment':24}{'members':>10}{'SELECT':>9}{'written':>9}{'ours':>9}{'ratio':>7}")
    totals = [0.0, 0.0, 0.0]
    for segment in ruleset.conditions:
        if segment not in only:
            continue
        query = RULES[segment].by_hand.replace("{members}", "by_hand")
        bound = {"segment": segment, "now": NOW, "because": refill.BECAUSE}
        began = time.perf_counter()
        with database.read() as connection:
            members = connection.execute(text(_MEMBERS.format(query=query)), {"now": NOW}).scalar_one()
        selected = time.perf_counter() - began
        began = time.perf_counter()
        with database.tx() as tx:
            tx.execute(text(_BY_HAND.format(query=query)), bound)
        written = time.perf_counter() - began
        began = time.perf_counter()
        with database.tx() as tx:
            refill.start(tx, segment, people, NOW)
        done = False
        while not done:
            with database.tx() as tx:
                done = refill.step(tx, ruleset, segment, NOW, size).done
        ours = time.perf_counter() - began
        with database.read() as connection:
            different = connection.execute(text(_DIFFERENT), {"segment": segment}).scalar_one()
        if different:
            raise SystemExit(f"{segment}: {different} people are in one answer and not in the other")
        totals = [total + one for total, one in zip(totals, (selected, written, ours), strict=True)]
        print(f"{segment:24}{members:10,}{selected:9.2f}{written:9.2f}{ours:9.2f}{ours / written:7.2f}", flush=True)
    print(f"{'all':24}{'':10}{totals[0]:9.2f}{totals[1]:9.2f}{totals[2]:9.2f}{totals[2] / totals[1]:7.2f}")


if __name__ == "__main__":
    main()
