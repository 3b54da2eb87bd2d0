"""`source quality`: whether what the sources send is as it should be."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import data_option, services_at
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.reporting.pages import Row

_SHOWN = 20  # notices of a source


@click.command("quality")
@click.argument("name", required=False)
@click.option("--acknowledge", is_flag=True, help="The notices were read: show them no more.")
@data_option
def source_quality(name: str | None, acknowledge: bool, data_dir: Path | None) -> None:
    """Show when each source was last good, what was wrong, and which fields are new in its deliveries.

    Exit code 1: a source is silent for longer than its `silent_after`.
    """
    from connector.quality import store
    from connector.reporting.quality import quality

    with services_at(data_dir) as services:
        sources = services.configuration().sources
        if name is not None and name not in sources:
            raise ConnectorError(f"there is no source {name!r} (configured: {', '.join(sorted(sources)) or 'none'})")
        wanted = {one: config for one, config in sources.items() if name in (None, one)}
        with services.database.read() as connection:
            found = quality(connection, wanted, clock.now())
        if acknowledge:
            with services.database.tx() as tx:
                for one in wanted:
                    store.acknowledge(tx, one)
    for row in found:
        _tell(row)
    sys.exit(1 if any(row["silent"] for row in found) else 0)


def _tell(row: "Row") -> None:
    last = "never" if row["last_good_at"] is None else clock.isoformat(row["last_good_at"])
    alarm = f", SILENT for more than {row['silent_after']}" if row["silent"] else ""
    click.echo(f"{row['name']}: {row['good']} good deliveries, the last one {last}{alarm}")
    for label, counts in (("noticed", row["faults"]), ("dead letters", row["dead"])):
        for reason, count in sorted(counts.items()):
            click.echo(f"  {label}: {count} {reason}")
    for notice in row["notices"][:_SHOWN]:
        was = f"was {' or '.join(notice['was'])}" if notice["was"] else "unknown until then"
        since = clock.isoformat(notice["first_at"])
        click.echo(f"  {notice['topic']} {notice['path']}: {notice['type']} since {since}, {was}")
    if len(row["notices"]) > _SHOWN:
        click.echo(f"  and {len(row['notices']) - _SHOWN} more fields")
