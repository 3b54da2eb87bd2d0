"""`token` and `key`: who may call the API, and what secrets are encrypted with."""

from pathlib import Path

import click

from connector import clock
from connector.cli.commands import data_option, services_at


@click.group()
def token() -> None:
    """Tokens for the API."""


@token.command("create")
@click.argument("name")
@data_option
def token_create(name: str, data_dir: Path | None) -> None:
    """Make a token and print it, this once."""
    from connector.web.store import create_token

    with services_at(data_dir) as services, services.database.tx() as tx:
        click.echo(create_token(tx, name, clock.now()))


@token.command("list")
@data_option
def token_list(data_dir: Path | None) -> None:
    """Show the tokens there are, without their values."""
    from connector.web.store import list_tokens

    with services_at(data_dir) as services, services.database.read() as connection:
        for one in list_tokens(connection):
            state = "revoked" if one.revoked_at is not None else "valid"
            click.echo(f"{one.id}\t{one.name}\t{state}\tmade {clock.isoformat(one.created_at)}")


@token.command("revoke")
@click.argument("token_id", type=int)
@data_option
def token_revoke(token_id: int, data_dir: Path | None) -> None:
    """Make a token worthless."""
    from connector.web.store import revoke_token

    with services_at(data_dir) as services, services.database.tx() as tx:
        if not revoke_token(tx, token_id, clock.now()):
            raise click.ClickException(f"there is no valid token {token_id}")


@click.group()
def key() -> None:
    """The key that secrets are encrypted with."""


@key.command("new")
def key_new() -> None:
    """Print a new key, for STORECUE_SECRET_KEY."""
    from connector.config.secrets import new_key

    click.echo(new_key())


@key.command("rotate")
@data_option
def key_rotate(data_dir: Path | None) -> None:
    """Encrypt every kept secret with the newest key."""
    from connector.config import store

    with services_at(data_dir) as services:
        click.echo(f"{store.rotate(services.database, services.vault)} secrets encrypted with the newest key")
