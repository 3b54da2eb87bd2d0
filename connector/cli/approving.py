"""`destination plan`, `approve` and `new-account`: what waits to be pushed, shown and let go."""

import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from connector import clock
from connector.cli.commands import data_option, services_at
from connector.cli.destinations import configured
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from connector.sync.guard import Review
    from connector.sync.outlook import Coming, Kind, Outlook

_FIRST = 20  # contacts shown without --all

_KINDS: "dict[Kind, str]" = {
    "new": "new",
    "only_there": "only if they are there (create_contacts)",
    "changed": "changed",
    "same": "with nothing to send",
}


@click.command("plan")
@click.argument("name")
@click.option("--all", "everybody", is_flag=True, help=f"Every contact instead of the first {_FIRST}.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@data_option
def plan(name: str, everybody: bool, as_json: bool, data_dir: Path | None) -> None:
    """Show what the next pushes to a destination will do, without sending anything.

    Contacts are shown by profile id, never by address.
    """
    from connector.sync import guard
    from connector.sync.outlook import listed, outlook

    with services_at(data_dir) as services:
        config = configured(services, name)
        review = guard.Review() if config.dry_run else guard.review(services.database, name, clock.now())
        with services.database.read() as connection:
            numbers = outlook(connection, name)
            contacts = islice(listed(connection, name), None if everybody else _FIRST)
            if as_json:
                _print_json(name, numbers, review, contacts)
                return
            for line in _lines(name, numbers, review):
                click.echo(line)
            for one in contacts:
                click.echo(_line(one))
            if not everybody and numbers.contacts > _FIRST:
                click.echo(f"and {numbers.contacts - _FIRST:,} more: --all shows them")


def _print_json(name: str, numbers: "Outlook", review: "Review", contacts: "Iterable[Coming]") -> None:
    """One object, written piece by piece: with --all it may not fit into memory."""
    from connector.sync.outlook import as_json

    click.echo(orjson.dumps({"destination": name, **as_json(numbers, review)}).decode().removesuffix("}"), nl=False)
    click.echo(',"items":[', nl=False)
    for number, one in enumerate(contacts):
        click.echo(("," if number else "") + orjson.dumps(asdict(one)).decode(), nl=False)
    click.echo("]}")


def _lines(name: str, numbers: "Outlook", review: "Review") -> "Iterator[str]":
    from connector.sync.guard import words

    yield f"{name}: {numbers.contacts:,} contacts to push, {numbers.cues:,} cues wait for theirs"
    yield from (f"  {said}: {numbers.kinds[kind]:,}" for kind, said in _KINDS.items() if numbers.kinds[kind])
    if numbers.moved:
        yield f"  moved to another address: {numbers.moved:,}"
    for tag in sorted(numbers.tags_added.keys() | numbers.tags_removed.keys()):
        yield f"  tag {tag}: {numbers.tags_added[tag]:,} added, {numbers.tags_removed[tag]:,} removed"
    yield from (f"  field {field}: {count:,}" for field, count in sorted(numbers.fields.items()))
    if review.counting is not None:
        yield f"  held: {numbers.held:,}, until it is known how many there will be: {_progress(review.counting)}"
    elif review.hold is not None and numbers.held:
        yield f"  held: {numbers.held:,} ({words(name, review.hold)})"


def _line(one: "Coming") -> str:
    said = [*(f"+{tag}" for tag in one.tags_added), *(f"-{tag}" for tag in one.tags_removed)]
    said += [f"{field}={_short(value)}" for field, value in one.fields.items()]
    said += ["to another address"] if one.moved else []
    kind = _KINDS[one.kind].partition(" (")[0] + (", held" if one.held else "")
    return f"  profile {one.profile_id}: {kind}: {' '.join(said) or 'nothing but the contact itself'}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}... ({len(text.encode())} bytes)"


def _progress(counting: tuple[int, int]) -> str:
    done, of = counting
    if not of:
        return "a replay is being worked off"
    return f"the refill is at {100 * done // of} %"


@click.command("approve")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def approve(name: str, yes: bool, data_dir: Path | None) -> None:
    """Let go what is held at a destination because it changes too many contacts.

    What is decided later is judged anew. Exit code 1: you said no.
    """
    from connector.sync import guard

    with services_at(data_dir) as services:
        configured(services, name)
        review = guard.review(services.database, name, clock.now())
        if review.counting is not None:
            raise ConnectorError(
                f"it is not known yet how many contacts of {name} will change: {_progress(review.counting)}; "
                "try again when it is done (`storecue status --watch` follows it)"
            )
        if review.hold is None:
            click.echo(f"Nothing is held at {name}.")
            return
        click.echo(f"{name}: {guard.words(name, review.hold).partition('; ')[0]}")
        if not yes:
            if not _somebody_is_there():
                raise ConnectorError("nobody can be asked here: look at the numbers, then say --yes")
            if not click.confirm(f"Push {review.hold.changes:,} changes to {name}?"):
                click.echo("Nothing was approved; they stay held.")
                sys.exit(1)
        if not guard.approve(services.database, name, review.decision):
            raise ConnectorError("something else was decided meanwhile: run it again and look at the new numbers")
    click.echo(f"{review.hold.changes:,} changes are pushed to {name} now.")


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


@click.command("new-account")
@click.argument("name")
@data_option
def new_account(name: str, data_dir: Path | None) -> None:
    """Begin anew at the account that a destination's credentials open now, which is not the one it was pushed to.

    Everything is pushed again, once you have approved it. The former account is left as it is.
    """
    from connector.sync import store

    with services_at(data_dir) as services:
        configured(services, name)
        with services.database.tx() as tx:
            known = store.account_row(tx, name)
            if known is None or known["state"] != "misconfigured" or not known["account_id"]:
                raise ConnectorError(f"{name} has not met another account: there is nothing to begin anew")
            store.start_new_account(tx, name, clock.now())
    click.echo(f"{name} begins anew: `storecue destination plan {name}` shows what will be pushed there")
