"""What every command shares: where the data lies, the settings, refusals as one clear line."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.errors import ConnectorError

if TYPE_CHECKING:
    from connector.config.settings import Settings
    from connector.domain import Configuration
    from connector.services import Services


class Commands(click.Group):
    """A group whose refusals are one clear line and exit code 2, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConnectorError as error:
            click.echo(f"storecue: {error.message}", err=True)
            sys.exit(2)


def data_option(command: Callable[..., None]) -> Callable[..., None]:
    help_ = "Where StoreCue keeps its data. Default: STORECUE_DATA, or ./storecue-data."
    return click.option("--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), help=help_)(command)


def file_option(command: Callable[..., None]) -> Callable[..., None]:
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option("--config", "file", type=kind, default="storecue.yaml", show_default=True)(command)


def approved_option(command: Callable[..., None]) -> Callable[..., None]:
    help_ = "Approve what this configuration changes at the destinations, however much it is."
    return click.option("--yes", "approved", is_flag=True, help=help_)(command)


def settings_of(**overrides: Any) -> "Settings":
    """This process's settings, with its logging set up."""
    from connector.config.settings import Settings
    from connector.logs import configure

    settings = Settings.from_environment(**overrides)
    secrets = (settings.api_token or "", *settings.secret_keys)
    configure(settings.log_level, settings.log_format, secrets=secrets)
    return settings


@contextmanager
def services_at(data_dir: Path | None) -> Iterator["Services"]:
    from sqlalchemy.exc import DBAPIError

    from connector.services import Services

    services = Services(settings_of(data_dir=data_dir))
    try:
        yield services
    except DBAPIError as error:  # a full disk, say: nothing was changed, and the machine's owner must act
        raise ConnectorError(f"the database failed: {error.orig}; `storecue doctor` says what to do") from error
    finally:
        services.close()


def read_file(file: Path) -> "Configuration":
    from connector.config.schema import configuration_from
    from connector.config.yaml_file import read

    return configuration_from(read(file))
