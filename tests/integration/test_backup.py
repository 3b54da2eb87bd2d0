"""A backup taken while deliveries come and are worked off; its way back; what `storecue db check` finds."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connector.cli import main
from connector.config.settings import Settings
from connector.errors import ConfigurationError, ConnectorError
from connector.inbox.hushing import hush
from connector.services import Services
from connector.storage import backup
from connector.storage.backup import Files, back_up, copy, restore, standing
from connector.storage.in_use import UNFINISHED, alone, share
from connector.storage.manifest import Manifest, Moved, manifest_of
from connector.storage.soundness import faults
from tests.conftest import CONFIG, NOON, Shop, order
from tests.under_load import customer, goes_on, under_load

EVENTS = "destinations: {preview: {kind: console, events: true}}"


def quietly(_name: str, _done: int, _total: int) -> None:
    return


def as_is(_files: Files) -> None:
    return


def at(folder: Path) -> Files:
    return Files(folder / "storecue.db", folder / "inbox.db")


def make(shop: Shop, to: Path) -> Manifest:
    return back_up(at(shop.services.settings.data_dir), to, now=NOON, storecue="0.1.0", moved=quietly)


def put_back(folder: Path, target: Path, **how: bool) -> Path | None:
    target.mkdir(exist_ok=True)
    chosen = {"force": False, "state_only": False, **how}
    return restore(folder, at(target), now=NOON, prepare=as_is, **chosen)


def with_key(shop: Shop, target: Path) -> Path:
    """The data directory, with the secret key that is kept apart."""
    (target / "secret.key").write_text((shop.services.settings.data_dir / "secret.key").read_text())
    (target / "secret.key").chmod(0o600)
    return target


def storecue(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["db", *arguments])


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def told(folder: Path) -> list[str]:
    return [fault.message for fault in faults(at(folder))]


# --- while deliveries go on ------------------------------------------------------------------------------------------


def test_a_backup_under_load_goes_on_with_every_effect_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "data")
    with under_load(shop) as sent:
        certain = list(sent)  # acknowledged before the backup begins: all of these must be in it
        made = [make(shop, tmp_path / f"backup-{number}") for number in range(3)]
    shop.close()
    for number, manifest in enumerate(made):
        folder = tmp_path / f"backup-{number}"
        assert manifest_of(folder, quietly) == manifest
        assert told(folder) == []
        put_back(folder, tmp_path / f"again-{number}")
        again = Shop(with_key(shop, tmp_path / f"again-{number}"))
        counted = Counter(customer(id_) for id_ in goes_on(again, certain, sent))
        counted[customer(len(sent) + 1)] += 1
        orders = "SELECT email, json_extract(traits, '$.orders_count') FROM profile"
        assert dict(again.rows(orders)) == counted
        again.close()
        assert told(tmp_path / f"again-{number}") == []


def test_what_waits_in_the_log_is_in_the_backup_and_is_worked_off(shop: Shop, tmp_path: Path) -> None:
    shop.deliver("orders/create", order(1, total="1500.00"))
    made = make(shop, tmp_path / "backup")
    assert made.waiting == 1
    put_back(tmp_path / "backup", tmp_path / "again")
    again = Shop(with_key(shop, tmp_path / "again"))  # it works all off
    assert again.segments() == {"vip", "recent-buyers"}
    again.close()


def test_the_state_comes_first(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worked off between the two copies is still to be worked off in the backup, and none of it is lost."""
    shop.deliver("orders/create", order(1))

    def slow(source: Path, target: Path, moved: Moved) -> None:
        copy(source, target, moved)
        if source.name == "storecue.db":
            shop.deliver("orders/create", order(2))
            shop.work()

    monkeypatch.setattr(backup, "copy", slow)
    assert make(shop, tmp_path / "backup").waiting == 2
    assert standing(at(tmp_path / "backup"))[2] == {}
    assert told(tmp_path / "backup") == []


