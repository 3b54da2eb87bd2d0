"""`db`: backups of state and log while StoreCue works, their way back, and what is wrong with them."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector import clock
from connector.cli.commands import Commands, data_option, settings_of
from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from connector.config.settings import Settings
    from connector.storage.backup import Files
    from connector.storage.database import Database
    from connector.storage.manifest import Manifest, Moved
    from connector.storage.soundness import Fault

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Commands)
def db() -> None:
    """Back up, restore and check the databases."""


@db.command("backup")
@click.argument("folder", type=_FOLDER)
@data_option
def db_backup(folder: Path, data_dir: Path | None) -> None:
    """Copy state and log into the new FOLDER, while StoreCue works. The secret key is not in it: keep that apart."""
    from importlib.metadata import version

    from connector.storage import backup

    settings = settings_of(data_dir=data_dir)
    with bars() as moved:
        how: dict[str, Any] = {"now": clock.now(), "storecue": version("storecue"), "moved": moved}
        if _on_server(settings):
            from connector.storage import snapshot

            with _server(settings) as database:
                made = snapshot.back_up(database, folder, **how)
        else:
            made = backup.back_up(_files(settings), folder, **how)
    size = sum(made.bytes.values()) / 1024**2
    click.echo(f"Backed up to {folder}: {size:,.1f} MiB; {made.waiting:,} deliveries in it wait to be worked off.")


@db.command("restore")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Put aside the files that are there; drop the tables of PostgreSQL.")
@click.option("--state-only", is_flag=True, help="Keep the present log, and work off again what it has since.")
@click.option("--quiet", is_flag=True, help="What is worked off again records no cues, so it starts no flow twice.")
@data_option
def db_restore(folder: Path, force: bool, state_only: bool, quiet: bool, data_dir: Path | None) -> None:
    """Put the backup in FOLDER in place. Nothing may run on the data directory, or on the database."""
    from connector.storage.in_use import alone
    from connector.storage.manifest import manifest_of

    settings = settings_of(data_dir=data_dir)
    if settings.kafka is not None and state_only:
        raise ConfigurationError("the log is a topic of Kafka, which stays as it is: leave --state-only away")
    with bars() as moved:
        made = manifest_of(folder, moved)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = alone(settings.data_dir)
    try:
        (_restore_server if _on_server(settings) else _restore_files)(
            settings, folder, made, force=force, state_only=state_only, quiet=quiet and settings.kafka is None
        )
        if quiet and settings.kafka is not None:
            _hush_topic(settings)
    finally:
        held.give_back()
    if not settings.secret_keys and not settings.secret_key_file.exists():
        click.echo(f"Put the secret key back before you start: {settings.secret_key_file}, or STORECUE_SECRET_KEY.")
    click.echo("Next: `storecue db check`, start, then `storecue verify` each destination.")


def _hush_topic(settings: "Settings") -> None:
    from connector.inbox.hushing import hush_log
    from connector.services import log_of
    from connector.storage.database import Database

    state = Database(settings.database_url)
    log = log_of(settings, state, state)
    try:
        click.echo(f"{hush_log(state, log):,} deliveries will start no flow.")
    finally:
        log.close()
        state.close()


def _restore_files(
    settings: "Settings", folder: Path, made: "Manifest", *, force: bool, state_only: bool, quiet: bool
) -> None:
    from connector.inbox.hushing import hush
    from connector.storage.backup import restore

    if made.database != "sqlite":
        raise ConfigurationError(f"{folder} is a backup of PostgreSQL: set DATABASE_URL to an empty database of it")

    def hushed(copies: "Files") -> None:
        click.echo(f"{hush(copies):,} deliveries will start no flow.")

    prepare = hushed if quiet else _as_is
    aside = restore(folder, _files(settings), force=force, state_only=state_only, now=clock.now(), prepare=prepare)
    click.echo(f"Restored what was backed up at {made.made_at}.")
    if aside is not None:
        click.echo(f"What was there before is in {aside}; delete it when all is well.")


def _restore_server(
    settings: "Settings", folder: Path, made: "Manifest", *, force: bool, state_only: bool, quiet: bool
) -> None:
    from connector.inbox.hushing import hush_on_server
    from connector.storage.snapshot import restore

    def hushed(tx: "Connection") -> None:
        click.echo(f"{hush_on_server(tx):,} deliveries will start no flow.")

    prepare = hushed if quiet else _as_is
    with bars() as moved, _server(settings) as database:
        restore(folder, made, database, force=force, state_only=state_only, prepare=prepare, moved=moved)
        click.echo(f"Restored what was backed up at {made.made_at} into {database.place}.")


@db.command("check")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@data_option
def db_check(folder: Path | None, data_dir: Path | None) -> None:
    """Read all of state and log, of the data directory or of the backup in FOLDER; each fault with what to do."""
    from connector.storage.soundness import faults, faults_on_server

    settings = settings_of(data_dir=data_dir)
    if folder is not None:
        found = _told(_faults_of_backup(folder))
    elif _on_server(settings):
        with _server(settings) as database:
            found = _told(faults_on_server(database))
    else:
        found = _told(faults(_files(settings)))
    if not found:
        click.echo("ok: state and log are sound and agree with each other")
    sys.exit(1 if found else 0)


def _faults_of_backup(folder: Path) -> Iterator["Fault"]:
    from connector.storage.backup import LOG, STATE, Files
    from connector.storage.manifest import manifest_of
    from connector.storage.soundness import faults, faults_of_snapshot

    with bars() as moved:
        made = manifest_of(folder, moved)
    click.echo(f"backed up at {made.made_at}, as its manifest says")
    if made.database == "sqlite":
        yield from faults(Files(folder / STATE, folder / LOG))
    else:
        yield from faults_of_snapshot(folder, made)


@db.command("migrate")
@click.option("--to", "version", help="The version to go to, forward or back. Default: the newest.")
@data_option
def db_migrate(version: str | None, data_dir: Path | None) -> None:
    """Bring the tables of the state to another version, as each start does to the newest. Nothing may run."""
    from connector.storage.database import Database
    from connector.storage.in_use import alone, database_alone
    from connector.storage.migrations import HEAD, move

    settings = settings_of(data_dir=data_dir)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = version or HEAD
    with ExitStack() as held:
        held.callback(alone(settings.data_dir).give_back)
        if _on_server(settings):
            database = held.enter_context(_server(settings))
        else:
            database = Database(settings.database_url)
            held.callback(database.close)
        held.callback(database_alone(database).give_back)
        before = move(database, wanted)
    click.echo(f"The tables are of version {wanted}; before they were {before or 'not there'}.")
    if wanted != HEAD:
        click.echo("Start the StoreCue of that version now: this one would bring them forward again.")


def _told(faults: Iterator["Fault"]) -> bool:
    """Whether there was any."""
    found = False
    for fault in faults:
        found = True
        click.echo(f"{click.style('FIX', fg='red')} {fault.message}\n    {fault.fix}")
    return found


def _files(settings: "Settings") -> "Files":
    from connector.storage.backup import files

    return files(settings.database_url, settings.inbox_url)


def _on_server(settings: "Settings") -> bool:
    return not settings.database_url.startswith("sqlite")


@contextmanager
def _server(settings: "Settings") -> Iterator["Database"]:
    from sqlalchemy.exc import SQLAlchemyError

    from connector.storage.database import Database

    database = Database(settings.database_url)
    try:
        try:
            with database.read() as connection:
                connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", error)).partition("\n")[0]
            raise ConfigurationError(f"the database {database.place} cannot be reached: {said}") from error
        database.engine.dispose()  # whoever wants it alone must not meet us
        yield database
    finally:
        database.close()


def _as_is(_: object) -> None:
    return


@contextmanager
def bars() -> Iterator["Moved"]:
    """A bar for each file or table, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def moved(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield moved
