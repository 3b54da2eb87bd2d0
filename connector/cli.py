"""The command `storecue`. Each command imports what it needs when it runs, so that `--help` is quick."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector import clock
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.config.settings import Settings
    from connector.domain import Configuration, DestinationConfig
    from connector.services import Services
    from connector.sync.contract import Contract
    from connector.sync.verify import Verification


class Commands(click.Group):
    """A group whose refusals are one clear line and exit code 2, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConnectorError as error:
            click.echo(f"storecue: {error.message}", err=True)
            sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="storecue")
def main() -> None:
    """StoreCue turns what happens in a shop into cues for the e-mail platform."""


def _data(command: Callable[..., None]) -> Callable[..., None]:
    help_ = "Where StoreCue keeps its data. Default: STORECUE_DATA, or ./storecue-data."
    return click.option("--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), help=help_)(command)


def _file(command: Callable[..., None]) -> Callable[..., None]:
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option("--config", "file", type=kind, default="storecue.yaml", show_default=True)(command)


def _settings(**overrides: Any) -> "Settings":
    """This process's settings, with its logging set up."""
    from connector.config.settings import Settings
    from connector.logs import configure

    settings = Settings.from_environment(**overrides)
    secrets = (settings.api_token or "", *settings.secret_keys)
    configure(settings.log_level, settings.log_format, secrets=secrets)
    return settings


@contextmanager
def _services(data_dir: Path | None) -> Iterator["Services"]:
    from sqlalchemy.exc import DBAPIError

    from connector.services import Services

    services = Services(_settings(data_dir=data_dir))
    try:
        yield services
    except DBAPIError as error:  # a full disk, say: nothing was changed, and the machine's owner must act
        raise ConnectorError(f"the database failed: {error.orig}; `storecue doctor` says what to do") from error
    finally:
        services.close()


def _read(file: Path) -> "Configuration":
    from connector.config.schema import configuration_from
    from connector.config.yaml_file import read

    return configuration_from(read(file))


# --- running ---------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Applied first.")
@_data
@click.option("--host", help="Default: STORECUE_HOST, or 127.0.0.1.")
@click.option("--port", type=int, help="Default: STORECUE_PORT, or 8080.")
def up(file: Path | None, data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Apply the configuration if one is given, then run web server and worker together."""
    from connector import serve

    serve.up(lambda: _prepare(data_dir, host, port, file))


def _prepare(data_dir: Path | None, host: str | None, port: int | None, file: Path | None) -> "Settings":
    """The settings, once the databases and the key are made, before two processes reach for them, and the file is
    applied."""
    try:
        if file is not None:
            _apply(data_dir, file)
        else:
            with _services(data_dir) as services:
                _warn_of_secrets(services, services.configuration())
        return _settings(data_dir=data_dir, host=host, port=port)
    except ConnectorError as error:
        click.echo(f"storecue: {error.message}", err=True)
        sys.exit(2)


@main.command()
@_data
@click.option("--host")
@click.option("--port", type=int)
def web(data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Run the web server alone."""
    from connector import serve

    serve.web_alone(lambda: _prepare(data_dir, host, port, None))


@main.command()
@_data
def worker(data_dir: Path | None) -> None:
    """Run a worker alone."""
    from connector import serve

    serve.worker(_settings(data_dir=data_dir))


@main.command()
@click.option("--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), default="demo-data")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed makes the same shop.")
@click.option("--for", "duration", help="How long, such as 30s or 5m. Default: until Ctrl-C.")
@click.option("--rate", type=float, default=20.0, show_default=True, help="Deliveries per second.")
@click.option("--headless", is_flag=True, help="Without the live view.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON summary at the end.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Keep the last screen as an SVG.")
def demo(
    data_dir: Path,
    seed: int,
    duration: str | None,
    rate: float,
    headless: bool,
    as_json: bool,
    picture: Path | None,
) -> None:
    """A simulated shop and three fake e-mail platforms on this machine, with StoreCue in between."""
    from connector.simulator.demo import run_demo
    from connector.simulator.process import start_connector

    try:
        seconds = None if duration is None else clock.parse_duration(duration) / clock.SECOND
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    sys.exit(
        run_demo(
            data_dir=data_dir,
            seed=seed,
            duration_s=seconds,
            headless=headless,
            as_json=as_json,
            rate=rate,
            start_connector=start_connector,
            picture=picture,
        )
    )


# --- configuration ---------------------------------------------------------------------------------------------------


@main.command()
@_file
@_data
def plan(file: Path, data_dir: Path | None) -> None:
    """Show what `apply` would change."""
    from connector.config import store
    from connector.config.plan import render

    wanted = _read(file)
    with _services(data_dir) as services:
        click.echo(render(store.plan(services.database, services.vault, wanted)))
        _warn_of_secrets(services, wanted)


@main.command()
@_file
@_data
def apply(file: Path, data_dir: Path | None) -> None:
    """Make storecue.yaml the configuration in force. Running processes take it up within a second."""
    _apply(data_dir, file)


def _apply(data_dir: Path | None, file: Path) -> None:
    from connector.config import store
    from connector.config.plan import render

    wanted = _read(file)
    with _services(data_dir) as services:
        changes = store.apply(services.database, services.vault, wanted, clock.now())
        click.echo(render(changes))
        if changes:
            click.echo(f"Applied as version {services.configuration().version}.")
        _warn_of_secrets(services, wanted)


def _warn_of_secrets(services: "Services", configuration: "Configuration") -> None:
    """A line for each secret that cannot be read here: the configuration is right, this process's surroundings not."""
    from connector.config.sealing import secrets_of

    for place, secret in secrets_of(configuration):
        try:
            services.vault.resolve(secret)
        except ConnectorError as error:
            click.echo(f"storecue: warning: {place}: {error.message}", err=True)


@main.command()
@_data
def export(data_dir: Path | None) -> None:
    """Print the configuration in force as a storecue.yaml."""
    from connector.config.export import to_yaml

    with _services(data_dir) as services:
        click.echo(to_yaml(services.configuration()), nl=False)


@main.command()
@click.option("--watch", is_flag=True, help="Stay, and follow the refills until they are done.")
@_data
def status(watch: bool, data_dir: Path | None) -> None:
    """Show what waits, which segments are being refilled, and how the destinations stand."""
    from connector import progress
    from connector.reporting.status import status as read

    with _services(data_dir) as services:

        def look() -> dict[str, Any]:
            names = list(services.configuration().destinations)
            with services.database.read() as state, services.inbox.read() as inbox:
                return read(state, inbox, names, clock.now())

        click.echo(progress.lines(look()))
        progress.refills(look, stay=watch)


@main.command()
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_data
def doctor(file: Path | None, data_dir: Path | None) -> None:
    """Check configuration, clock, database, reachability and credentials; each fault with its fix."""
    from connector.doctor import checks

    failed = False
    for check in checks(_settings(data_dir=data_dir), file=file, now=clock.now()):
        mark = click.style("ok", fg="green") if check.ok else click.style("FIX", fg="red")
        click.echo(f"{mark:>4} {check.name}: {check.message}")
        if not check.ok:
            failed = True
            click.echo(f"       {check.fix}")
    sys.exit(1 if failed else 0)


# --- destinations ----------------------------------------------------------------------------------------------------


def _destination(services: "Services", name: str) -> "DestinationConfig":
    configured = services.configuration().destinations
    if name not in configured:
        known = ", ".join(sorted(configured)) or "there are none"
        raise ConnectorError(f"there is no destination {name!r} (configured: {known})")
    return configured[name]


@main.group()
def destination() -> None:
    """The accounts that are kept equal to the decision."""


@destination.command("pause")
@click.argument("name")
@_data
def destination_pause(name: str, data_dir: Path | None) -> None:
    """Stop pushing to a destination. Decisions go on; what it should show waits."""
    from connector.sync import store

    with _services(data_dir) as services:
        _destination(services, name)
        with services.database.tx() as tx:
            store.pause(tx, name, clock.now(), "paused on the command line")
    click.echo(f"{name} is paused: what it should show waits until `storecue destination resume {name}`")


@destination.command("resume")
@click.argument("name")
@_data
def destination_resume(name: str, data_dir: Path | None) -> None:
    """Push to a destination again, after a pause or once its credentials are mended."""
    from connector.sync import store

    with _services(data_dir) as services:
        _destination(services, name)
        with services.database.tx() as tx:
            store.resume(tx, name, clock.now())
    click.echo(f"{name} is pushed to again")


@destination.command("check")
@click.argument("name")
@_data
def destination_check(name: str, data_dir: Path | None) -> None:
    """Show what a destination will make of every field and tag, without changing anything.

    Exit code 1: something would be refused.
    """
    from adapters.errors import DeliveryError
    from connector.sync.contract import contract

    with _services(data_dir) as services:
        config = _destination(services, name)
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


@main.command()
@click.argument("name", metavar="DESTINATION")
@click.option("--sample", "size", type=click.IntRange(min=1), default=200, show_default=True, help="How many contacts.")
@click.option("--all", "everybody", is_flag=True, help="All contacts instead of a sample.")
@click.option("--seed", type=int, help="The same seed takes the same sample. Default: another one every day.")
@click.option("--repair", is_flag=True, help="Push again whoever differs.")
@_data
def verify(name: str, size: int, everybody: bool, seed: int | None, repair: bool, data_dir: Path | None) -> None:
    """Read back what a destination holds and show where it differs from what was pushed.

    Exit code 1: something differs and was not repaired.
    """
    from adapters.errors import DeliveryError
    from connector.sync.verify import verify as read_back

    now = clock.now()
    with _services(data_dir) as services:
        config = _destination(services, name)
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


# --- keys and tokens -------------------------------------------------------------------------------------------------


@main.group()
def token() -> None:
    """Tokens for the API."""


@token.command("create")
@click.argument("name")
@_data
def token_create(name: str, data_dir: Path | None) -> None:
    """Make a token and print it, this once."""
    from connector.web.store import create_token

    with _services(data_dir) as services, services.database.tx() as tx:
        click.echo(create_token(tx, name, clock.now()))


@token.command("list")
@_data
def token_list(data_dir: Path | None) -> None:
    """Show the tokens there are, without their values."""
    from connector.web.store import list_tokens

    with _services(data_dir) as services, services.database.read() as connection:
        for one in list_tokens(connection):
            state = "revoked" if one.revoked_at is not None else "valid"
            click.echo(f"{one.id}\t{one.name}\t{state}\tmade {clock.isoformat(one.created_at)}")


@token.command("revoke")
@click.argument("token_id", type=int)
@_data
def token_revoke(token_id: int, data_dir: Path | None) -> None:
    """Make a token worthless."""
    from connector.web.store import revoke_token

    with _services(data_dir) as services, services.database.tx() as tx:
        if not revoke_token(tx, token_id, clock.now()):
            raise click.ClickException(f"there is no valid token {token_id}")


@main.group()
def key() -> None:
    """The key that secrets are encrypted with."""


@key.command("new")
def key_new() -> None:
    """Print a new key, for STORECUE_SECRET_KEY."""
    from connector.config.secrets import new_key

    click.echo(new_key())


@key.command("rotate")
@_data
def key_rotate(data_dir: Path | None) -> None:
    """Encrypt every kept secret with the newest key."""
    from connector.config import store

    with _services(data_dir) as services:
        click.echo(f"{store.rotate(services.database, services.vault)} secrets encrypted with the newest key")


# --- what went wrong, and once more ----------------------------------------------------------------------------------


@main.command("dead-letters")
@click.option("--reason")
@click.option("--origin", help="A source or destination.")
@click.option("--replay", "again", is_flag=True, help="Put those listed in line again.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@_data
def dead_letters(reason: str | None, origin: str | None, again: bool, limit: int, data_dir: Path | None) -> None:
    """List what could not be processed or was rejected for good."""
    from connector.reporting import dead_letters as letters

    with _services(data_dir) as services:
        with services.database.read() as connection:
            wanted = letters.Filter(state="open", reason=reason, origin=origin)
            page = letters.dead_letters(connection, wanted, None, limit)
        for row in page.items:
            click.echo(
                f"{row['id']}\t{clock.isoformat(row['at'])}\t{row['kind']}\t{row['origin']}\t{row['topic']}\t"
                f"{row['reference']}\t{row['reason']}\t{row['message']}"
            )
        if again:
            count = services.replay_dead_letters([row["id"] for row in page.items], now=clock.now())
            click.echo(f"{count} put in line again")
        elif not page.items:
            click.echo("There are none.")


@main.command()
@click.option("--source")
@click.option("--topic")
@click.option("--since", help="An instant such as 2026-11-21 or 2026-11-21T10:00:00Z.")
@click.option("--until", help="An instant.")
@click.option("--fire-triggers", is_flag=True, help="Let flows start for what changes.")
@_data
def replay(
    source: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    fire_triggers: bool,
    data_dir: Path | None,
) -> None:
    """Run stored deliveries through the line again."""
    with _services(data_dir) as services:
        count = services.replay_deliveries(
            source=source,
            topic=topic,
            since=_instant(since, "--since"),
            until=_instant(until, "--until"),
            fire_triggers=fire_triggers,
            now=clock.now(),
        )
    click.echo(f"{count} deliveries put in line again")


def _instant(text: str | None, option: str) -> clock.Millis | None:
    try:
        return None if text is None else clock.parse_instant(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an instant such as 2026-11-21T10:00:00Z", param_hint=option
        ) from None
