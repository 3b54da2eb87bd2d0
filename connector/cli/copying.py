"""`db copy`: everything that is kept, into another kind of database."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector.cli.commands import data_option, settings_of
from connector.cli.database import bars
from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from connector.storage.copying import Side

_TO = "The URL of a PostgreSQL database; or a data directory, for SQLite."


@click.command("copy")
@click.option("--to", "target", required=True, help=_TO)
@click.option("--force", is_flag=True, help="Clear what the target holds already.")
@data_option
def db_copy(target: str, force: bool, data_dir: Path | None) -> None:
    """Copy everything into another database, from SQLite to PostgreSQL or back. Nothing may run on either."""
    from connector.storage.copying import copy
    from connector.storage.in_use import alone

    settings = settings_of(data_dir=data_dir)
    if not settings.data_dir.is_dir():
        raise ConfigurationError(f"there is no {settings.data_dir}; name the data directory with --data")
    with ExitStack() as held, bars() as moved:
        held.callback(alone(settings.data_dir).give_back)
        source = held.enter_context(_side(settings.database_url, settings.inbox_url))
        into = held.enter_context(_target(target))
        if into.state.place == source.state.place:
            raise ConfigurationError(f"{into.state.place} is where StoreCue works now; name another database with --to")
        copied = copy(source, into, force=force, moved=moved)
        place = into.state.place
    click.echo(f"Copied {copied.rows:,} rows of {len(copied.sums)} tables to {place}; the sums of both sides agree.")
    if copied.altered:
        click.echo(f"{copied.altered:,} of them held the character NUL, which PostgreSQL cannot keep: U+FFFD now.")
    key = settings.secret_key_file
    if "://" in target:
        click.echo("Next: set DATABASE_URL to it wherever StoreCue is started, and start; the data directory stays.")
        click.echo(f"On another machine set STORECUE_SECRET_KEY as well, to what is in {key} or is set here.")
    else:
        click.echo(f"Next: unset DATABASE_URL, set STORECUE_DATA to {target}, and start.")
        click.echo(f"The secret key is not copied: put {key} there, or keep STORECUE_SECRET_KEY set.")
    click.echo(f"Do not start on {source.state.place} again: delete it when all is well.")


@contextmanager
def _target(target: str) -> Iterator["Side"]:
    """The target, held alone. A cut in the middle leaves a data directory that nothing starts on."""
    from connector.storage.database import sqlite_url
    from connector.storage.in_use import UNFINISHED, alone

    if "://" in target:
        if target.startswith("sqlite"):
            raise ConfigurationError("for SQLite name a data directory with --to, not a URL")
        with _side(target, target) as side:
            yield side
        return
    folder = Path(target)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = alone(folder)
    try:
        with _side(sqlite_url(folder / "storecue.db"), sqlite_url(folder / "inbox.db")) as side:
            (folder / UNFINISHED).touch(0o600)
            try:
                yield side
            except ConfigurationError:  # refused before anything was written
                (folder / UNFINISHED).unlink()
                raise
        (folder / UNFINISHED).unlink()
    finally:
        held.give_back()


@contextmanager
def _side(database_url: str, inbox_url: str) -> Iterator["Side"]:
    from sqlalchemy.exc import SQLAlchemyError

    from connector.inbox.sql import PAGE
    from connector.storage.copying import Side
    from connector.storage.database import Database
    from connector.storage.in_use import database_alone

    state = Database(database_url)
    log = state if inbox_url == database_url else Database(inbox_url, page=PAGE)
    try:
        try:
            held = database_alone(state)
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", error)).partition("\n")[0]
            raise ConfigurationError(f"the database {state.place} cannot be reached: {said}") from error
        try:
            yield Side(state, log)
        finally:
            held.give_back()
    finally:
        for database in {id(database): database for database in (state, log)}.values():
            database.close()
