"""`plan`, `apply` and `export`: the configuration as a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import data_option, file_option, read_file, services_at
from connector.errors import ConnectorError

if TYPE_CHECKING:
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


@click.command()
@file_option
@data_option
def apply(file: Path, data_dir: Path | None) -> None:
    """Make storecue.yaml the configuration in force. Running processes take it up within a second."""
    apply_file(data_dir, file)


def apply_file(data_dir: Path | None, file: Path) -> None:
    from connector.config import store
    from connector.config.plan import render

    wanted = read_file(file)
    with services_at(data_dir) as services:
        changes = store.apply(services.database, services.vault, wanted, clock.now())
        click.echo(render(changes))
        if changes:
            click.echo(f"Applied as version {services.configuration().version}.")
        warn_of_secrets(services, wanted)


def warn_of_secrets(services: "Services", configuration: "Configuration") -> None:
    """A line for each secret that cannot be read here: the configuration is right, this process's surroundings not."""
    from connector.config.sealing import secrets_of

    for place, secret in secrets_of(configuration):
        try:
            services.vault.resolve(secret)
        except ConnectorError as error:
            click.echo(f"storecue: warning: {place}: {error.message}", err=True)


@click.command()
@data_option
def export(data_dir: Path | None) -> None:
    """Print the configuration in force as a storecue.yaml."""
    from connector.config.export import to_yaml

    with services_at(data_dir) as services:
        click.echo(to_yaml(services.configuration()), nl=False)
