"""The log: durable, partitioned, in order; its position moves with the effects or not at all."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select, text

from connector.errors import Fenced, NotDurable
from connector.inbox.runner import positions, run_once
from connector.inbox.sql import SqlLog
from connector.ports import New, Rec
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import delivery, log_position, metadata

effects = Table("effect", MetaData(), Column("id", Integer, primary_key=True), Column("delivery_id", Text))


def new(number: int, key: str | None = None) -> New:
    return New(key or f"customer:{number % 7}", "shop", f"d{number}", "orders/create", 1_000, "{}", b"{}")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite_url(tmp_path / "state.db"))
    database.create(metadata)
    database.create(effects.metadata)
    yield database
    database.close()


@pytest.fixture
def log(tmp_path: Path, state: Database) -> Iterator[SqlLog]:
    log = make_log(tmp_path, state)
    yield log
    log.close()
    log.database.close()


def make_log(folder: Path, state: Database) -> SqlLog:
    log = SqlLog(Database(sqlite_url(folder / "inbox.db")), 4, lambda: positions(state))
    log.create()
    return log


def keep(tx: Connection, records: list[Rec]) -> None:
    tx.execute(insert(effects), [{"delivery_id": record.delivery_id} for record in records])


def kept(state: Database) -> list[str]:
    with state.read() as connection:
        return list(connection.execute(select(effects.c.delivery_id).order_by(effects.c.id)).scalars())


def drain(state: Database, log: SqlLog, limit: int = 500) -> int:
    total = 0
    while done := run_once(state, log, keep, limit=limit, wait=0.0):  # type: ignore[arg-type]
        total += done
    return total


def test_what_was_appended_is_worked_on_once_and_in_order_per_customer(state: Database, log: SqlLog) -> None:
    log.append([new(number) for number in range(50)])
    assert drain(state, log, limit=3) == 50
    numbers = [int(id_[1:]) for id_ in kept(state)]
    assert sorted(numbers) == list(range(50))
    for customer in range(7):
        of_one = [number for number in numbers if number % 7 == customer]
        assert of_one == sorted(of_one)


def test_positions_have_no_gaps_when_many_threads_append(log: SqlLog) -> None:
    threads = [
        threading.Thread(target=lambda start=start: [log.append([new(start + n)]) for n in range(40)])  # type: ignore[misc]
        for start in range(0, 400, 40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with log.database.read() as connection:
        for part in range(4):
            found = connection.execute(
                select(delivery.c.pos).where(delivery.c.part == part).order_by(delivery.c.id)
            ).scalars()
            assert list(found) == list(range(len(log_rows(log, part))))


def log_rows(log: SqlLog, part: int) -> list[int]:
    with log.database.read() as connection:
        return list(connection.execute(select(delivery.c.id).where(delivery.c.part == part)).scalars())


def test_a_failing_handler_leaves_nothing_and_the_batch_comes_again(state: Database, log: SqlLog) -> None:
    log.append([new(number, "one") for number in range(5)])

    def fails(tx: Connection, records: list[Rec]) -> None:
        keep(tx, records)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        run_once(state, log, fails)  # type: ignore[arg-type]
    assert kept(state) == []
    assert drain(state, log) == 5
    assert kept(state) == ["d0", "d1", "d2", "d3", "d4"]


def test_a_second_worker_on_the_same_partition_is_fenced_and_writes_nothing(
    tmp_path: Path, state: Database, log: SqlLog
) -> None:
    log.append([new(number, "one") for number in range(3)])
    slow = make_log(tmp_path, state)
    slow.fill(0.0)
    assert drain(state, log) == 3
    assert run_once(state, slow, keep, wait=0.0) == 0  # type: ignore[arg-type]
    assert kept(state) == ["d0", "d1", "d2"]
    slow.close()


def test_a_position_that_moved_during_the_batch_is_refused(state: Database, log: SqlLog) -> None:
    log.append([new(0, "one")])
    drain(state, log)
    log.append([new(1, "one")])

    log.fill(0.0)
    part, _ = log.batch(10) or (None, None)
    assert part is not None
    log.rewind(part, 0)
    with state.tx() as tx:
        tx.execute(log_position.update().where(log_position.c.part == part).values(pos=99))
    assert run_once(state, log, keep, wait=0.0) == 0  # type: ignore[arg-type]
    assert kept(state) == ["d0"]


def test_a_compare_and_swap_that_misses_raises_fenced(state: Database) -> None:
    from connector.inbox.runner import _advance

    with pytest.raises(Fenced), state.tx() as tx:
        _advance(tx, 0, expect=5, to=6)


def test_a_restart_goes_on_where_the_effects_ended(tmp_path: Path, state: Database, log: SqlLog) -> None:
    log.append([new(number, "one") for number in range(4)])
    run_once(state, log, keep, limit=2)  # type: ignore[arg-type]
    log.close()
    again = make_log(tmp_path, state)
    assert drain(state, again) == 2
    assert kept(state) == ["d0", "d1", "d2", "d3"]
    again.close()


def test_a_disk_that_refuses_is_not_an_acknowledgement(log: SqlLog) -> None:
    with log.database.tx() as tx:
        tx.execute(text("CREATE TRIGGER full BEFORE INSERT ON delivery BEGIN SELECT RAISE(FAIL, 'disk full'); END"))
    with pytest.raises(NotDurable):
        log.append([new(1)])
    with log.database.tx() as tx:
        tx.execute(text("DROP TRIGGER full"))
    log.append([new(2)])
    assert sum(len(log_rows(log, part)) for part in range(4)) == 1


def test_a_writer_that_hangs_is_reported_in_time(log: SqlLog) -> None:
    log.append([new(0)])
    with log.database.tx(), pytest.raises(NotDurable):
        log.append([new(1)], timeout=0.05)


def test_the_number_of_partitions_stays_as_first_made(tmp_path: Path, state: Database, log: SqlLog) -> None:
    other = SqlLog(log.database, 16, lambda: positions(state))
    other.create()
    assert other.partitions == 4, "or a customer's later deliveries would overtake earlier ones in another partition"
