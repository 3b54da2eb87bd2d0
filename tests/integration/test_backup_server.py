"""A backup of PostgreSQL while deliveries come and are worked off; its way back; what `storecue db check` finds."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url

from connector.cli import main
from connector.config.settings import Settings
from connector.errors import ConfigurationError
from connector.services import Services
from connector.storage import snapshot
from connector.storage.database import Database
from connector.storage.manifest import Manifest, manifest_of
from connector.storage.rows import tables
from connector.storage.soundness import faults_on_server
from tests.chaos.figures import Figure
from tests.chaos.figures import figure as figure
from tests.conftest import CONFIG, NOON, Shop, order
from tests.integration.test_copy import close, copy, full, on, quietly, rows
from tests.under_load import goes_on, under_load

EVENTS = "destinations: {preview: {kind: console, events: true}}"
New = Callable[[], str]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    yield
    os.environ.pop("DATABASE_URL", None)


def storecue(*arguments: str, url: str) -> Result:
    return CliRunner().invoke(main, ["db", *arguments], env={"DATABASE_URL": url})


def make(url: str, to: Path) -> Manifest:
    database = Database(url)
    made = snapshot.back_up(database, to, now=NOON, storecue="0.1.0", moved=quietly)
    database.close()
    return made


def put_back(folder: Path, url: str, **how: bool) -> None:
    database = Database(url)
    chosen = {"force": False, "state_only": False, **how}
    try:
        manifest = manifest_of(folder, quietly)
        snapshot.restore(folder, manifest, database, prepare=lambda tx: None, moved=quietly, **chosen)
    finally:
        database.close()


def told(url: str) -> list[str]:
    database = Database(url)
    found = [fault.message for fault in faults_on_server(database)]
    database.close()
    return found


def harm(url: str, *statements: str) -> None:
    database = Database(url)
    with database.tx() as tx:
        for statement in statements:
            tx.exec_driver_sql(statement)
    database.close()


# --- while deliveries go on ------------------------------------------------------------------------------------------


def test_every_value_of_every_table_comes_back(tmp_path: Path, new_postgres: New) -> None:
    first, second, third = full(tmp_path), on(new_postgres()), on(new_postgres())
    copy(first, second, force=False, moved=quietly)
    manifest = make(second.state.url, tmp_path / "backup")
    assert manifest.rows == {table.name: 3 for table in tables()}
    put_back(tmp_path / "backup", third.state.url)
    for table in tables():
        assert rows(first, table) == rows(third, table), table.name
    close(first, second, third)


def test_a_backup_under_load_goes_on_with_every_effect_once(tmp_path: Path, new_postgres: New, figure: Figure) -> None:
    url = new_postgres()
    shop = Shop(tmp_path / "data", CONFIG, url)
    with under_load(shop) as sent:
        certain = list(sent)  # acknowledged before the backup begins: all of these must be in it
        made = [make(url, tmp_path / f"backup-{number}") for number in range(2)]
    shop.close()
    for number, manifest in enumerate(made):
        folder, restored = tmp_path / f"backup-{number}", new_postgres()
        assert manifest_of(folder, quietly) == manifest
        put_back(folder, restored)
        assert told(restored) == []
        again = Shop(tmp_path / "data", CONFIG, restored)
        goes_on(again, certain, sent)
        again.close()
        assert told(restored) == []
    figure("R22", f"postgresql: {len(made)} backups under load, {len(certain)} acknowledged before: 0 lost, 0 doubled")


def test_state_and_log_are_of_one_instant(tmp_path: Path, new_postgres: New) -> None:
    """What is worked off while tables are copied is in neither: the position, the effects and the log agree."""
    url = new_postgres()
    shop = Shop(tmp_path / "data", CONFIG, url)
    shop.deliver("orders/create", order(1))
    database = Database(url)

    def meanwhile(name: str, _done: int, _total: int) -> None:
        if name == "log_position":  # of the first tables
            shop.deliver("orders/create", order(2))
            shop.work()

    made = snapshot.back_up(database, tmp_path / "backup", now=NOON, storecue="0.1.0", moved=meanwhile)
    database.close()
    assert made.waiting == 1 and made.rows["shop_order"] == 0 and made.rows["delivery"] == 1
    shop.close()


# --- the way back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hushed", [False, True])
def test_the_log_that_goes_on_gives_an_older_state_everything_since(
    tmp_path: Path, new_postgres: New, hushed: bool
) -> None:
    url, data = new_postgres(), tmp_path / "data"
    shop = Shop(data, CONFIG + EVENTS, url)
    make(url, tmp_path / "backup")
    shop.deliver("orders/create", order(1, total="1500.00"))
    shop.work()
    assert len(shop.rows("SELECT key FROM cue")) == 2
    shop.close()
    quiet = ["--quiet"] if hushed else []
    result = storecue(
        "restore", str(tmp_path / "backup"), "--data", str(data), "--state-only", "--force", *quiet, url=url
    )
    assert result.exit_code == 0, result.stderr
    assert ("1 deliveries will start no flow." in result.stdout) == hushed
    assert told(url) == []
    again = Shop(data, CONFIG + EVENTS, url)
    assert again.segments() == {"vip", "recent-buyers"}
    assert len(again.rows("SELECT key FROM cue")) == (0 if hushed else 2)
    again.deliver("orders/create", order(2, customer=502, email="bo@example.com", total="1500.00"), id="w9")
    again.work()
    assert len(again.rows("SELECT key FROM cue WHERE profile_id = 2")) == 2  # what is new starts flows as ever
    again.close()


def test_the_commands_from_backup_to_restore(tmp_path: Path, new_postgres: New) -> None:
    url, data, folder = new_postgres(), tmp_path / "data", tmp_path / "backup"
    shop = Shop(data, CONFIG, url)
    shop.deliver("orders/create", order(1))
    result = storecue("backup", str(folder), "--data", str(data), url=url)
    assert result.exit_code == 0, result.stderr
    assert "1 deliveries in it wait to be worked off" in result.stdout
    assert folder.stat().st_mode & 0o777 == 0o700
    assert json.loads((folder / "manifest.json").read_text())["database"] == "postgresql"
    for checked in ((str(folder),), ()):
        result = storecue("check", *checked, "--data", str(data), url=url)
        assert result.exit_code == 0 and "agree with each other" in result.stdout, result.stdout
    refused = storecue("restore", str(folder), "--data", str(tmp_path / "x"), "--force", url=url)
    assert refused.exit_code == 2 and "StoreCue works on" in refused.stderr
    shop.close()
    refused = storecue("restore", str(folder), "--data", str(data), url=url)
    assert refused.exit_code == 2 and "--force drops them first" in refused.stderr
    assert storecue("restore", str(folder), "--data", str(data), "--force", url=url).exit_code == 0
    result = storecue("restore", str(folder), "--data", str(tmp_path / "new"), url=new_postgres())
    assert result.exit_code == 0 and "Put the secret key back before you start" in result.stdout
    assert "is a backup of PostgreSQL" in storecue("restore", str(folder), "--data", str(tmp_path / "y"), url="").stderr
    away = storecue("check", "--data", str(data), url="postgresql://nobody@127.0.0.1:1/none")
    assert away.exit_code == 2 and "cannot be reached" in away.stderr


def test_a_backup_that_has_changed_or_ends_early_is_refused(tmp_path: Path, new_postgres: New) -> None:
    url, folder = new_postgres(), tmp_path / "backup"
    shop = Shop(tmp_path / "data", CONFIG, url)
    shop.deliver("orders/create", order(1))
    shop.work()
    made = make(url, folder)
    shop.close()
    path = folder / "shop_order.copy.zst"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = storecue("restore", str(folder), "--data", str(tmp_path / "x"), url=new_postgres())
    assert result.exit_code == 2 and "has changed since it was backed up (sha256)" in result.stderr
    path.write_bytes(content)
    target = Database(new_postgres())
    fewer = Manifest(**{**vars(made), "rows": {**made.rows, "shop_order": 2}})
    with pytest.raises(Exception, match="shop_order: 1 rows of 2"):
        snapshot.restore(folder, fewer, target, force=False, state_only=False, prepare=lambda tx: None, moved=quietly)
    with target.read() as connection:  # all of it, or nothing
        assert not target.engine.dialect.has_table(connection, "profile")
    target.close()


def test_nothing_starts_while_a_restore_is_under_way(tmp_path: Path, new_postgres: New) -> None:
    url, folder, data = new_postgres(), tmp_path / "backup", tmp_path / "data"
    Shop(data, CONFIG, url).close()
    make(url, folder)
    refused: list[str] = []

    def meanwhile(name: str, _done: int, _total: int) -> None:
        if name == "config_object" and not refused:
            with pytest.raises(ConfigurationError, match="another content is being put into this database") as error:
                Services(Settings.from_environment({"DATABASE_URL": url}, data_dir=data))
            refused.append(error.value.message)

    database = Database(url)
    manifest = manifest_of(folder, quietly)
    snapshot.restore(folder, manifest, database, force=True, state_only=False, prepare=lambda tx: None, moved=meanwhile)
    database.close()
    assert refused
    Shop(data, CONFIG, url).close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, new_postgres: New) -> str:
    """The database of a StoreCue that has worked off two deliveries, and in which nothing is wrong."""
    url = new_postgres()
    shop = Shop(tmp_path_factory.mktemp("sound"), CONFIG, url)
    shop.deliver("orders/create", order(1))
    shop.deliver("orders/paid", order(1))
    shop.work()
    shop.close()
    assert told(url) == []
    return url


def twin(server: str, url: str) -> str:
    """A copy of a database to which nobody is connected."""
    made = f"storecue_twin_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{made}" TEMPLATE "{make_url(url).database}"')
    return make_url(url).set(database=made).render_as_string(hide_password=False)


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE log_head SET head = 0", "the log is older than the state: partition"),
        ("UPDATE log_head SET head = 0", "the log has 2 deliveries past its own head"),
        ("UPDATE log_head SET head = head + 3 WHERE part = 0", "the log lacks 3 deliveries"),
        ("DELETE FROM profile", "rows of identifier belong to no profile"),
        ("DELETE FROM profile", "1 rows of shop_order belong to no profile"),
        ("SELECT setval('delivery_id_seq', 1)", "delivery: the next id is not past the last row's"),
        ("DROP TABLE push", "there is no table push"),
    ],
)
def test_check_finds_what_does_not_agree(
    tmp_path: Path, postgres: str, sound: str, statement: str, message: str
) -> None:
    url = twin(postgres, sound)
    harm(url, statement)
    assert any(message in found for found in told(url)), told(url)
    result = storecue("check", "--data", str(tmp_path / "data"), url=url)
    assert result.exit_code == 1 and "FIX" in result.stdout


def test_a_topic_that_was_the_log_is_no_fault(tmp_path: Path, new_postgres: New) -> None:
    """Its positions have no head here, and what it brought is kept beside the log's own deliveries."""
    url = new_postgres()
    Shop(tmp_path / "data", CONFIG, url).close()
    harm(
        url,
        "INSERT INTO log_topic (id, first) VALUES ('c/t/1', 100000)",
        "INSERT INTO log_position (part, pos) VALUES (100002, 7)",
        "INSERT INTO delivery (part, pos, key, source, delivery_id, topic, received_at, headers, body)"
        " VALUES (100002, 6, 'k', 's', 'd', 't', 1, '{}', '')",
    )
    assert told(url) == []


def test_check_tells_what_the_server_cannot_read(tmp_path: Path, new_postgres: New) -> None:
    url = new_postgres()
    Shop(tmp_path / "data", CONFIG, url).close()
    harm(url, "CREATE EXTENSION amcheck")  # each index is looked at, too
    assert told(url) == []
    harm(url, "ALTER TABLE shop_order RENAME COLUMN data TO other")
    (found,) = told(url)
    assert found.startswith('shop_order: column "data" does not exist')
