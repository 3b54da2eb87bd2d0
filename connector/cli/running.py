"""`up`, `web`, `worker` and `demo`: the processes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connector import clock
from connector.cli.commands import approved_option, data_option, services_at, settings_of
from connector.cli.configuration import apply_file, warn_of_secrets
from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.config.settings import Settings


@click.command()
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Applied first.")
@approved_option
@data_option
@click.option("--host", help="Default: STORECUE_HOST, or 127.0.0.1.")
@click.option("--port", type=int, help="Default: STORECUE_PORT, or 8080.")
def up(file: Path | None, approved: bool, data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Apply the configuration if one is given, then run web server and worker together."""
    from connector import serve

    serve.up(lambda: _prepare(data_dir, host, port, file, approved=approved))


def _prepare(
    data_dir: Path | None, host: str | None, port: int | None, file: Path | None, *, approved: bool = False
) -> "Settings":
    """The settings, once the databases and the key are made, before two processes reach for them, and the file is
    applied."""
    try:
        if file is not None:
            apply_file(data_dir, file, approved=approved)
        else:
            with services_at(data_dir) as services:
                warn_of_secrets(services, services.configuration())
        return settings_of(data_dir=data_dir, host=host, port=port)
    except ConnectorError as error:
        click.echo(f"storecue: {error.message}", err=True)
        sys.exit(2)


@click.command()
@data_option
@click.option("--host")
@click.option("--port", type=int)
def web(data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Run the web server alone."""
    from connector import serve

    serve.web_alone(lambda: _prepare(data_dir, host, port, None))


@click.command()
@click.option("--without-senders", is_flag=True, help="Leave vendors, sources and streams to `storecue push`.")
@data_option
def worker(without_senders: bool, data_dir: Path | None) -> None:
    """Run a worker alone."""
    from connector import serve

    serve.worker(settings_of(data_dir=data_dir), send=not without_senders)


@click.command()
@data_option
def push(data_dir: Path | None) -> None:
    """Run a process that only speaks to vendors, sources and streams, beside workers without senders."""
    from connector import serve

    serve.worker(settings_of(data_dir=data_dir), line=False)


@click.command()
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
