"""`dead-letters` and `replay`: what went wrong, and once more."""

from pathlib import Path

import click

from connector import clock
from connector.cli.commands import data_option, services_at


@click.command("dead-letters")
@click.option("--reason")
@click.option("--origin", help="A source or destination.")
@click.option("--replay", "again", is_flag=True, help="Put those listed in line again.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@data_option
def dead_letters(reason: str | None, origin: str | None, again: bool, limit: int, data_dir: Path | None) -> None:
    """List what could not be processed or was rejected for good."""
    from connector import progress
    from connector.inbox import parking
    from connector.reporting import dead_letters as letters

    with services_at(data_dir) as services:
        with services.database.read() as connection:
            wanted = letters.Filter(state="open", reason=reason, origin=origin)
            page = letters.dead_letters(connection, wanted, None, limit)
            parked = parking.standing(connection)
        for row in page.items:
            click.echo(
                f"{row['id']}\t{clock.isoformat(row['at'])}\t{row['kind']}\t{row['origin']}\t{row['topic']}\t"
                f"{row['reference']}\t{row['reason']}\t{row['message']}"
            )
        if again:
            count = services.replay_dead_letters([row["id"] for row in page.items], now=clock.now())
            click.echo(f"{count} put in line again")
        elif not page.items:
            click.echo("There are none.")
        if parked["customers"]:
            click.echo(progress.parked_line(parked))


@click.command()
@click.option("--source")
@click.option("--topic")
@click.option("--since", help="An instant such as 2026-11-21 or 2026-11-21T10:00:00Z.")
@click.option("--until", help="An instant.")
@click.option("--fire-triggers", is_flag=True, help="Let flows start for what changes.")
@data_option
def replay(
    source: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    fire_triggers: bool,
    data_dir: Path | None,
) -> None:
    """Run stored deliveries through the line again."""
    with services_at(data_dir) as services:
        count = services.replay_deliveries(
            source=source,
            topic=topic,
            since=_instant(since, "--since"),
            until=_instant(until, "--until"),
            fire_triggers=fire_triggers,
            now=clock.now(),
        )
    click.echo(f"{count} deliveries put in line again")


def _instant(text: str | None, option: str) -> clock.Millis | None:
    try:
        return None if text is None else clock.parse_instant(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an instant such as 2026-11-21T10:00:00Z", param_hint=option
        ) from None
