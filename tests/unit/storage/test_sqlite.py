"""What StoreCue asks of SQLite, and what tests ask of it instead."""

from pathlib import Path

import pytest

from connector.services import Services
from connector.storage.database import Database
from tests import databases
from tests.conftest import Shop


def asked(database: Database) -> tuple[str, int]:
    with database.read() as connection:
        return (
            connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
            connection.exec_driver_sql("PRAGMA synchronous").scalar_one(),
        )


@pytest.mark.durable
def test_a_commit_is_on_the_disk_when_it_returns(shop: Shop) -> None:
    assert asked(shop.services.database) == asked(shop.services.inbox) == ("wal", 2)


def test_a_test_waits_for_no_disk(shop: Shop) -> None:
    assert asked(shop.services.database) == asked(shop.services.inbox) == ("wal", 0)


@pytest.mark.durable
def test_a_new_state_has_the_schema_that_tests_copy(tmp_path: Path) -> None:
    def schema(services: Services) -> list[tuple[str, str]]:
        with services.database.read() as connection:
            found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master ORDER BY name")
            return [(name, sql) for name, sql in found]

    shops = []
    for production in (True, False):
        databases.as_in_production = production
        shops.append(Shop(tmp_path / str(production)))
    made, copied = (schema(shop.services) for shop in shops)
    for shop in shops:
        shop.close()
    assert made == copied and ("profile" in dict(made))
