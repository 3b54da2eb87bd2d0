"""`db`: backups of both databases while StoreCue works, their way back, and what is wrong with them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import Commands, data_option, settings_of

if TYPE_CHECKING:
    from connector.config.settings import Settings
    from connector.storage.backup import Files, Moved

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Commands)
def db() -> None:
    """Back up, restore and check the databases."""


@db.command("backup")
@click.argument("folder", type=_FOLDER)
@data_option
def db_backup(folder: Path, data_dir: Path | None) -> None:
    """Copy both databases into the new FOLDER, while StoreCue works. The secret key is not in it: keep that apart."""
    from importlib.metadata import version

    from connector.storage.backup import back_up

    files = _files(settings_of(data_dir=data_dir))
    with bars() as moved:
        made = back_up(files, folder, now=clock.now(), storecue=version("storecue"), moved=moved)
    size = sum(made.bytes.values()) / 1024**2
    click.echo(f"Backed up to {folder}: {size:,.1f} MiB; {made.waiting:,} deliveries in it wait to be worked off.")


@db.command("restore")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Put aside the databases that are there.")
@click.option("--state-only", is_flag=True, help="Keep the present inbox.db, and work off again what it has since.")
@click.option("--quiet", is_flag=True, help="What is worked off again records no cues, so it starts no flow twice.")
@data_option
def db_restore(folder: Path, force: bool, state_only: bool, quiet: bool, data_dir: Path | None) -> None:
    """Put the backup in FOLDER in place. Nothing may run on the data directory."""
    from connector.inbox.hushing import hush
    from connector.storage.backup import manifest_of, restore
    from connector.storage.in_use import alone

    settings = settings_of(data_dir=data_dir)
    files = _files(settings)
    with bars() as moved:
        made = manifest_of(folder, moved)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = alone(settings.data_dir)

    def hushed(copies: "Files") -> None:
        click.echo(f"{hush(copies):,} deliveries will start no flow.")

    try:
        aside = restore(
            folder,
            files,
            force=force,
            state_only=state_only,
            now=clock.now(),
            prepare=hushed if quiet else _as_is,
        )
    finally:
        held.give_back()
    click.echo(f"Restored what was backed up at {made.made_at}.")
    if aside is not None:
        click.echo(f"What was there before is in {aside}; delete it when all is well.")
    if not settings.secret_keys and not settings.secret_key_file.exists():
        click.echo(f"Put the secret key back before you start: {settings.secret_key_file}, or STORECUE_SECRET_KEY.")
    click.echo("Next: `storecue db check`, start, then `storecue verify` each destination.")


@db.command("check")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@data_option
def db_check(folder: Path | None, data_dir: Path | None) -> None:
    """Read all of both databases, of the data directory or of the backup in FOLDER; each fault with what to do."""
    from connector.storage.backup import LOG, STATE, Files, manifest_of
    from connector.storage.soundness import faults

    if folder is None:
        files = _files(settings_of(data_dir=data_dir))
    else:
        files = Files(folder / STATE, folder / LOG)
        with bars() as moved:
            click.echo(f"backed up at {manifest_of(folder, moved).made_at}, as its manifest says")
    found = False
    for fault in faults(files):
        found = True
        click.echo(f"{click.style('FIX', fg='red')} {fault.message}\n    {fault.fix}")
    if not found:
        click.echo("ok: both databases are sound and agree with each other")
    sys.exit(1 if found else 0)


def _files(settings: "Settings") -> "Files":
    from connector.storage.backup import files

    return files(settings.database_url, settings.inbox_url)


def _as_is(_: "Files") -> None:
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
