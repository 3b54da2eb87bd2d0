"""Events past their age go where no rule reads as far back; rules answer as before, and what they lack is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from connector import old_events
from connector.cli import main
from connector.clock import DAY
from connector.doctor import checks
from connector.old_events import cuts, lacking
from connector.segments.evaluate import RuleSet
from connector.storage.rows import write
from connector.storage.tables import event
from tests.conftest import NOON, SECRET, Shop, iso, order

KEEP = 365
CONFIG = """
version: 1
store: {name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}
sources:
  shop: {kind: shopify, secrets: [hush]}
segments:
  loyal: {name: Loyal, when: {event: Order Completed, count: {">=": 3}}}
  looking: {name: Looking, when: {event: Product Viewed, within: 30d}}
  lapsed: {name: Lapsed, when: {event: Product Added, count: {"<": 1}, within: 500d}}
"""
ALL_VIEWS = CONFIG.replace("Product Viewed, within: 30d", "Product Viewed, within: 600d")


def put(shop: Shop, rows: list[tuple[int, int, str]]) -> None:
    """Events of (profile, days ago, name)."""
    made = [
        (person, NOON - days * DAY, f"{name}:{n}", name, (NOON - days * DAY) // DAY, "{}", "shop")
        for n, (person, days, name) in enumerate(rows)
    ]
    with shop.services.database.tx() as tx:
        write(tx, event, [made])


def left(shop: Shop) -> list[tuple[int, str, int]]:
    found = shop.rows("SELECT profile_id, name, at FROM event ORDER BY profile_id, name, at")
    return [(person, name, (NOON - at) // DAY) for person, name, at in found]


def keeping(shop: Shop, days: int) -> Shop:
    shop.services.settings = replace(shop.services.settings, event_retention_days=days)
    return shop


def walk(shop: Shop) -> None:
    """A whole walk of the worker's housekeeping, and a step more."""
    walker = shop.worker.housekeeping._old_events
    for _ in range(100):
        walker.step(shop.time)
        if walker._next > shop.time:
            return
    raise AssertionError("the walk does not end")


def test_what_may_go() -> None:
    needs = {"Order Completed": None, "Product Viewed": 30 * DAY, "Product Added": 500 * DAY}
    old, by_name = cuts(needs, KEEP * DAY, NOON)
    assert old == NOON - KEEP * DAY
    assert by_name["Order Completed"] < 0  # never
    assert by_name["Product Viewed"] == NOON - KEEP * DAY and by_name["Product Added"] == NOON - 500 * DAY


@pytest.fixture
def people(make_shop: Callable[[str], Shop]) -> Shop:
    shop = make_shop(CONFIG)
    for number in (1, 2):
        body = order(number, customer=number, email=f"c{number}@example.com", at=NOON - 400 * DAY, updated=NOON)
        shop.deliver("orders/create", body)
    shop.work()
    names, ages = ("Product Viewed", "Product Added", "Cart Viewed"), (10, 364, 366, 501)
    put(shop, [(1, days, name) for days in ages for name in names])
    put(shop, [(2, days, "Order Completed") for days in (900, 1000)])
    return shop


def test_events_go_by_age_and_by_what_rules_read(people: Shop) -> None:
    keeping(people, KEEP)
    walk(people)
    assert left(people) == [
        (1, "Cart Viewed", 364),
        (1, "Cart Viewed", 10),
        (1, "Order Completed", 400),
        (1, "Product Added", 366),
        (1, "Product Added", 364),
        (1, "Product Added", 10),
        (1, "Product Viewed", 364),
        (1, "Product Viewed", 10),
        (2, "Order Completed", 1000),
        (2, "Order Completed", 900),
        (2, "Order Completed", 400),
    ]
    noted = dict(people.rows("SELECT name, count FROM pruned_event"))
    assert noted == {"Cart Viewed": 2, "Product Viewed": 2, "Product Added": 1}


def test_they_stay_for_ever_unless_told(people: Shop) -> None:
    before = left(people)
    for _ in range(5):
        people.worker.housekeeping.step(people.time)
    assert left(people) == before and people.rows("SELECT * FROM pruned_event") == []


def test_rules_and_numbers_are_as_before(people: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def decided() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        with people.services.database.tx() as tx:
            people.worker.pipeline.recompute(tx, [1, 2], people.time)
        return people.rows("SELECT * FROM membership ORDER BY 1, 2"), people.rows("SELECT id, traits FROM profile")

    before = decided()
    assert {(row[0], row[1]) for row in before[0] if row[2]} >= {("loyal", 2), ("looking", 1)}
    monkeypatch.setattr(old_events, "_PIECE", 1)  # several transactions for one person
    walk(keeping(people, 31))
    assert len(left(people)) == 11 - 2
    assert decided() == before


def test_a_walk_is_taken_once_a_day_by_whoever_comes(people: Shop, tmp_path: Path) -> None:
    walk(keeping(people, KEEP))
    put(people, [(1, 800, "Cart Viewed")])
    again = old_events.OldEvents(people.services)  # another process, or this one after a restart
    for _ in range(3):
        again.step(people.time + DAY - 1)
    assert (1, "Cart Viewed", 800) in left(people)
    for _ in range(3):
        again.step(people.time + DAY)
    assert (1, "Cart Viewed", 800) not in left(people)


def test_a_rule_that_reads_what_is_gone_is_told_of(people: Shop, tmp_path: Path) -> None:
    walk(keeping(people, KEEP))
    with people.services.database.read() as connection:
        assert lacking(connection, people.services.ruleset(), people.time + 5 * DAY) == []
    file = tmp_path / "wanted.yaml"
    file.write_text(ALL_VIEWS.replace("[hush]", f"[{SECRET}]"))
    data = str(people.services.settings.data_dir)
    result = CliRunner().invoke(main, ["plan", "--config", str(file), "--data", data])
    assert result.exit_code == 0, result.stderr
    day = iso(NOON - KEEP * DAY)[:10]
    message = f"looking reads Product Viewed of before {day}, and 2 of them were thrown away"
    assert f"storecue: warning: {message}; give the rule a shorter window" in result.stderr
    people.configure(ALL_VIEWS)
    found = [check for check in checks(people.services.settings, now=people.time) if check.name == "events"]
    assert [check.ok for check in found] == [True] and message in found[0].message
    with people.services.database.read() as connection:
        rules = RuleSet(people.services.configuration().segments, people.services.configuration().store)
        assert len(lacking(connection, rules, people.time + 236 * DAY)) == 0  # the window has left it behind
