"""`destination` and `verify`: the accounts that are kept equal to the decision."""

import re
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import data_option, services_at
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.domain import DestinationConfig
    from connector.services import Services
    from connector.sync.contract import Contract
    from connector.sync.verify import Verification


def configured(services: "Services", name: str) -> "DestinationConfig":
    configured = services.configuration().destinations
    if name not in configured:
        known = ", ".join(sorted(configured)) or "there are none"
        raise ConnectorError(f"there is no destination {name!r} (configured: {known})")
    return configured[name]


@click.group()
def destination() -> None:
    """The accounts that are kept equal to the decision."""


@destination.command("pause")
@click.argument("name")
@data_option
def destination_pause(name: str, data_dir: Path | None) -> None:
    """Stop pushing to a destination. Decisions go on; what it should show waits."""
    from connector.sync import store

    with services_at(data_dir) as services:
        configured(services, name)
        with services.database.tx() as tx:
            store.pause(tx, name, clock.now(), "paused on the command line")
    click.echo(f"{name} is paused: what it should show waits until `storecue destination resume {name}`")


@destination.command("resume")
@click.argument("name")
@data_option
def destination_resume(name: str, data_dir: Path | None) -> None:
    """Push to a destination again, after a pause or once its credentials are mended."""
    from connector.sync import store

    with services_at(data_dir) as services:
        configured(services, name)
        with services.database.tx() as tx:
            store.resume(tx, name, clock.now())
    click.echo(f"{name} is pushed to again")


@destination.command("check")
@click.argument("name")
@data_option
def destination_check(name: str, data_dir: Path | None) -> None:
    """Show what a destination will make of every field and tag, without changing anything.

    Exit code 1: something would be refused.
    """
    from adapters.errors import DeliveryError
    from connector.sync.contract import contract

    with services_at(data_dir) as services:
        config = configured(services, name)
        try:
            with closing(services.connect(config)) as adapter:
                told = contract(services.database, adapter, config, services.configuration())
        except DeliveryError as error:
            raise ConnectorError(f"{name} could not be checked: {error.message}") from error
    click.echo(f"{name}: {told.contacts} profiles")
    _tell_contract(told)
    sys.exit(1 if told.refused() else 0)


_FATES = {"exists": "exists", "created": "will be created", "refused": "REFUSED"}


def _tell_contract(told: "Contract") -> None:
    for kind, fits, counts in (
        ("field", told.forecast.fields, told.filled),
        ("tag", told.forecast.tags, told.tagged),
    ):
        for fit in fits:
            line = f"  {kind} {fit.name}: {_FATES[fit.fate]} ({fit.kind}), {counts[fit.name]} profiles"
            if told.cut[fit.name] and kind == "field":
                line += f", CUT to {fit.longest} bytes for {told.cut[fit.name]} of them"
            click.echo(f"{line}: {fit.message}" if fit.message else line)
    if told.forecast.slots is not None:
        needed, free = told.forecast.slots
        click.echo(f"  new fields: {needed} needed, room for {free}")
    for example in told.examples:
        shown = "; ".join(f"{name}={_without_addresses(value)}" for name, value in example.fields.items())
        click.echo(f"  profile {example.profile_id}: tags {', '.join(example.tags) or 'none'}; {shown or 'no fields'}")


def _without_addresses(value: object) -> str:
    """A value to show at a terminal: long texts shortened, and what looks like an e-mail address left out."""
    text = re.sub(r"\S+@\S+", "(address)", str(value)).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:60]}... ({len(str(value).encode())} bytes)"


@click.command()
@click.argument("name", metavar="DESTINATION")
@click.option("--sample", "size", type=click.IntRange(min=1), default=200, show_default=True, help="How many contacts.")
@click.option("--all", "everybody", is_flag=True, help="All contacts instead of a sample.")
@click.option("--seed", type=int, help="The same seed takes the same sample. Default: another one every day.")
@click.option("--repair", is_flag=True, help="Push again whoever differs.")
@data_option
def verify(name: str, size: int, everybody: bool, seed: int | None, repair: bool, data_dir: Path | None) -> None:
    """Read back what a destination holds and show where it differs from what was pushed.

    Exit code 1: something differs and was not repaired.
    """
    from adapters.errors import DeliveryError
    from connector.sync.verify import verify as read_back

    now = clock.now()
    with services_at(data_dir) as services:
        config = configured(services, name)
        try:
            with closing(services.connect(config)) as adapter:
                found = read_back(
                    services.database,
                    adapter,
                    config,
                    services.configuration().segments,
                    size=None if everybody else size,
                    seed=now // clock.DAY if seed is None else seed,
                    repair=repair,
                    now=now,
                )
        except DeliveryError as error:
            raise ConnectorError(f"{name} could not be read back: {error.message}") from error
    click.echo(f"{name}: {found.checked} of {found.contacts} contacts read back, {found.drifted} differ")
    _tell_drift(found, repair=repair)
    sys.exit(1 if found.drifted > found.repaired else 0)


_SHOWN = 5  # profiles named for each difference


def _tell_drift(found: "Verification", *, repair: bool) -> None:
    """What differs, the most frequent first, by profile and never by address."""
    for difference, people in sorted(found.profiles.items(), key=lambda item: (-len(item[1]), item[0])):
        more = ", ..." if len(people) > _SHOWN else ""
        click.echo(f"  {difference}: {len(people)} (profiles {', '.join(map(str, people[:_SHOWN]))}{more})")
    if found.left:
        few = ", ".join(map(str, found.left[:_SHOWN])) + (", ..." if len(found.left) > _SHOWN else "")
        click.echo(
            f"{len(found.left)} left to you, merged there with the contact of another profile or without an address "
            f"(profiles {few})"
        )
    if repair:
        click.echo(f"{found.repaired} will be put right by the next push")
    elif found.drifted > len(found.left):
        click.echo("Run it with --repair to have them put right")
