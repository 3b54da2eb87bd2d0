"""What is only SqlLog's; what it shares with every log is in tests/contracts/test_event_log.py."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text

from connector.errors import NotDurable, Overloaded
from connector.inbox import sql
from connector.inbox.sql import SqlLog
from connector.ports import New
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import delivery
from tests.logs import append_side_by_side


def new(number: int, key: str | None = None) -> New:
    return New(key or f"customer:{number % 7}", "shop", f"d{number}", "orders/create", 1_000, "{}", b"{}")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqlLog]:
    log = SqlLog(Database(sqlite_url(tmp_path / "inbox.db")), 4, dict)
    log.create()
    yield log
    log.close()
    log.database.close()


def positions_of(log: SqlLog, part: int) -> list[int]:
    with log.database.read() as connection:
        query = select(delivery.c.pos).where(delivery.c.part == part).order_by(delivery.c.id)
        return list(connection.execute(query).scalars())


def test_positions_have_no_gaps_when_many_threads_append(log: SqlLog) -> None:
    append_side_by_side(log, [new(number) for number in range(400)])
    found = [positions_of(log, part) for part in range(4)]
    assert sum(map(len, found)) == 400
    assert all(of_one == list(range(len(of_one))) for of_one in found)


def test_a_disk_that_refuses_is_not_an_acknowledgement(log: SqlLog) -> None:
    with log.database.tx() as tx:
        tx.execute(text("CREATE TRIGGER full BEFORE INSERT ON delivery BEGIN SELECT RAISE(FAIL, 'disk full'); END"))
    with pytest.raises(NotDurable):
        log.append([new(1)])
    with log.database.tx() as tx:
        tx.execute(text("DROP TRIGGER full"))
    log.append([new(2)])
    assert sum(len(positions_of(log, part)) for part in range(4)) == 1


def test_a_writer_that_hangs_is_reported_in_time(log: SqlLog) -> None:
    log.append([new(0)])
    with log.database.tx(), pytest.raises(NotDurable):
        log.append([new(1)], timeout=0.05)


def test_what_waits_for_a_disk_that_hangs_is_bounded(log: SqlLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_QUEUED", 3)
    log.append([new(0)])
    told: list[NotDurable | None] = []
    with log.database.tx():
        log.submit([new(1)], told.append)
        deadline = time.monotonic() + 5
        while not log._queue.empty():
            assert time.monotonic() < deadline, "the writer takes it and waits for the transaction"
            time.sleep(0.001)
        for number in range(2, 20):
            log.submit([new(number)], told.append)
        assert len(told) >= 19 - 3 - 1, "one is being written, three wait, the others are refused at once"
        assert {type(error) for error in told} == {Overloaded}
        with pytest.raises(Overloaded):
            log.append([new(20)])
    log.close()
    assert told.count(None) == sum(len(positions_of(log, part)) for part in range(4)) - 1


def test_the_number_of_partitions_stays_as_first_made(log: SqlLog) -> None:
    other = SqlLog(log.database, 16, dict)
    other.create()
    assert other.partitions == 4, "or a customer's later deliveries would overtake earlier ones in another partition"


def test_a_new_file_has_pages_for_several_deliveries_and_one_that_is_there_keeps_its_own(tmp_path: Path) -> None:
    for name, pages in (("new", (sql.PAGE, sql.PAGE)), ("older", (4096, sql.PAGE))):
        for page in pages:
            database = Database(sqlite_url(tmp_path / name), page=page)
            log = SqlLog(database, 4, dict)
            log.create()
            log.append([new(page)])
            with database.read() as connection:
                assert connection.execute(text("PRAGMA page_size")).scalar_one() == pages[0]
                assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
            log.close()
            database.close()
