"""The log in PostgreSQL, where many write at once: positions have no gaps, and ids ascend with them."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import select, text

from connector.inbox.sql import SqlLog
from connector.ports import New
from connector.storage.database import Database
from connector.storage.tables import delivery

PARTS = 4


@pytest.fixture
def logs(new_postgres: Callable[[], str]) -> Iterator[list[SqlLog]]:
    """As many web processes have: each with connections of its own."""
    url = new_postgres()
    with ExitStack() as held:
        made = []
        for _ in range(4):
            log = SqlLog(Database(url, one_writer=False), PARTS, dict)
            held.callback(log.database.close)
            held.callback(log.close)
            log.create()
            made.append(log)
        yield made


def test_many_processes_append_groups_to_all_partitions_without_a_gap(logs: list[SqlLog]) -> None:
    def append(log: SqlLog, start: int) -> None:
        chance = random.Random(start)
        for number in range(start, start + 400, 20):
            log.append([new(n, chance.randrange(40)) for n in range(number, number + 20)], timeout=30)

    threads = [threading.Thread(target=append, args=(log, 1000 * n)) for n, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with logs[0].database.read() as connection:
        rows = connection.execute(select(delivery.c.part, delivery.c.pos).order_by(delivery.c.id)).all()
        heads = dict(connection.execute(text("SELECT part, head FROM log_head")).all())  # type: ignore[arg-type]
    assert len(rows) == 4 * 400
    for part in range(PARTS):
        positions = [row.pos for row in rows if row.part == part]
        assert positions == list(range(heads[part]))
        assert positions, "or nothing was shown"


def test_what_is_kept_comes_back_in_the_order_of_one_request(logs: list[SqlLog]) -> None:
    given = [new(n, n % 3, body=bytes([n]) * (100 * n)) for n in range(30)]
    logs[0].append(given)
    found = []
    while logs[1].fill(0):
        batch = logs[1].batch(100)
        assert batch is not None
        found += [New(*record[1:]) for record in batch[1]]
    assert sorted(found, key=lambda one: one.received_at) == given
    for key in {one.key for one in given}:
        assert [one for one in found if one.key == key] == [one for one in given if one.key == key]


def test_a_body_that_does_not_fill_a_page_stays_in_its_row_as_it_is(logs: list[SqlLog]) -> None:
    logs[0].append([new(1, 1, random.Random(1).randbytes(3_000))])
    with logs[0].database.read() as connection:
        beside = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'delivery'::regclass"
        assert connection.execute(text(beside)).scalar_one() == 0
    logs[0].append([new(2, 1, random.Random(2).randbytes(9_000))])
    with logs[0].database.read() as connection:
        assert connection.execute(text(beside)).scalar_one() > 0, "or this test asks the wrong table"


def test_nothing_to_keep_is_kept_at_once(logs: list[SqlLog]) -> None:
    logs[0].append([])
    assert not logs[0].fill(0)


def new(number: int, customer: int, body: bytes = b"{}") -> New:
    return New(f"shop/customer:{customer}", "shop", f"d{number}", "orders/create", 1_000 + number, '{"ä":"€"}', body)
