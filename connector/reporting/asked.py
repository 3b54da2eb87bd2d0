"""How the sources stand that have to be asked: what waits to be fetched, and which of them let us in no more."""

from sqlalchemy import Connection

from connector.fetch import store
from connector.reporting.pages import Row


def standings(connection: Connection) -> list[Row]:
    """{source, state, waiting, failing, message, stopped_since, asked_at} of each source with anything to tell."""
    found = store.standings(connection)
    return [{"source": source, "state": _state(row), **row} for source, row in sorted(found.items())]


def _state(row: Row) -> str:
    if row["stopped_since"] is not None:
        return "stopped"
    return "failing" if row["failing"] else "active"
