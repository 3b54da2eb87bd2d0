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


@profile.command("duplicates")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@data_option
def profile_duplicates(limit: int, data_dir: Path | None) -> None:
    """Show pairs of profiles that may be one person, the likeliest first."""
    from connector.profiles.duplicates import store
    from connector.profiles.duplicates.likeness import WORDS

    with services_at(data_dir) as services, services.database.read() as connection:
        total, found = store.count(connection), store.suspects(connection, limit=limit)
    for row in found:
        why = ", ".join(WORDS[kind] for kind in row["because"])
        click.echo(f"{row['score']:.2f}\t{row['low']} and {row['high']}\t{why}")
    click.echo(f"{len(found)} of {total} pairs" if found else "There are none.")


@profile.command("merge")
@click.argument("left", type=int)
@click.argument("right", type=int)
@data_option
def profile_merge(left: int, right: int, data_dir: Path | None) -> None:
    """Say that two profiles are one person. `storecue profile unmerge` takes it back."""
    from connector.pipeline import Pipeline

    with services_at(data_dir) as services:
        pipeline = Pipeline(services.configuration(), services.ruleset(), services.source_kinds)
        with services.database.tx() as tx:
            kept = pipeline.merge(tx, left, right, "somebody said so", clock.now())
    click.echo(f"Both are profile {kept} now")


@profile.command("dismiss")
@click.argument("left", type=int)
@click.argument("right", type=int)
@data_option
def profile_dismiss(left: int, right: int, data_dir: Path | None) -> None:
    """Say that two profiles of `storecue profile duplicates` are two people."""
    from connector.profiles import journal
    from connector.profiles.duplicates import store

    with services_at(data_dir) as services, services.database.tx() as tx:
        if not store.dismiss(tx, min(left, right), max(left, right)):
            raise click.ClickException(f"{left} and {right} are not among the pairs that are open")
        journal.keep_apart(tx, left, right, clock.now())
    click.echo(f"{left} and {right} are two people")
