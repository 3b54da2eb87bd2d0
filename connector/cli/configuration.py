"""`plan`, `apply` and `export`: the configuration as a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import approved_option, data_option, file_option, read_file, services_at
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.config.plan import ConfigChange
    from connector.domain import Configuration
    from connector.services import Services


@click.command()
@file_option
@data_option
def plan(file: Path, data_dir: Path | None) -> None:
    """Show what `apply` would change."""
    from connector.config import store
    from connector.config.plan import render

    wanted = read_file(file)
    with services_at(data_dir) as services:
        click.echo(render(store.plan(services.database, services.vault, wanted)))
        warn_of_secrets(services, wanted)
        _warn_of_old_events(services, wanted)


@click.command()
@file_option
@approved_option
@data_option
def apply(file: Path, approved: bool, data_dir: Path | None) -> None:
    """Make storecue.yaml the configuration in force. Running processes take it up within a second."""
    apply_file(data_dir, file, approved=approved)


def apply_file(data_dir: Path | None, file: Path, *, approved: bool) -> None:
    from connector.config import store
    from connector.config.plan import render

    wanted = read_file(file)
    with services_at(data_dir) as services:
        changes = store.apply(services.database, services.vault, wanted, clock.now(), approved=approved)
        click.echo(render(changes))
        if changes:
            click.echo(f"Applied as version {services.configuration().version}.")
        if not approved:
            _foretell_holds(services, changes)
        warn_of_secrets(services, wanted)
        _warn_of_old_events(services, wanted)


def _foretell_holds(services: "Services", changes: "list[ConfigChange]") -> None:
    """A line when what new or changed destinations show will wait for an approval, or may."""
    from connector.sync.guard import PERCENT, SMALL
    from connector.sync.store import reachable

    touched = {change.name: change.action for change in changes if change.kind == "destination"}
    live = [name for name, one in services.configuration().destinations.items() if name in touched and not one.dry_run]
    if not live:
        return
    with services.database.read() as connection:
        people = reachable(connection)
    if people < SMALL:
        return
    new = all(touched[name] == "create" for name in live)
    what = f"a first push of {people:,} contacts" if new else f"a change to more than {PERCENT} % of the contacts"
    commands = " and ".join(f"`storecue destination approve {name}`" for name in live)
    click.echo(f"Held until you run {commands}: {what} (`storecue destination plan` shows it; --yes holds nothing).")


def warn_of_secrets(services: "Services", configuration: "Configuration") -> None:
    """A line for each secret that cannot be read here: the configuration is right, this process's surroundings not."""
    from connector.config.sealing import secrets_of

    for place, secret in secrets_of(configuration):
        try:
            services.vault.resolve(secret)
        except ConnectorError as error:
            click.echo(f"storecue: warning: {place}: {error.message}", err=True)


def _warn_of_old_events(services: "Services", configuration: "Configuration") -> None:
    """A line for each name of event of which a rule reads what is here no more."""
    from connector.old_events import MENDED_BY, lacking
    from connector.segments.evaluate import RuleSet

    rules = RuleSet(configuration.segments, configuration.store)
    with services.database.read() as connection:
        for line in lacking(connection, rules, clock.now()):
            click.echo(f"storecue: warning: {line}; {MENDED_BY}", err=True)


@click.command()
@data_option
def export(data_dir: Path | None) -> None:
    """Print the configuration in force as a storecue.yaml."""
    from connector.config.export import to_yaml

    with services_at(data_dir) as services:
        click.echo(to_yaml(services.configuration()), nl=False)
