"""`backfill` and `source verify`: a source's past, and what is missing of it."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector import clock
from connector.cli.commands import data_option, services_at

if TYPE_CHECKING:
    from connector.services import Services

_LOOK_EVERY = 0.5  # seconds
_STEPS = {
    "wanted": "about to begin",
    "bulk": "the source prepares it, or it is being loaded",
    "sort": "being sorted",
    "append": "being put in line",
    "pages": "being put in line, page by page",
    "cancelling": "being cancelled",
}


@click.group()
def backfill() -> None:
    """What was in the shop before StoreCue came."""


@backfill.command()
@click.argument("source")
@click.option("--only", metavar="KIND,KIND", help="Such as customers,orders. Default: everything.")
@click.option("--since", help="What changed since an instant such as 2026-01-01 or 2026-01-01T10:00:00Z.")
@data_option
def start(source: str, only: str | None, since: str | None, data_dir: Path | None) -> None:
    """Fetch what was there before: the worker does, and goes on after a restart. It fires no trigger.

    The first push of what it finds waits until it is approved: see `storecue destination approve`.
    """
    from connector.asking import ask

    with services_at(data_dir) as services:
        kinds = [kind.strip() for kind in only.split(",")] if only else None
        begun = ask(services, source, kinds, _instant(since), clock.now())
    running = "" if begun else " (it runs already)"
    click.echo(
        f"{source}: {', '.join(begun) or 'nothing new'} will be fetched{running}; `storecue backfill status` shows"
    )


@backfill.command()
@click.option("--watch", is_flag=True, help="Stay, with a bar for each kind, until all is fetched.")
@data_option
def status(watch: bool, data_dir: Path | None) -> None:
    """Show how far each backfill has come. Exit code 1: one has failed."""
    with services_at(data_dir) as services:
        rows = _rows(services)
        if watch:
            rows = _follow(services, rows)
    for row in rows:
        click.echo(_line(row))
    if not rows:
        click.echo("There are none.")
    sys.exit(1 if any(row["state"] == "failed" for row in rows) else 0)


@backfill.command()
@click.argument("source")
@data_option
def cancel(source: str, data_dir: Path | None) -> None:
    """Fetch no further. What has been fetched stays."""
    from connector.backfill import store

    with services_at(data_dir) as services, services.database.tx() as tx:
        count = store.cancel(tx, source, clock.now())
    click.echo(f"{count} cancelled")


@click.command("verify")
@click.argument("name")
@data_option
def source_verify(name: str, data_dir: Path | None) -> None:
    """Show what is missing of the source NAME, and why: access, subscriptions, deliveries, orders day by day.

    Exit code 1: something is missing. Nothing is changed.
    """
    from connector.asking import report

    with services_at(data_dir) as services:
        found = report(services, name, clock.now())
    for one in found.findings:
        mark = click.style("ok", fg="green") if one.good else click.style("FIX", fg="red")
        click.echo(f"{mark:>4} {one.name}: {one.hint}")
    for day in found.days:
        click.echo(f"     {day.day}: {day.there} orders at the source, {day.here} here")
    sys.exit(0 if found.good else 1)


def _rows(services: "Services") -> list[dict[str, Any]]:
    from connector.backfill import store

    with services.database.read() as connection:
        return store.all_of(connection)


def _follow(services: "Services", rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bars with rate and remaining time until nothing runs any more."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from connector.backfill.store import ENDED

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, Any] = {}
        while True:
            for row in rows:
                name = f"{row['source']} {row['kind']}"
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=None, rate="")
                task = bars.tasks[tasks[name]]
                rate = f"{task.speed:,.0f}/s" if task.speed else ""
                done = row["expected"] is None or row["state"] == "done"
                total = row["fetched"] if done and row["state"] in ENDED else row["expected"]
                bars.update(tasks[name], completed=row["fetched"], total=total, rate=rate)
            if all(row["state"] in ENDED for row in rows):
                return rows
            time.sleep(_LOOK_EVERY)
            rows = _rows(services)


def _line(row: dict[str, Any]) -> str:
    of = "" if row["expected"] is None else f" of {row['expected']:,}"
    line = f"{row['source']} {row['kind']}: {_STEPS.get(row['state'], row['state'])}, {row['fetched']:,}{of}"
    if row["state"] == "bulk" and row["size"]:
        line += f", {100 * row['loaded'] // row['size']} % loaded"
    return f"{line} ({row['message']})" if row["message"] else line


def _instant(text: str | None) -> clock.Millis | None:
    try:
        return None if text is None else clock.parse_instant(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an instant such as 2026-01-01", param_hint="--since") from None
