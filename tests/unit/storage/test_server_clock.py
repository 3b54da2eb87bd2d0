"""The workers' clock: the server's on PostgreSQL, whatever this machine's says."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from connector import clock
from connector.storage.database import Database, sqlite_url
from connector.storage.server_clock import ServerClock


@pytest.fixture
def url(new_postgres: Callable[[], str]) -> str:
    return new_postgres()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def server_now(url: str) -> float:
    with psycopg.connect(url) as connection:
        [seconds] = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone() or ()
    return float(seconds) * 1000


@pytest.mark.parametrize("off_by", [-7200, 90, 7200])
def test_a_machine_whose_clock_is_wrong_has_the_servers_time(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch, off_by: int
) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + off_by * 1_000_000_000)
    now = ServerClock(database, clock.now)
    before = server_now(url)
    said = now()
    after = server_now(url)
    assert before - 20 <= said <= after + 20
    assert abs(clock.now() - said) > 60_000, "this machine's own clock is another one"


def test_it_does_not_step_with_this_machines_clock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = ServerClock(database, clock.now)
    first = now()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert first <= now() < first + 60_000


def test_it_goes_on_while_the_server_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = ServerClock(database, clock.now)
    first = now()
    running = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: running + 60)
    monkeypatch.setattr(database, "engine", Database("postgresql://nobody@/none?host=/nowhere").engine)
    assert first + 59_000 <= now() <= first + 61_000


def test_on_sqlite_it_is_this_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000)
    assert ServerClock(Database(sqlite_url(tmp_path / "a.db")), clock.now)() == 5
