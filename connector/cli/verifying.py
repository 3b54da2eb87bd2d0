"""`verify`: what a destination holds, compared with what was pushed; put right, or taken over."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import data_option, services_at
from connector.cli.destinations import configured
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.domain import DestinationConfig
    from connector.services import Services
    from connector.storage.database import Database
    from connector.sync.adopt import Adoption
    from connector.sync.verify import Verification


@click.command()
@click.argument("name", metavar="DESTINATION")
@click.option("--sample", "size", type=click.IntRange(min=1), default=200, show_default=True, help="How many contacts.")
@click.option("--all", "everybody", is_flag=True, help="All contacts instead of a sample.")
@click.option("--seed", type=int, help="The same seed takes the same sample. Default: another one every day.")
@click.option("--repair", is_flag=True, help="Push again whoever differs.")
@click.option("--adopt", "adopting", is_flag=True, help="Show what is there of contacts that were never pushed.")
@click.option("--yes", is_flag=True, help="With --adopt: take it over as pushed.")
@data_option
def verify(
    name: str,
    size: int,
    everybody: bool,
    seed: int | None,
    repair: bool,
    adopting: bool,
    yes: bool,
    data_dir: Path | None,
) -> None:
    """Read back what a destination holds and show where it differs from what was pushed.

    Exit code 1: something differs and was not repaired.
    """
    if (adopting and repair) or (yes and not adopting):
        raise click.UsageError("--yes goes with --adopt, and --adopt without --repair")
    now = clock.now()
    with services_at(data_dir) as services:
        config = configured(services, name)
        if adopting:
            _adopt(services, config, now, write=yes)
            return
        found = _read_back(services, config, None if everybody else size, now, seed, repair=repair)
    click.echo(f"{name}: {found.checked} of {found.contacts} contacts read back, {found.drifted} differ")
    _tell_drift(found, repair=repair)
    sys.exit(1 if found.drifted > found.repaired else 0)


def _read_back(
    services: "Services",
    config: "DestinationConfig",
    size: int | None,
    now: clock.Millis,
    seed: int | None,
    *,
    repair: bool,
) -> "Verification":
    from adapters.errors import DeliveryError
    from connector.sync.verify import verify as read_back

    try:
        with closing(services.connect(config)) as adapter:
            return read_back(
                services.database,
                adapter,
                config,
                services.configuration().segments,
                size=size,
                seed=now // clock.DAY if seed is None else seed,
                repair=repair,
                now=now,
                tell=services.log.append if repair else None,
            )
    except DeliveryError as error:
        raise ConnectorError(f"{config.name} could not be read back: {error.message}") from error


_SHOWN = 5  # profiles named for each difference


def _tell_drift(found: "Verification", *, repair: bool) -> None:
    """What differs, the most frequent first, by profile and never by address."""
    for difference, people in sorted(found.profiles.items(), key=lambda item: (-len(item[1]), item[0])):
        click.echo(f"  {difference}: {len(people)} (profiles {_few(people)})")
    if found.left:
        click.echo(
            f"{len(found.left)} left to you, merged there with the contact of another profile or without an address "
            f"(profiles {_few(found.left)})"
        )
    if repair:
        click.echo(f"{found.repaired} will be put right by the next push")
    elif found.drifted > len(found.left):
        click.echo("Run it with --repair to have them put right")


def _adopt(services: "Services", config: "DestinationConfig", now: clock.Millis, *, write: bool) -> None:
    from adapters.errors import DeliveryError
    from connector.sync.adopt import adopt

    with _alone(services, config, write=write) as database:
        try:
            with closing(services.connect(config)) as adapter:
                found = adopt(
                    database,
                    adapter,
                    config,
                    services.configuration().segments,
                    write=write,
                    now=now,
                    tell=services.log.append,
                )
        except DeliveryError as error:
            raise ConnectorError(f"{config.name} could not be read: {error.message}") from error
    _tell_adoption(config.name, found, write=write)


@contextmanager
def _alone(services: "Services", config: "DestinationConfig", *, write: bool) -> Iterator["Database"]:
    """While nothing is pushed: what a sender has under way would be mistaken for what was there before."""
    from connector.sync.store import account_row

    turn = services.turns.of("push", config.name)
    with services.database.read() as connection:
        account = account_row(connection, config.name)
    paused = account is not None and account["state"] == "paused"
    unused = config.dry_run or paused
    if write and not (unused or turn.take()):
        raise ConnectorError(
            f"{config.name} is pushed to; run `storecue destination pause {config.name}` first, and resume it after"
        )
    try:
        yield turn.database if write and not unused else services.database
    finally:
        turn.give_back()


def _tell_adoption(name: str, found: "Adoption", *, write: bool) -> None:
    click.echo(f"{name}: {found.contacts} contacts were never pushed, {found.there} of them are there")
    for tag, counts in sorted(found.tags.items()):
        right, wrong, lacking = counts["right"], counts["wrong"], counts["lacking"]
        click.echo(f"  tag {tag}: {right} right, {wrong} to be taken away, {lacking} to be added")
    for field, counts in sorted(found.fields.items()):
        click.echo(f"  field {field}: {counts['equal']} equal, {counts['different']} to be set")
    if found.unsubscribed:
        click.echo(f"  {found.unsubscribed} are unsubscribed or suppressed there and not here")
    if found.left:
        click.echo(f"{len(found.left)} left to you: their contact is that of another profile ({_few(found.left)})")
    click.echo(f"{found.settled} need no push, {found.there - len(found.left) - found.settled} a real difference")
    if not write:
        click.echo("Nothing was written; run it with --yes to take this over as pushed")


def _few(people: list[int]) -> str:
    return ", ".join(map(str, people[:_SHOWN])) + (", ..." if len(people) > _SHOWN else "")
