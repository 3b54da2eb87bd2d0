"""Too many changes by a decision of ours wait until somebody approves; people's own news never does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from connector.clock import HOUR, SECOND
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.yaml_file import parse
from connector.jobs import Jobs
from connector.sync import guard
from connector.sync.store import accepted, correct, pending
from connector.worker import Worker
from tests.conftest import CONFIG, NOON, order
from tests.integration.test_sync import Synced, every_kind

PIN = CONFIG.replace('">=": 1000', '">=": 10')
"""Another rule: from now on everybody is a VIP."""


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def people(synced: Synced, count: int, *, big: int = 0, first: int = 1, total: str = "20.00") -> None:
    """So many customers with an order each, numbered from `first`; the first `big` of them are VIPs anyway."""
    for number in range(first, first + count):
        amount = "2000.00" if number < first + big else total
        address = f"person{number}@example.com"
        assert (
            synced.shop.deliver(
                "orders/create", order(2000 + number, customer=600 + number, email=address, total=amount)
            ).status
            == 200
        )
    synced.shop.work()


def review(synced: Synced, name: str = "klaviyo") -> guard.Review:
    return guard.review(synced.shop.services.database, name, synced.shop.time)


def approve(synced: Synced, name: str = "klaviyo") -> bool:
    return guard.approve(synced.shop.services.database, name, review(synced, name).decision)


def vips(synced: Synced, kind: str = "klaviyo") -> int:
    return sum("vip" in contact["tags"] for contact in synced.vendors[kind].contacts().values())


def waiting(synced: Synced) -> int:
    [(count,)] = synced.rows("SELECT count(*) FROM sync_state WHERE pending = 1")
    return int(count)


def pushed_shop(synced: Synced, count: int, *, big: int = 0, kind: str = "klaviyo", **settings: Any) -> None:
    """So many contacts pushed by their own news."""
    synced.configure(kind, **settings)
    people(synced, count, big=big)
    synced.push()
    assert len(synced.vendors[kind].contacts()) == count


def test_a_sale_day_is_never_held(synced: Synced) -> None:
    pushed_shop(synced, 20)
    people(synced, 20, first=1, total="1.00")  # everybody's news at once
    people(synced, 60, first=21)
    synced.push()
    assert waiting(synced) == 0
    assert len(synced.klaviyo.contacts()) == 80


@every_kind
def test_a_rule_that_changes_too_many_waits_for_an_approval(synced: Synced, kind: str) -> None:
    pushed_shop(synced, 12, big=2, kind=kind)
    writes = synced.writes(kind)
    synced.configure(kind, rules=PIN)
    assert synced.push() == 0
    assert synced.writes(kind) == writes
    assert vips(synced, kind) == 2
    assert review(synced, kind).hold == guard.Hold(12, 10, 0, 0, since=NOON)
    assert approve(synced, kind)
    assert synced.push() == 10
    assert vips(synced, kind) == 12
    assert review(synced, kind).hold is None


@pytest.mark.parametrize(("count", "big", "held"), [(9, 0, False), (10, 7, False), (10, 6, True)])
def test_ten_contacts_and_thirty_per_cent(synced: Synced, count: int, big: int, held: bool) -> None:
    """9 contacts, all changed; 10 of which exactly 30 % change; 10 of which 40 % change."""
    pushed_shop(synced, count, big=big)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    assert (review(synced).hold is not None) is held
    assert vips(synced) == (big if held else count)


def test_a_first_push_is_held_and_own_news_is_not(synced: Synced) -> None:
    people(synced, 12)
    synced.configure("klaviyo")
    assert synced.push() == 0
    assert review(synced).hold == guard.Hold(0, 0, 12, 0, since=NOON)
    people(synced, 2, first=13)
    synced.deliver(order(3001, customer=601, email="person1@example.com"))
    assert synced.push() == 3, "two new people, and one who bought again"
    assert approve(synced)
    synced.push()
    assert len(synced.klaviyo.contacts()) == 14


def test_nine_are_pushed_unasked(synced: Synced) -> None:
    people(synced, 9)
    synced.configure("klaviyo")
    assert synced.push() == 9


def test_own_news_of_a_held_contact_flows_and_its_cue_with_it(synced: Synced) -> None:
    pushed_shop(synced, 12, events=True)
    synced.push()
    synced.configure("klaviyo", rules=PIN, events=True)
    synced.push()
    assert vips(synced) == 0
    synced.deliver(order(3001, customer=601, email="person1@example.com", total="1.00"))
    assert synced.push() == 1
    held = synced.klaviyo.contacts()["person1@example.com"]
    assert held["tags"] == ["recent-buyers", "vip"]
    assert held["fields"]["orders_count"] == 2
    assert vips(synced) == 1
    assert waiting(synced) == 11


def test_a_decision_about_many_does_not_stop_news_that_waits_already(synced: Synced) -> None:
    pushed_shop(synced, 12)
    synced.deliver(order(3001, customer=601, email="person1@example.com", total="1.00"))
    synced.configure("klaviyo", rules=PIN)
    assert synced.push() == 1
    assert synced.klaviyo.contacts()["person1@example.com"]["fields"]["orders_count"] == 2


def test_an_approval_is_for_what_is_held_and_not_for_what_comes_next(synced: Synced) -> None:
    pushed_shop(synced, 12)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    assert approve(synced)
    synced.configure("klaviyo")  # the rule as before, while what was approved is not pushed yet
    synced.push()
    assert vips(synced) == 0
    assert waiting(synced) == 0, "back to what the vendor has: there is nothing to push"
    synced.configure("klaviyo", rules=PIN)
    assert synced.push() == 0
    assert review(synced).hold == guard.Hold(12, 12, 0, 0, since=NOON)


def test_the_next_decision_is_held_while_the_approved_one_drains(synced: Synced) -> None:
    pushed_shop(synced, 12)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    assert approve(synced)
    more = PIN.replace(
        "vip:\n    name: VIP", "everybody:\n    name: All\n    when: {event: Order Completed}\n  vip:\n    name: VIP"
    )
    synced.configure("klaviyo", rules=more)
    assert synced.push() == 0
    assert vips(synced) == 0
    assert review(synced).hold == guard.Hold(12, 12, 0, 0, since=NOON)


def test_a_configuration_changed_while_held_is_counted_anew(synced: Synced) -> None:
    pushed_shop(synced, 12, big=1)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    seen = review(synced)
    assert seen.hold is not None
    assert seen.hold.changed == 11
    synced.configure("klaviyo", rules=CONFIG.replace('">=": 1000', '">=": 3000'))
    assert not guard.approve(synced.shop.services.database, "klaviyo", seen.decision), "something else by now"
    assert synced.push() == 1, "one VIP less is no danger, and the others are as they were"
    assert review(synced).hold is None
    assert vips(synced) == 0


def test_nothing_is_judged_half_way_through_a_refill(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed_shop(synced, 40)
    step = Jobs.step
    monkeypatch.setattr(Jobs, "step", lambda *_: False)
    synced.configure("klaviyo", rules=PIN)
    monkeypatch.setattr("connector.jobs._PEOPLE", 5)
    monkeypatch.setattr("connector.jobs._next_size", lambda *_: 5)
    worker = synced.shop.worker
    assert step(worker.jobs, worker.pipeline, NOON)
    assert synced.push() == 0, "5 of 40 would be few, but nobody knows how many there will be"
    counting = review(synced).counting
    assert counting is not None
    assert 0 < counting[0] < counting[1]
    synced.configure("klaviyo", rules=CONFIG)  # another rule, half way through
    monkeypatch.setattr(Jobs, "step", step)
    synced.shop.work()
    synced.push()
    assert review(synced).hold is None
    assert waiting(synced) == 0
    assert vips(synced) == 0


def test_another_worker_finds_the_hold_and_the_approval(synced: Synced) -> None:
    """A crash between the hold, the approval and the rows that it sets free."""
    pushed_shop(synced, 12)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    services = synced.shop.services

    def another() -> int:
        worker = Worker(services, lambda: synced.shop.time, push=False)
        worker.refresh()
        done = sum(worker.push_once() for _ in range(3))
        worker.close()
        return done

    assert another() == 0
    assert approve(synced)
    assert synced.rows("SELECT count(*) FROM sync_state WHERE held > 0") == [(12,)]
    assert another() == 12
    assert vips(synced) == 12


def test_rows_are_freed_in_pieces(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.sync.guard._PIECE", 5)
    pushed_shop(synced, 12)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    assert approve(synced)
    worker = synced.shop.worker
    assert [worker.push_once() for _ in range(4)] == [5, 5, 2, 0]
    [(freed, released)] = synced.rows("SELECT freed, released FROM account")
    assert freed == released


def test_a_change_of_what_steers_creation_alone_is_no_change(synced: Synced) -> None:
    pushed_shop(synced, 12)
    writes = synced.writes("klaviyo")
    synced.configure("klaviyo", create_contacts="never")
    synced.push()
    assert review(synced).hold is None
    assert waiting(synced) == 0
    assert synced.writes("klaviyo") == writes


def test_a_repair_in_pieces_is_one_change(synced: Synced) -> None:
    pushed_shop(synced, 20)
    database = synced.shop.services.database
    for number, held in ((1, False), (2, False), (3, True)):
        with database.tx() as tx:  # what somebody wiped out at the vendor is found three contacts at a time
            rows = accepted(tx, "klaviyo", range(3 * number - 2, 3 * number + 1)).values()
            lost = [
                {"person": one.profile_id, "seen": one.pushed, "holds": None, "remote": one.remote_id} for one in rows
            ]
            for one in lost:
                state = json.loads(one["seen"] or "")
                one["holds"] = json.dumps(state | {"tags": []}, separators=(",", ":"))
            assert correct(tx, "klaviyo", lost, synced.shop.time) == 3
        synced.push()
        assert (review(synced).hold is not None) is held
    synced.shop.at(NOON + HOUR)
    assert review(synced).hold is not None, "what is held stays so"
    assert approve(synced)
    assert synced.push() == 3


def test_lists_switched_on_are_asked_about(synced: Synced) -> None:
    pushed_shop(synced, 12)
    synced.configure("klaviyo", lists=True)
    assert synced.push() == 0
    assert review(synced).hold == guard.Hold(12, 12, 0, 0, since=NOON)


def test_a_replay_is_judged_when_it_is_worked_off(synced: Synced) -> None:
    pushed_shop(synced, 12)
    with synced.shop.services.database.tx() as tx:  # as an older version of ours had decided
        older = 'replace({}, \'"tags":["recent-buyers"]\', \'"tags":[]\')'
        tx.exec_driver_sql(
            f"UPDATE sync_state SET desired = {older.format('desired')}, pushed = {older.format('pushed')}"
        )
    assert synced.shop.services.replay_deliveries(now=NOON + 1) == 12
    synced.shop.work()
    assert synced.push() == 0
    assert review(synced).counting == (0, 0)
    synced.shop.at(NOON + 5 * SECOND - 1)
    assert synced.push() == 0
    assert review(synced).hold is None
    synced.shop.at(NOON + 5 * SECOND)
    assert synced.push() == 0
    assert review(synced).hold == guard.Hold(12, 12, 0, 0, since=NOON + 5 * SECOND)


def test_a_dry_run_holds_nothing_and_its_end_is_asked_about(synced: Synced) -> None:
    people(synced, 12)
    synced.configure("klaviyo", dry_run=True)
    assert synced.push() == 12
    assert synced.rows("SELECT DISTINCT reason FROM push") == [("dry_run",)]
    synced.configure("klaviyo")
    assert synced.push() == 0
    assert review(synced).hold == guard.Hold(0, 0, 12, 0, since=NOON)


def test_it_is_said_once(synced: Synced) -> None:
    pushed_shop(synced, 12)
    synced.configure("klaviyo", rules=PIN)
    with capture_logs() as lines:
        for _ in range(5):
            synced.push()
    [line] = [line for line in lines if line["event"] == "push.held"]
    assert "storecue destination approve klaviyo" in line["hint"]


def test_what_was_approved_when_it_was_applied_is_not_held(synced: Synced) -> None:
    pushed_shop(synced, 12)
    services, current = synced.shop.services, synced.shop.services.configuration()
    assert current.version
    text = json.dumps(
        {
            "klaviyo": {
                "kind": "klaviyo",
                "credentials": {"api_key": "pk_test"},
                "allow_insecure": True,
                "base_url": synced.klaviyo.url,
                "create_contacts": "always",
            }
        }
    )
    wanted = configuration_from(parse(PIN + f"destinations: {text}\n"))
    configuration_store.apply(services.database, services.vault, wanted, NOON, approved=True)
    synced.shop.worker.refresh(force=True)
    synced.shop.work()
    synced.push()
    assert vips(synced) == 12
    synced.configure("klaviyo")
    synced.push()
    assert vips(synced) == 12, "the approval ended with the configuration it was given for"
    assert review(synced).hold is not None


def test_held_contacts_cost_a_round_nothing(synced: Synced) -> None:
    """The next contacts are found by the index, however many are held before them."""
    pushed_shop(synced, 12)
    synced.configure("klaviyo", rules=PIN)
    synced.push()
    statements: list[tuple[str, Any]] = []
    engine = synced.shop.services.database.engine

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    synced.push()
    event.remove(engine, "before_cursor_execute", note)
    counts = [statement for statement, _ in statements if "count(" in statement.lower()]
    assert counts == [], "what was judged is not counted again"
    with engine.connect() as connection:
        asked = [one for one in statements if "ORDER BY sync_state.due_at" in one[0]]
        assert len(asked) == 2, "people's own news, and what was decided about many"
        for statement, parameters in asked:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            found = "(destination=? AND held=? AND bulk=? AND due_at<?)"
            assert plan == [f"SEARCH sync_state USING INDEX sync_state_pending {found}"]
        assert pending(connection, "klaviyo", NOON, 10) == []
