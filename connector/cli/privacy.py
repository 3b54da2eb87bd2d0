"""`privacy`: copies of what is known of a person, and their erasure, with a receipt for each."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from connector import clock
from connector.cli.commands import data_option, services_at

if TYPE_CHECKING:
    from connector.domain import PrivacyKind
    from connector.services import Services


@click.group()
def privacy() -> None:
    """What people may ask for by law: a copy of what is known of them, and to be erased."""


@privacy.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@data_option
def privacy_list(limit: int, data_dir: Path | None) -> None:
    """Show the requests, newest first, with what became of them here and at each destination."""
    from connector.privacy import store

    with services_at(data_dir) as services, services.database.read() as connection:
        found = store.requests(connection, limit=limit)
        for row in found:
            click.echo(_line(row))
            for receipt in row["receipts"]:
                words = f"  {receipt['destination']}: {receipt['contacts']} {receipt['state']}"
                click.echo(f"{words} at {clock.isoformat(receipt['at'])} {receipt['message']}".rstrip())
        if not found:
            click.echo("There are none.")


def _line(row: Any) -> str:
    parts = [
        str(row["id"]),
        row["kind"],
        row["source"],
        f"received {clock.isoformat(row['received_at'])}",
        row["state"],
    ]
    if row["state"] == "open" and row["kind"] == "erase_source":
        parts.append(f"runs {clock.isoformat(row['run_at'])}")
    if row["kind"] != "export":
        parts.append(f"{row['people']} people, {row['deliveries']} raw deliveries erased")
    return "\t".join(parts)


@privacy.command("export")
@click.argument("request_id", type=int)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: print it.")
@data_option
def privacy_export(request_id: int, out: Path | None, data_dir: Path | None) -> None:
    """Write all that is known of the person of a request, as JSON, and close the request."""
    from connector.privacy import store
    from connector.reporting.export import export

    with services_at(data_dir) as services:
        with services.database.read() as connection:
            asked = store.request(connection, request_id)
            if asked is None or asked["kind"] != "export":
                raise click.ClickException(f"there is no request {request_id} for a copy")
            found = None if asked["profile_id"] is None else export(connection, asked["profile_id"])
        if found is None:
            click.echo("Nothing is known of this person.", err=True)
        # SQLAlchemy's names of columns are a kind of str, and orjson is strict about keys.
        style = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
        text = orjson.dumps(found or {}, option=style)
        if out is None:
            click.echo(text, nl=False)
        else:
            out.touch(mode=0o600)
            out.write_bytes(text)
        with services.database.tx() as tx:
            store.close_request(tx, request_id, clock.now(), message="a copy was written")


@privacy.command("erase")
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def privacy_erase(email: str, yes: bool, data_dir: Path | None) -> None:
    """Erase the person who has this address, here and at every destination. There is no way back."""
    if not yes:
        click.confirm("Erase this person here and at every destination?", abort=True)
    from connector.privacy import store

    with services_at(data_dir) as services:
        id_ = _request(services, "erase", email)
        with services.database.read() as connection:
            made = store.request(connection, id_ or 0)
    here = "erased here" if made and made["people"] else "nobody here has this address, the destinations are told"
    click.echo(f"Request {id_}: {here}; `storecue privacy list` shows what the destinations say.")


@privacy.command("request-export")
@click.argument("email")
@data_option
def privacy_request_export(email: str, data_dir: Path | None) -> None:
    """Note that the person who has this address wants a copy."""
    with services_at(data_dir) as services:
        id_ = _request(services, "export", email)
    click.echo(f"Request {id_}: `storecue privacy export {id_}` writes the copy.")


def _request(services: "Services", kind: "PrivacyKind", email: str) -> int | None:
    from connector.domain import Identifier
    from connector.privacy.requests import request
    from connector.sources.contacts import read_email

    address = read_email(email)
    if address is None:
        raise click.BadParameter("is not an e-mail address", param_hint="EMAIL")
    now, destinations = clock.now(), services.configuration().destinations
    who = [Identifier("email", address)]
    with services.database.tx() as tx:
        return request(tx, kind, who, destinations, source="cli", reference=str(uuid.uuid4()), received_at=now, now=now)


@privacy.command("run")
@click.argument("request_id", type=int)
@data_option
def privacy_run(request_id: int, data_dir: Path | None) -> None:
    """Erase a source that has left now, without waiting for the rest of its seven days."""
    from connector.privacy import store

    with services_at(data_dir) as services, services.database.tx() as tx:
        if not store.run_now(tx, request_id, clock.now()):
            raise click.ClickException(f"there is no request {request_id} that waits")
    click.echo(f"Request {request_id} is under way")


@privacy.command("cancel")
@click.argument("request_id", type=int)
@data_option
def privacy_cancel(request_id: int, data_dir: Path | None) -> None:
    """Cancel the erasure of a source while it waits, because the shop has come back."""
    from connector.privacy import store

    with services_at(data_dir) as services, services.database.tx() as tx:
        if not store.cancel(tx, request_id, clock.now()):
            raise click.ClickException(f"there is no request {request_id} that waits")
    click.echo(f"Request {request_id} is cancelled")
