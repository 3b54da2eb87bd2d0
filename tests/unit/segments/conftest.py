"""A database with the real tables: SQLite's in memory, and PostgreSQL's."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from connector.storage.database import Database
from connector.storage.functions import create_functions
from connector.storage.tables import metadata


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def memory(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A connection that every test of this folder fills anew."""
    if request.param == "sqlite":
        engine = create_engine("sqlite+pysqlite://", poolclass=StaticPool)
    else:
        engine = Database(request.getfixturevalue("new_postgres")()).engine
    metadata.create_all(engine)
    with engine.connect() as connection:
        create_functions(connection)
        connection.commit()
        yield connection
        connection.rollback()
    engine.dispose()
