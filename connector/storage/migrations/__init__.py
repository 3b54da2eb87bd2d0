"""The schema brought up to date. A new database gets today's tables at once; an older one walks Alembic's versions."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from connector.storage.database import Database
from connector.storage.functions import create_functions
from connector.storage.tables import metadata

HEAD = "0001"
"""The newest version in `versions/`. Known here so that an up-to-date start need not import Alembic (60 ms, 20 MB)."""


def migrate(database: Database) -> None:
    """Bring the state's tables to HEAD, in one transaction; nothing is done when they are there already."""
    with database.read() as connection:
        if version_of(connection) == HEAD:
            return
    with database.tx() as tx:
        if (version := version_of(tx)) == HEAD:
            return
        if version is None:
            metadata.create_all(tx)
            create_functions(tx)
            stamp(tx)
        else:
            upgrade(tx)


def stamp(tx: Connection) -> None:
    """Note that the tables, which were just made, are those of HEAD."""
    tx.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    tx.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Walk Alembic's versions up to `revision` on this connection."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def version_of(connection: Connection) -> str | None:
    """The version of the tables that are there, None for none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return row[0] if row else None
