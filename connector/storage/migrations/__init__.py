"""The schema brought up to date. A new database gets today's tables at once; an older one walks Alembic's versions.

The two tables of the log in SQL are none of Alembic's: whichever log it is makes its own (`EventLog.create`).
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from connector.errors import ConfigurationError
from connector.storage.database import Database
from connector.storage.functions import create_functions
from connector.storage.tables import metadata

HEAD = "0002"
"""The newest version in `versions/`. Known here so that an up-to-date start need not import Alembic (60 ms, 20 MB)."""


def known() -> list[str]:
    """Every version that this StoreCue has, oldest first."""
    return sorted(path.name.partition("_")[0] for path in (Path(__file__).parent / "versions").glob("[0-9]*_*.py"))


def migrate(database: Database) -> None:
    """Bring the state's tables to HEAD, in one transaction; nothing is done when they are there already.

    Raises ConfigurationError for tables of a newer StoreCue, which are left as they are.
    """
    with database.read() as connection:
        if version_of(connection) == HEAD:
            return
    move(database, HEAD)


def move(database: Database, to: str) -> str | None:
    """Bring the state's tables to a version, forward or back, in one transaction; the version that they had before.

    Raises ConfigurationError for a version that this StoreCue does not have.
    """
    with database.tx() as tx:
        version = version_of(tx)
        for one in (version, to):
            if one is not None and one not in known():
                raise ConfigurationError(_unknown(one, made=one == version))
        if version is None and to == HEAD:
            metadata.create_all(tx)
            stamp(tx)
        else:
            (downgrade if version is not None and to < version else upgrade)(tx, to)
        create_functions(tx)
    return version


def _unknown(version: str, *, made: bool) -> str:
    if not made:
        return f"there is no version {version} of the tables; this StoreCue has {', '.join(known())}"
    return (
        f"this database was made by a newer StoreCue: its tables are of version {version}, and this one knows {HEAD} "
        f"at most; install the newer one again, or go back with it: `storecue db migrate --to {HEAD}`"
    )


def stamp(tx: Connection) -> None:
    """Note that the tables, which were just made, are those of HEAD."""
    tx.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    tx.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def upgrade(connection: Connection, to: str = HEAD) -> None:
    """Walk Alembic's versions up to one on this connection."""
    _walk("upgrade", connection, to)


def downgrade(connection: Connection, to: str) -> None:
    """The same down."""
    _walk("downgrade", connection, to)


def _walk(way: str, connection: Connection, to: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    getattr(command, way)(config, to)


def version_of(connection: Connection) -> str | None:
    """The version of the tables that are there, None for none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return row[0] if row else None
