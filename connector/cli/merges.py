"""`profile`: people found to be one, and two again."""

from pathlib import Path

import click

from connector import clock
from connector.cli.commands import data_option, services_at


@click.group()
def profile() -> None:
    """The people."""


@profile.command("merges")
@click.argument("profile_id", type=int, required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@data_option
def profile_merges(profile_id: int | None, limit: int, data_dir: Path | None) -> None:
    """Show which people were found to be one, why and when, newest first."""
    from connector.profiles import journal

    with services_at(data_dir) as services, services.database.read() as connection:
        found = journal.merges(connection, profile_id=profile_id, limit=limit)
    for row in found:
        moved = ", ".join(f"{count} {kind}" for kind, count in row["moved"].items() if count)
        undone = f" (undone {clock.isoformat(row['undone_at'])})" if row["undone_at"] else ""
        at = clock.isoformat(row["at"])
        click.echo(
            f"{row['id']}\t{at}\t{row['loser']} into {row['winner']}{undone}\t{row['because']}\t"
            f"{row['source']} {row['delivery_id']}\t{moved or 'nothing moved'}"
        )
    if not found:
        click.echo("There are none.")


@profile.command("unmerge")
@click.argument("merge_id", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def profile_unmerge(merge_id: int, yes: bool, data_dir: Path | None) -> None:
    """Make two people of one again, by the number that `storecue profile merges` shows."""
    from connector.pipeline import Pipeline

    if not yes:
        click.confirm(f"Undo merge {merge_id}?", abort=True)
    with services_at(data_dir) as services:
        pipeline = Pipeline(services.configuration(), services.ruleset(), services.source_kinds)
        with services.database.tx() as tx:
            left, right = pipeline.unmerge(tx, merge_id, clock.now())
    click.echo(f"Profiles {left} and {right} are two people again")
