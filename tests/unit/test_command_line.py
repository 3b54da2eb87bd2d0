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


MAILS = """
version: 1
sources:
  shop: {kind: shopify, secrets: ['env:SHOPIFY_SECRET']}
  flows: {kind: klaviyo, secrets: ['env:FLOW_SECRET']}
  audience: {kind: mailchimp, secrets: [a-secret-of-the-address]}
"""


def test_source_template_prints_what_to_paste_and_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "storecue.yaml").write_text(MAILS)
    monkeypatch.setenv("STORECUE_PUBLIC_URL", "https://cues.example.com/")
    assert storecue("apply").exit_code == 0
    result = storecue("source", "template", "audience")
    assert "https://cues.example.com/webhooks/mailchimp/audience?token=" in result.stdout
    assert "a-secret-of-the-address" not in result.stdout
    unread = storecue("source", "template", "flows")
    assert (unread.exit_code, "cannot be read here" in unread.stderr) == (2, True)
    monkeypatch.setenv("FLOW_SECRET", "hush-hush-hush-hush")
    told = storecue("source", "template", "flows")
    assert "/webhooks/klaviyo/flows?token=" in told.stdout and '"event": "Opened Email"' in told.stdout
    assert "hush" not in told.stdout
    none = storecue("source", "template", "shop")
    assert (none.exit_code, "needs no template" in none.stderr) == (2, True)
    assert storecue("source", "template", "nobody").exit_code == 2
