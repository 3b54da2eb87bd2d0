"""`source try`: what a sample would mean; nothing is written."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from connector import clock
from connector.cli.commands import file_option, read_file
from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from connector.domain import RawRequest


@click.command("try")
@click.argument("name")
@click.argument("sample", type=click.File("rb"), metavar="FILE|-")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request.")
@click.option("--query", default="", help="What follows the ? of the address.")
@file_option
def source_try(name: str, sample: BinaryIO, headers: tuple[str, ...], query: str, file: Path) -> None:
    """Show what the request in FILE (- for what is piped in) would mean to the source NAME of storecue.yaml.

    Nothing is kept or sent, and no signature is looked at. Exit code 1: something in it would be refused.
    """
    from connector.sources import SOURCES, configured
    from connector.sources.trial import try_out

    configuration = read_file(file)
    config = configuration.sources.get(name)
    if config is None:
        known = ", ".join(sorted(configuration.sources)) or "none"
        raise ConfigurationError(f"there is no source {name!r} in {file} (there: {known})")
    request = _request(config.kind, name, sample.read(), headers, query)
    found = try_out(configured(SOURCES[config.kind], config.options), name, request, configuration.store)
    click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    sys.exit(1 if any("refused" in entry for entry in found) else 0)


def _request(kind: str, name: str, body: bytes, headers: tuple[str, ...], query: str) -> "RawRequest":
    from connector.domain import RawRequest

    stated = {}
    for header in headers:
        key, colon, value = header.partition(":")
        if not colon:
            raise click.BadParameter(f"{header!r} is no header; write it as 'X-Topic: order.created'")
        stated[key.strip().lower()] = value.strip()
    return RawRequest("POST", f"/webhooks/{kind}/{name}", stated, body, query, clock.now())
