"""A parked customer and two workers at the same moment, on PostgreSQL, where SQLite's only writer keeps nobody off."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from connector.clock import SECOND
from connector.inbox.notes import Notes
from connector.inbox.parking import Parking
from connector.pipeline import meaning
from connector.ports import Rec
from connector.storage.database import Database
from connector.storage.tables import metadata, parked, parked_key
from tests.conftest import NOON, Shop, order
from tests.postgres import create_database, drop_database, server


@pytest.fixture
def database() -> Iterator[Database]:
    url = create_database(server())
    made = Database(url, one_writer=False)
    made.create(metadata)
    yield made
    made.close()
    drop_database(server(), url)


class Line:
    """Stumbles over the first delivery once; from then on it takes its time over it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.busy, self.go_on = threading.Event(), threading.Event()
        self._stumbled = False

    def handle(self, _tx: Connection, records: Sequence[Rec], _now: int) -> Mapping[Rec, Exception]:
        if not self._stumbled:
            self._stumbled = True
            return dict.fromkeys(records, RuntimeError("boom"))
        if records[0].delivery_id == "d1":
            self.busy.set()
            assert self.go_on.wait(20)
        self.done.extend(record.delivery_id for record in records)
        return {}


def test_a_delivery_over_which_the_database_loses_its_patience_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends a transaction in which nothing is asked for ten seconds; the worker lives on."""
    monkeypatch.setattr("tests.conftest.ON_POSTGRES", True)
    monkeypatch.setattr("os.environ", dict(os.environ))  # a Shop says there which database it has
    with closing(Shop(tmp_path)) as shop:
        shortly = "SET LOCAL idle_in_transaction_session_timeout = '0.3s'"
        for begins in ("_ALONE", "_BESIDE"):
            monkeypatch.setattr(f"connector.storage.database.{begins}", shortly)
        understood = meaning._normalised

        def slow(delivery: Any, *rest: Any) -> Any:
            if delivery.id == "slow":
                time.sleep(0.8)
            return understood(delivery, *rest)

        monkeypatch.setattr(meaning, "_normalised", slow)
        shop.deliver("orders/create", order(1001), id="slow")
        shop.work()
        assert shop.rows("SELECT delivery_id FROM parked") == [("slow",)]
        shop.deliver("orders/create", order(1002), id="good")
        for after in (1, 11, 71):
            shop.at(NOON + after * SECOND)
        assert shop.rows("SELECT reference, reason FROM dead_letter") == [("slow", "killed_the_worker")]
        assert shop.rows("SELECT count(*) FROM parked") == [(0,)]
        assert shop.rows("SELECT id FROM shop_order") == [("1002",)]


def record(number: int) -> Rec:
    return Rec(number, "shop/customer:1", "shop", f"d{number}", "orders/create", 0, "{}", b"{}")


def test_only_one_worker_has_a_parked_customer_and_what_comes_meanwhile_stays_behind(
    database: Database, tmp_path: Path
) -> None:
    line = Line()
    ours, other = (Parking(database, line.handle, Notes(tmp_path)) for _ in range(2))
    for number in (1, 2):
        with database.tx() as tx:
            ours.work_off(tx, [record(number)], 0)
    trying = threading.Thread(target=other.step, args=(SECOND,))
    trying.start()
    assert line.busy.wait(20)
    assert ours.step(SECOND) == 0, "it is the other's"

    def arrive() -> None:
        with database.tx() as tx:
            ours.work_off(tx, [record(3)], SECOND)

    arriving = threading.Thread(target=arrive)
    arriving.start()
    arriving.join(0.2)
    assert arriving.is_alive(), "whether anything is left to wait behind is not known yet"
    line.go_on.set()
    for thread in (trying, arriving):
        thread.join(20)
        assert not thread.is_alive()
    assert line.done == ["d1", "d2", "d3"]
    with database.read() as connection:
        for table in (parked, parked_key):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
