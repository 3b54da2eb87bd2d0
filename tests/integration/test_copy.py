"""`storecue db copy`: everything that is kept goes to another kind of database, and the work goes on there."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Float, LargeBinary, Table, Text, func, insert, select

from connector.cli import main
from connector.clock import MINUTE
from connector.config.settings import Settings
from connector.errors import ConfigurationError, ConnectorError
from connector.services import Services
from connector.storage import copying
from connector.storage.copying import Side, copy, summed
from connector.storage.database import Database, sqlite_url
from connector.storage.in_use import database_alone, share_database
from connector.storage.migrations import migrate
from connector.storage.rows import Row, numbered, tables
from connector.storage.tables import SPENT, account, delivery, event, inbox_metadata, merge, meta, profile
from tests.conftest import CONFIG, NOON, Shop, order

DESTINATION = "destinations: {preview: {kind: console, events: true}}"
NASTY = "Zoë \\ \t \r\n \\. \"'\u2028 \U0001f6d2 {} \\N $1 %s ;--"


@pytest.fixture(autouse=True)
def on_sqlite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """These tests choose their databases themselves."""
    monkeypatch.setattr("tests.conftest.ON_POSTGRES", False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    yield
    os.environ.pop("DATABASE_URL", None)


def storecue(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["db", "copy", *arguments])


def quietly(_name: str, _done: int, _total: int) -> None:
    return


def on(url: str, log_url: str | None = None) -> Side:
    state = Database(url)
    return Side(state, state if log_url is None else Database(log_url))


def close(*sides: Side) -> None:
    for side in sides:
        side.state.close()
        side.log.close()


def rows(side: Side, table: Table) -> list[Row]:
    with side.of(table).read() as connection:
        return [tuple(row) for row in connection.execute(select(*table.c).order_by(*table.primary_key))]


def full(folder: Path) -> Side:
    """A StoreCue whose every table has rows, with values that are easily mistaken on the way."""
    side = on(sqlite_url(folder / "storecue.db"), sqlite_url(folder / "inbox.db"))
    migrate(side.state)
    side.log.create(inbox_metadata)
    numbers = itertools.count(3)

    def value(column: Any) -> Any:
        number = next(numbers)
        if isinstance(column.type, Text):
            return f"{NASTY}{number}"
        if isinstance(column.type, LargeBinary):
            return bytes(range(256)) + number.to_bytes(4)
        return number / 7 if isinstance(column.type, Float) else number * 7919 - 2_000 * column.primary_key

    for table in tables():
        given = [{column.name: value(column) for column in table.c} for _ in range(3)]
        for column in table.c:
            given[2][column.name] = None if column.nullable else given[2][column.name]
        with side.of(table).tx() as tx:
            tx.execute(insert(table), given)
    with side.state.tx() as tx:  # as a copy leaves it, so that two copies are the same
        last = tx.execute(select(func.max(profile.c.id))).scalar_one()
        first = select(func.min(meta.c.name)).scalar_subquery()
        tx.execute(meta.update().where(meta.c.name == first).values(name=SPENT, value=str(last)))
    return side


# --- all of it -------------------------------------------------------------------------------------------------------


def test_every_table_is_the_same_there_and_back(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    first, second = full(tmp_path), on(new_postgres())
    copied = copy(first, second, force=False, moved=quietly)
    assert set(copied.sums) == {table.name for table in tables()} and copied.rows == 3 * len(tables())
    assert copied.altered == 0
    third = on(sqlite_url(tmp_path / "again.db"), sqlite_url(tmp_path / "again-log.db"))
    assert copy(second, third, force=False, moved=quietly).sums == copied.sums
    for table in tables():
        assert rows(first, table) == rows(second, table) == rows(third, table), table.name
    close(first, second, third)


def test_ids_go_on_after_the_last_one(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    first, second = full(tmp_path), on(new_postgres())
    copy(first, second, force=False, moved=quietly)
    for table in filter(numbered, tables()):
        highest = rows(first, table)[-1][0]
        row = dict(zip(table.c.keys(), rows(first, table)[-1], strict=True))
        unique = {column.name for index in table.indexes if index.unique for column in index.columns}
        row |= {name: f"{row[name]}, new" for name in (unique | {"digest"}) & row.keys() if isinstance(row[name], str)}
        row |= {name: -1 for name in unique if isinstance(row[name], int)}
        del row["id"]
        with second.of(table).tx() as tx:
            assert tx.execute(insert(table).values(row).returning(table.c.id)).scalar_one() == highest + 1, table.name
    close(first, second)


def test_the_id_of_somebody_erased_is_given_to_nobody(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    shop = Shop(tmp_path / "data", CONFIG)
    for number in (1, 2, 3):
        shop.deliver("orders/create", order(number, customer=number, email=f"c{number}@example.com"))
        shop.work()
    shop.deliver("customers/redact", {"customer": {"id": 3, "email": "c3@example.com"}})
    shop.at(NOON + MINUTE)
    assert shop.rows("SELECT max(id) FROM profile") == [(2,)]
    shop.close()
    url, back = new_postgres(), tmp_path / "back"
    result = storecue("--to", url, "--data", str(tmp_path / "data"))
    assert result.exit_code == 0, result.stderr
    served = Shop(tmp_path / "data", CONFIG, url)
    served.deliver("orders/create", order(4, customer=4, email="c4@example.com"), id="x4")
    served.work()
    last = served.rows("SELECT max(id) FROM profile")[0][0]
    assert last >= 4
    served.close()
    os.environ["DATABASE_URL"] = url
    assert storecue("--to", str(back), "--data", str(tmp_path / "data")).exit_code == 0
    os.environ.pop("DATABASE_URL")
    (tmp_path / "data" / "secret.key").rename(back / "secret.key")
    again = Shop(back, CONFIG)
    again.deliver("orders/create", order(5, customer=5, email="c5@example.com"), id="x5")
    again.work()
    assert again.rows("SELECT max(id) FROM profile")[0][0] > last
    again.close()


def test_the_work_goes_on_where_it_was(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    shop = Shop(tmp_path, CONFIG + DESTINATION)
    for number in range(1, 31):
        shop.deliver("orders/create", order(number, customer=1 + number % 7, email=f"c{1 + number % 7}@example.com"))
    shop.work()
    shop.deliver("orders/create", order(31, customer=1, email="c1@example.com", total="1500.00"), id="w31")
    segments, waiting = shop.segments(), shop.rows("SELECT count(*) FROM sync_state WHERE pending = 1")
    positions = "SELECT part, pos FROM log_position ORDER BY part"
    stood = shop.rows(positions)
    shop.close()

    url = new_postgres()
    result = storecue("--to", url, "--data", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert "the sums of both sides agree" in result.stdout and "set DATABASE_URL" in result.stdout

    os.environ["DATABASE_URL"] = url
    services = Services(Settings.from_environment(data_dir=tmp_path))  # the key is the right one, or it would refuse
    with services.database.read() as connection:
        moved = [tuple(row) for row in connection.exec_driver_sql(positions)]
        assert moved == stood
        pending = connection.exec_driver_sql("SELECT count(*) FROM sync_state WHERE pending = 1").scalar_one()
        assert [(pending,)] == waiting
    services.close()
    again = Shop(tmp_path, CONFIG + DESTINATION, url)
    assert again.segments(1) >= segments
    assert again.rows("SELECT count(*), count(DISTINCT id) FROM shop_order") == [(31, 31)]
    assert again.rows("SELECT count(*) FROM event WHERE name = 'Order Completed'") == [(31,)]
    (vip,) = again.rows("SELECT profile_id FROM membership WHERE segment = 'vip' AND matched = 1")
    assert again.rows(f"SELECT count(*) FROM shop_order WHERE profile_id = {vip[0]}") == [(5,)]
    again.deliver("orders/create", order(31, customer=1, email="c1@example.com", total="1500.00"), id="w31")
    again.deliver("orders/create", order(32, customer=99, email="new@example.com"), id="w32")
    again.work()
    assert again.rows("SELECT count(*) FROM shop_order") == [(32,)]
    assert again.rows("SELECT count(*), max(id) FROM profile") == [(8, 8)]
    again.close()


def test_what_postgresql_cannot_keep_is_told(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    first, second = full(tmp_path), on(new_postgres())
    with first.state.tx() as tx:
        tx.execute(merge.update().where(merge.c.id == rows(first, merge)[0][0]).values(because="a\x00b"))
    assert copy(first, second, force=False, moved=quietly).altered == 1
    assert rows(second, merge)[0][4] == "a�b"
    close(first, second)


# --- none of it ------------------------------------------------------------------------------------------------------


def test_a_target_that_holds_something_is_cleared_only_when_told(
    tmp_path: Path, new_postgres: Callable[[], str]
) -> None:
    first, second = full(tmp_path), on(new_postgres())
    copy(first, second, force=False, moved=quietly)
    with first.state.tx() as tx:
        tx.execute(profile.delete())
    with pytest.raises(ConfigurationError, match=r"holds 3 profiles and 3 deliveries already; --force clears it first"):
        copy(first, second, force=False, moved=quietly)
    assert len(rows(second, profile)) == 3
    copy(first, second, force=True, moved=quietly)
    assert rows(second, profile) == [] and len(rows(second, event)) == 3
    close(first, second)


def test_a_copy_that_is_cut_off_leaves_nothing(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    first, second = full(tmp_path), on(new_postgres())

    def cut(name: str, _done: int, _total: int) -> None:
        if name == "delivery":
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, ConnectorError)):
        copy(first, second, force=False, moved=cut)
    copy(first, second, force=False, moved=quietly)  # not even --force is needed
    close(first, second)


def test_a_value_that_changed_on_the_way_is_noticed(
    tmp_path: Path, new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = full(tmp_path), on(new_postgres())
    for change in (
        account.update().values(hold="x"),
        delivery.update().values(body=b"other"),
        event.update().where(event.c.day > 0).values(at=event.c.at + 1),
        profile.delete(),
    ):

        def compared(connection: Any, table: Table, moved: Any, change: Any = change) -> Any:
            if table is change.table:
                connection.execute(change)
            return summed(connection, table, moved)

        monkeypatch.setattr(copying, "summed", compared)
        with pytest.raises(ConnectorError, match=f"{change.table.name} is not the same in the copy"):
            copy(first, second, force=False, moved=quietly)
    monkeypatch.undo()
    copy(first, second, force=False, moved=quietly)  # none of them left anything behind
    close(first, second)


def test_the_command_refuses_while_storecue_works(shop: Shop, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    url, data = new_postgres(), str(shop.services.settings.data_dir)
    assert "StoreCue works on" in storecue("--to", url, "--data", data).stderr
    shop.services.close()
    other = tmp_path / "other"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        works_there = Services(Settings.from_environment(data_dir=other))
    assert "StoreCue works on" in storecue("--to", url, "--data", data, "--force").stderr
    works_there.close()
    result = storecue("--to", url, "--data", data)
    assert result.exit_code == 2 and "--force clears it first" in result.stderr
    assert storecue("--to", url, "--data", data, "--force").exit_code == 0
    assert "name a data directory with --to" in storecue("--to", "sqlite:///x.db", "--data", data).stderr
    away = "postgresql://nobody@127.0.0.1:1/none"
    assert "cannot be reached" in storecue("--to", away, "--data", data).stderr
    assert "there is nothing to copy" in storecue("--to", new_postgres(), "--data", str(other)).stderr


def test_nobody_starts_on_a_server_whose_content_is_replaced(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    database = Database(new_postgres())
    held = database_alone(database)
    with pytest.raises(ConfigurationError, match="another content is being put into this database"):
        share_database(database)
    held.give_back()
    shared = [share_database(database), share_database(database)]
    with pytest.raises(ConfigurationError, match="StoreCue works on"):
        database_alone(database)
    for one in shared:
        one.give_back()
    database.close()
    left = Database(database.url)
    with left.read(), pytest.raises(ConfigurationError, match=r"is connected to .* \(1 connections\)"):
        database_alone(database)  # somebody who lost the hold when the server was started anew
    left.close()
    database_alone(database).give_back()
    database.close()


def test_back_to_sqlite(tmp_path: Path, new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    url, data, target = new_postgres(), tmp_path / "data", tmp_path / "again"
    shop = Shop(data, CONFIG + DESTINATION, url)
    shop.deliver("orders/create", order(1, total="1500.00"))
    shop.close()
    monkeypatch.setenv("DATABASE_URL", url)
    result = storecue("--to", str(target), "--data", str(data))
    assert result.exit_code == 0, result.stderr
    monkeypatch.delenv("DATABASE_URL")
    (data / "secret.key").rename(target / "secret.key")
    again = Shop(target, CONFIG + DESTINATION)
    again.work()
    assert again.segments() == {"vip", "recent-buyers"}
    again.close()
