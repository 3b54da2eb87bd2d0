"""`status` and `doctor`: how things stand, and what is wrong."""

import sys
from pathlib import Path
from typing import Any

import click

from connector import clock
from connector.cli.commands import data_option, services_at, settings_of


@click.command()
@click.option("--watch", is_flag=True, help="Stay, and follow the refills until they are done.")
@data_option
def status(watch: bool, data_dir: Path | None) -> None:
    """Show what waits, which segments are being refilled, and how the destinations stand."""
    from connector import progress
    from connector.reporting.status import status as read

    with services_at(data_dir) as services:

        def look() -> dict[str, Any]:
            configuration = services.configuration()
            with services.database.read() as state:
                named = (list(configuration.destinations), configuration.streams)
                return read(state, services.log, services.turns, *named, clock.now())

        click.echo(progress.lines(look()))
        progress.refills(look, stay=watch)


@click.command()
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_option
def doctor(file: Path | None, data_dir: Path | None) -> None:
    """Check configuration, clock, database, reachability and credentials; each fault with its fix."""
    from connector.doctor import checks

    failed = False
    for check in checks(settings_of(data_dir=data_dir), file=file, now=clock.now()):
        mark = click.style("ok", fg="green") if check.ok else click.style("FIX", fg="red")
        click.echo(f"{mark:>4} {check.name}: {check.message}")
        if not check.ok:
            failed = True
            click.echo(f"       {check.fix}")
    sys.exit(1 if failed else 0)
