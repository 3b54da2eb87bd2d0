"""The schema forward and back, with deliveries in flight (R21), on both databases."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import inspect, select

from connector.cli import main
from connector.config.settings import Settings
from connector.errors import ConfigurationError
from connector.ports import New
from connector.services import Services
from connector.storage.database import Database, sqlite_url
from connector.storage.migrations import HEAD, known, migrate, move, version_of
from connector.storage.rows import columns, present, tables
from connector.storage.snapshot import back_up, restore
from connector.storage.tables import delivery, metadata
from tests.chaos.figures import Figure
from tests.chaos.figures import figure as figure
from tests.conftest import CONFIG, NOON, Shop
from tests.integration.test_copy import quietly

IN_FLIGHT = 10_000
BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    before = os.environ.pop("DATABASE_URL", None)
    yield
    os.environ.pop("DATABASE_URL", None)
    if before is not None:
        os.environ["DATABASE_URL"] = before


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    return new_postgres() if request.param == "postgresql" else sqlite_url(tmp_path / "storecue.db")


def on(folder: Path, url: str) -> Shop:
    return Shop(folder, CONFIG, None if url.startswith("sqlite") else url)


def storecue(*arguments: str, url: str) -> Result:
    return CliRunner().invoke(main, ["db", *arguments], env={"DATABASE_URL": url})


def schema(url: str) -> dict[str, object]:
    """Tables, columns, keys and indexes, as the database tells them."""
    database = Database(url)
    with database.read() as connection:
        told, found = inspect(connection), {}
        for table in sorted({*told.get_table_names()} - {"alembic_version"}):
            found[table] = (
                [(one["name"], str(one["type"]), one["nullable"]) for one in told.get_columns(table)],
                told.get_pk_constraint(table)["constrained_columns"],
                sorted((str(one["name"]), one["column_names"], bool(one["unique"])) for one in told.get_indexes(table)),
            )
    database.close()
    return found


def test_the_versions_come_to_what_the_code_says(url: str, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    other = new_postgres() if url.startswith("postgresql") else sqlite_url(tmp_path / "other.db")
    for place, way in ((url, (HEAD,)), (other, known())):
        database = Database(place)
        for version in way:
            move(database, version)
        database.close()
    assert schema(url) == schema(other)
    assert known()[-1] == HEAD and set(schema(url)) == set(metadata.tables)


def in_flight(shop: Shop, count: int) -> None:
    """Deliveries of as many products, in the log and not worked off."""
    body = {"id": 1, "title": "Mug", "updated_at": "2026-11-18T10:00:00Z", "variants": [{"id": 1, "price": "1.00"}]}
    shop.deliver("products/update", body, id="first")
    with shop.services.inbox.read() as connection:
        (one,) = connection.execute(select(delivery).where(delivery.c.delivery_id == "first")).mappings()
    for begin in range(2, count + 1, 500):
        bodies = {f"{n}": json.dumps(body | {"id": n}).encode() for n in range(begin, min(begin + 500, count + 1))}
        items = [
            New(f"product:{n}", "shop", f"w{n}", one["topic"], NOON, one["headers"], sent) for n, sent in bodies.items()
        ]
        shop.services.log.append(items, timeout=60)


def effects(shop: Shop) -> tuple[int, int, int]:
    """Products, deliveries that were counted, deliveries that are known."""
    (products,) = shop.rows("SELECT count(*) FROM entity WHERE kind = 'product'")
    (counted,) = shop.rows("SELECT coalesce(sum(count), 0) FROM counter WHERE name = 'deliveries'")
    (seen,) = shop.rows("SELECT count(*) FROM seen")
    return products[0], int(counted[0]), seen[0]


def everything(url: str, state_of: str) -> dict[str, list[str]]:
    """Every row of every table that the version has, as texts without order."""
    database = Database(url)
    with database.read() as connection:
        found = {
            table.name: sorted(
                repr(tuple(row)) for row in connection.exec_driver_sql(f'SELECT {columns(table)} FROM "{table.name}"')
            )
            for table in present(connection, tables(metadata))
        }
        assert version_of(connection) == state_of
    database.close()
    return found


def test_nothing_in_flight_is_lost_forward_and_back(url: str, tmp_path: Path, figure: Figure) -> None:
    former = Database(url)
    move(former, known()[-2])  # the former version's tables
    former.close()
    shop = on(tmp_path, url)  # the start brings them forward
    in_flight(shop, IN_FLIGHT)
    while effects(shop)[0] < IN_FLIGHT // 4:
        shop.worker.step()
    shop.close()

    there = everything(url, HEAD)
    data = ("--data", str(tmp_path))
    back = storecue("migrate", "--to", known()[-2], *data, url=url)
    assert back.exit_code == 0 and f"are of version {known()[-2]}; before they were {HEAD}" in back.stdout, back.stderr
    kept = everything(url, known()[-2])
    assert all(kept[name] == there[name] for name in kept)
    forward = storecue("migrate", *data, url=url)
    assert forward.exit_code == 0, forward.stderr
    assert everything(url, HEAD) == there

    again = on(tmp_path, url)
    again.work()
    assert effects(again) == (IN_FLIGHT, IN_FLIGHT, IN_FLIGHT)
    again.close()
    backend = url.partition(":")[0].partition("+")[0]
    figure("R21", f"{backend}: {IN_FLIGHT:,} in flight, tables back and forward again: 0 lost, 0 doubled")


def test_a_newer_database_is_left_alone(url: str, tmp_path: Path) -> None:
    database = Database(url)
    migrate(database)
    with database.tx() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="made by a newer StoreCue: its tables are of version 9999"):
        migrate(database)
    given = {} if url.startswith("sqlite") else {"DATABASE_URL": url}
    with pytest.raises(ConfigurationError, match="newer StoreCue"):
        Services(Settings.from_environment(given, data_dir=tmp_path))
    database.close()
    told = storecue("migrate", "--to", "0001", "--data", str(tmp_path), url=url)
    assert told.exit_code == 2 and "made by a newer StoreCue" in told.stderr


def test_the_command_refuses_what_it_cannot_do(url: str, tmp_path: Path) -> None:
    shop = on(tmp_path, url)
    told = storecue("migrate", "--data", str(tmp_path), url=url)
    assert told.exit_code == 2 and "StoreCue works on" in told.stderr
    shop.close()
    told = storecue("migrate", "--to", "0815", "--data", str(tmp_path), url=url)
    assert (
        told.exit_code == 2 and f"there is no version 0815 of the tables; this StoreCue has {known()[0]}" in told.stderr
    )


def test_a_backup_of_older_tables_is_restored_and_brought_forward(
    tmp_path: Path, new_postgres: Callable[[], str]
) -> None:
    url, target = new_postgres(), new_postgres()
    shop = Shop(tmp_path / "data", CONFIG, url)
    in_flight(shop, 20)
    shop.close()
    older = Database(url)
    move(older, "0001")
    made = back_up(older, tmp_path / "backup", now=NOON, storecue="0.0.9", moved=quietly)
    older.close()
    assert made.schema == "0001"
    into = Database(target)
    restore(tmp_path / "backup", made, into, force=False, state_only=False, prepare=lambda tx: None, moved=quietly)
    into.close()
    assert everything(target, "0001") == everything(url, "0001")
    again = Shop(tmp_path / "data", CONFIG, target)
    again.work()
    assert effects(again) == (20, 20, 20)
    again.close()
