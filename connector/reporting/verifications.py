"""What reading the destinations back came to: every night, and when somebody asked."""

import orjson
from sqlalchemy import Connection, RowMapping, func, select

from connector.reporting.pages import Row
from connector.storage.tables import verification


def verifications(connection: Connection, destination: str, limit: int) -> list[Row]:
    """The latest of a destination, newest first; those that still wait to be read are among them."""
    here = select(verification).where(verification.c.destination == destination)
    return [_told(row) for row in connection.execute(here.order_by(verification.c.id.desc()).limit(limit)).mappings()]


def verification_of(connection: Connection, id_: int) -> Row:
    """One of them."""
    return _told(connection.execute(select(verification).where(verification.c.id == id_)).mappings().one())


def latest(connection: Connection) -> dict[str, Row]:
    """Destination -> the one that was read last, or could not be."""
    ended = verification.c.state != "wanted"
    last = select(func.max(verification.c.id)).where(ended).group_by(verification.c.destination)
    rows = connection.execute(select(verification).where(verification.c.id.in_(last))).mappings()
    return {row["destination"]: _told(row) for row in rows}


def _told(row: RowMapping) -> Row:
    """A row with its differences as a list, the most frequent first."""
    differences = [{"difference": name, **counts} for name, counts in orjson.loads(row["differences"]).items()]
    return {
        **{name: row[name] for name in _SHOWN},
        "nightly": row["night"] is not None,
        "repair": bool(row["repair"]),
        "differences": sorted(differences, key=lambda one: (-one["count"], one["difference"])),
    }


_SHOWN = ("id", "destination", "state", "at", "sample", "contacts", "checked", "drifted", "repaired", "error")
