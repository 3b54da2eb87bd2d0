"""`destination`: the accounts that are kept equal to the decision."""

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
_BEYOND = {"cut": "CUT to", "left_out": "LEFT OUT beyond"}


def _tell_contract(told: "Contract") -> None:
    for kind, fits, counts in (
        ("field", told.forecast.fields, told.filled),
        ("tag", told.forecast.tags, told.tagged),
    ):
        for fit in fits:
            line = f"  {kind} {fit.name}: {_FATES[fit.fate]} ({fit.kind}), {counts[fit.name]} profiles"
            if told.cut[fit.name] and kind == "field":
                line += f", {_BEYOND[fit.beyond]} {fit.longest} bytes for {told.cut[fit.name]} of them"
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