def test_what_is_erased_between_the_copies_makes_it_begin_anew(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def meanwhile(source: Path, target: Path, moved: Moved, erasing: int) -> None:
        copy(source, target, moved)
        if source.name == "storecue.db":
            tries.append(source)
            if len(tries) <= erasing:
                shop.work()
                with shop.services.inbox.tx() as tx:
                    tx.exec_driver_sql("DELETE FROM delivery")
                shop.deliver("orders/create", order(len(tries) + 10))

    shop.deliver("orders/create", order(1))
    monkeypatch.setattr(backup, "copy", lambda *given: meanwhile(*given, erasing=1))
    make(shop, tmp_path / "backup")
    assert len(tries) == 2
    monkeypatch.setattr(backup, "copy", lambda *given: meanwhile(*given, erasing=99))
    with pytest.raises(ConnectorError, match="during each try"):
        make(shop, tmp_path / "never")
    assert not list(tmp_path.glob("*never*"))


def test_a_copy_is_one_snapshot_however_many_commit_meanwhile(tmp_path: Path) -> None:
    source = tmp_path / "busy.db"
    writer = sqlite3.connect(source, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE one (n INTEGER, filler BLOB)")
    writer.execute("BEGIN")
    writer.executemany("INSERT INTO one VALUES (?, zeroblob(4000))", [(n,) for n in range(12_000)])  # many pieces
    writer.execute("COMMIT")
    pieces: list[int] = []

    def meanwhile(_name: str, done: int, _total: int) -> None:
        pieces.append(done)
        writer.execute("UPDATE one SET n = n + 100000 WHERE n IN (0, 11999)")

    copy(source, tmp_path / "copy.db", meanwhile)
    writer.close()
    assert len(pieces) >= 3 and pieces == sorted(pieces)  # it never began anew
    assert rows(tmp_path / "copy.db", "SELECT count(*), max(n) FROM one") == [(12_000, 11_999)]


# --- the way back ----------------------------------------------------------------------------------------------------


def test_the_log_that_goes_on_gives_an_older_state_everything_since(shop: Shop, tmp_path: Path) -> None:
    shop.deliver("orders/create", order(1))
    shop.work()
    make(shop, tmp_path / "backup")
    for number in (2, 3):
        shop.deliver("orders/create", order(number))
        shop.work()
    data = shop.services.settings.data_dir
    shop.close()
    aside = put_back(tmp_path / "backup", data, force=True, state_only=True)
    assert aside is not None and {path.name for path in aside.iterdir()} >= {"storecue.db"}
    assert told(data) == []
    again = Shop(data)
    assert again.rows("SELECT count(*) FROM event WHERE name = 'Order Completed'") == [(3,)]
    again.close()


@pytest.mark.parametrize("hushed", [False, True])
def test_what_is_worked_off_again_records_no_cues_when_told_so(
    make_shop: Callable[[str], Shop], tmp_path: Path, hushed: bool
) -> None:
    shop = make_shop(CONFIG + EVENTS)
    make(shop, tmp_path / "backup")
    shop.deliver("orders/create", order(1, total="1500.00"))
    shop.work()
    assert len(shop.rows("SELECT key FROM cue")) == 2
    data = shop.services.settings.data_dir
    shop.services.close()
    how = hush if hushed else as_is
    restore(tmp_path / "backup", at(data), force=True, state_only=True, now=NOON, prepare=how)  # type: ignore[arg-type]
    again = Shop(data, CONFIG + EVENTS)
    assert again.segments() == {"vip", "recent-buyers"}
    assert len(again.rows("SELECT key FROM cue")) == (0 if hushed else 2)
    again.deliver("orders/create", order(2, customer=502, email="bo@example.com", total="1500.00"), id="w9")
    again.work()
    assert len(again.rows("SELECT key FROM cue WHERE profile_id = 2")) == 2  # what is new starts flows as ever
    again.close()


def test_restore_refuses_while_anybody_works_and_to_overwrite(shop: Shop, tmp_path: Path) -> None:
    make(shop, tmp_path / "backup")
    data = shop.services.settings.data_dir
    result = storecue("restore", str(tmp_path / "backup"), "--data", str(data), "--force")
    assert result.exit_code == 2
    assert result.stderr == f"storecue: StoreCue works on {data}; stop it, and all its commands, first\n"
    shop.close()
    result = storecue("restore", str(tmp_path / "backup"), "--data", str(data))
    assert result.exit_code == 2
    assert "--force puts it aside" in result.stderr
    result = storecue("restore", str(tmp_path / "backup"), "--data", str(data), "--force")
    assert result.exit_code == 0, result.stderr
    assert "Restored what was backed up at 2026-11-" in result.stdout
    assert len(list(data.glob("replaced-*/storecue.db"))) == 1
    assert not list(data.glob(".*.restored")) and not (data / UNFINISHED).exists()


def test_nothing_starts_while_a_restore_is_under_way_or_was_cut_off(shop: Shop, tmp_path: Path) -> None:
    make(shop, tmp_path / "backup")
    data = shop.services.settings.data_dir
    shop.close()
    held = alone(data)
    with pytest.raises(ConfigurationError, match="is being restored"):
        Services(Settings.from_environment(environ={}, data_dir=data))
    held.give_back()

    def cut_off(_files: Files) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", at(data), force=True, state_only=False, now=NOON, prepare=cut_off)
    with pytest.raises(ConfigurationError, match="was cut off"):
        Services(Settings.from_environment(environ={}, data_dir=data))
    put_back(tmp_path / "backup", data, force=True)
    share(data).give_back()


def test_a_backup_that_has_changed_is_refused(shop: Shop, tmp_path: Path) -> None:
    make(shop, tmp_path / "backup")
    path = tmp_path / "backup" / "inbox.db"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = storecue("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "again"))
    assert result.exit_code == 2
    assert "has changed since it was backed up (sha256)" in result.stderr
    assert not list(tmp_path.glob("again/*.db"))
    path.write_bytes(content[:-1])
    assert "is not as it was backed up" in storecue("check", str(tmp_path / "backup")).stderr
    (tmp_path / "backup" / "manifest.json").unlink()
    assert "is no backup" in storecue("check", str(tmp_path / "backup")).stderr


def test_backup_says_why_it_cannot(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = str(shop.services.settings.data_dir)
    (tmp_path / "there").mkdir()
    assert "is there already" in storecue("backup", str(tmp_path / "there"), "--data", data).stderr
    assert "there is no" in storecue("backup", str(tmp_path / "new"), "--data", str(tmp_path / "there")).stderr
    (tmp_path / "file").touch()
    assert "could not be written" in storecue("backup", str(tmp_path / "file" / "in"), "--data", data).stderr
    monkeypatch.setattr(backup, "_SPARE", 1 << 60)
    assert "name a folder elsewhere" in storecue("backup", str(tmp_path / "new"), "--data", data).stderr
    assert not (tmp_path / "new").exists()


def test_the_command_from_backup_to_restore(shop: Shop, tmp_path: Path) -> None:
    data, folder, again = shop.services.settings.data_dir, tmp_path / "backup", tmp_path / "again"
    shop.deliver("orders/create", order(1))
    result = storecue("backup", str(folder), "--data", str(data))
    assert result.exit_code == 0, result.stderr
    assert "1 deliveries in it wait to be worked off" in result.stdout
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {"storecue.db", "inbox.db", "manifest.json"}
    assert json.loads((folder / "manifest.json").read_text())["form"] == 1
    assert "agree with each other" in storecue("check", str(folder)).stdout
    assert "agree with each other" in storecue("check", "--data", str(data)).stdout
    result = storecue("restore", str(folder), "--data", str(again), "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "1 deliveries will start no flow." in result.stdout
    assert f"Put the secret key back before you start: {again}/secret.key" in result.stdout


# --- what is wrong ---------------------------------------------------------------------------------------------------


def harm(shop: Shop, database: str, *statements: str) -> Path:
    data = shop.services.settings.data_dir
    with sqlite3.connect(data / database) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return data


@pytest.mark.parametrize(
    ("database", "statement", "message"),
    [
        ("inbox.db", "UPDATE log_head SET head = 0", "inbox.db is older than storecue.db: partition"),
        ("inbox.db", "UPDATE log_head SET head = 0", "inbox.db has 2 deliveries past its own head"),
        ("inbox.db", "UPDATE log_head SET head = head + 3 WHERE part = 0", "inbox.db lacks 3 deliveries"),
        ("storecue.db", "DELETE FROM profile", "rows of identifier belong to no profile"),
        ("storecue.db", "DELETE FROM profile", "1 rows of shop_order belong to no profile"),
    ],
)
def test_check_finds_what_does_not_agree(shop: Shop, database: str, statement: str, message: str) -> None:
    shop.deliver("orders/create", order(1))
    shop.deliver("orders/paid", order(1))
    shop.work()
    assert told(shop.services.settings.data_dir) == []
    data = harm(shop, database, statement)
    assert any(message in found for found in told(data)), told(data)
    result = storecue("check", "--data", str(data))
    assert result.exit_code == 1
    assert "FIX" in result.stdout


@pytest.mark.parametrize("name", ["storecue.db", "inbox.db"])
def test_check_finds_damage(shop: Shop, name: str, tmp_path: Path) -> None:
    for number in range(1, 31):
        shop.deliver("orders/create", order(number, customer=number, email=f"c{number}@example.com"))
    shop.work()
    make(shop, tmp_path / "backup")
    path = tmp_path / "backup" / name
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):  # the first page says what it is: spared
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    found = list(faults(at(tmp_path / "backup")))
    assert found and found[0].message.startswith(name)
    (tmp_path / "backup" / name).unlink()
    assert told(tmp_path / "backup") == [f"{name}: is not there"]
