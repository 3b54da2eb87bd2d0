"""What a person at the terminal reads when something is not as it should be: a line, never a traceback."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connector.cli import main

FILE = "version: 1\nsources:\n  shop: {kind: shopify, secrets: ['env:SHOPIFY_SECRET']}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("SHOPIFY_SECRET", "STORECUE_DATA", "STORECUE_SECRET_KEY", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "storecue.yaml").write_text(FILE)
    yield tmp_path


def storecue(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_secret_that_cannot_be_read_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("plan", "apply"):
        result = storecue(command)
        assert result.exit_code == 0
        assert "storecue: warning: /sources/shop/secrets/0: env:SHOPIFY_SECRET: the environment" in result.stderr
    monkeypatch.setenv("SHOPIFY_SECRET", "hush")
    assert storecue("plan").stderr == ""


def test_apply_says_that_it_did(folder: Path) -> None:
    assert storecue("apply").stdout.endswith("Applied as version 1.\n")
    assert storecue("apply").stdout == "Nothing to change.\n"


def test_a_database_that_fails_is_one_line(folder: Path) -> None:
    storecue("apply")
    with sqlite3.connect(folder / "storecue-data" / "storecue.db") as database:
        database.execute("DROP TABLE api_token")
    result = storecue("token", "create", "laptop")
    assert result.exit_code == 2
    assert (
        result.stderr == "storecue: the database failed: no such table: api_token; `storecue doctor` says what to do\n"
    )


def test_a_data_directory_that_cannot_be_made(folder: Path) -> None:
    result = storecue("export", "--data", "storecue.yaml/data")
    assert result.exit_code == 2
    assert "the data directory storecue.yaml/data cannot be made (Not a directory)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_data_directory_is_for_its_user_alone(folder: Path) -> None:
    storecue("apply")
    assert (folder / "storecue-data").stat().st_mode & 0o777 == 0o700
