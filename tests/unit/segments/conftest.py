"""A database in memory with the real tables."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from connector.storage.tables import metadata


@pytest.fixture(scope="session")
def memory() -> Iterator[Connection]:
    """A connection that every test of this folder fills anew."""
    engine = create_engine("sqlite+pysqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
