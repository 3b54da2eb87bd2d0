"""`source snippet`, `pixel` and `template`: what to paste into the shop or into a sender, so that it tells."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector.cli.commands import data_option, services_at
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.domain import SourceConfig
    from connector.services import Services


@click.command("snippet")
@click.argument("name")
@data_option
def source_snippet(name: str, data_dir: Path | None) -> None:
    """Print the HTML to paste into every page of the shop."""
    from connector.web.snippet import tag

    with services_at(data_dir) as services:
        click.echo(tag(_source(services, name), services.settings.public_url), nl=False)


@click.command("pixel")
@click.argument("name")
@data_option
def source_pixel(name: str, data_dir: Path | None) -> None:
    """Print the code to paste as a custom pixel, under Settings > Customer events."""
    from connector.web.snippet import pixel

    with services_at(data_dir) as services:
        click.echo(pixel(_source(services, name), services.settings.public_url), nl=False)


@click.command("template")
@click.argument("name")
@data_option
def source_template(name: str, data_dir: Path | None) -> None:
    """Print what to paste at a sender that has to be told: address, headers, body."""
    from connector.ports import Pasted

    with services_at(data_dir) as services:
        config = _source(services, name)
        kind, secrets = services.sources()[name]
        if not isinstance(kind, Pasted):
            raise ConnectorError(f"a source of kind {config.kind} needs no template; see docs/configuration.md")
        if not secrets:
            raise ConnectorError(f"the secrets of {name} cannot be read here; set what storecue.yaml names, and repeat")
        click.echo(kind.paste(f"{services.settings.public_url}/webhooks/{config.kind}/{name}", secrets))


def _source(services: "Services", name: str) -> "SourceConfig":
    sources = services.configuration().sources
    if name not in sources:
        raise ConnectorError(f"there is no source {name!r} (configured: {', '.join(sorted(sources)) or 'none'})")
    return sources[name]
