"""The shared counters, read back: what was counted, how often and when last."""

from sqlalchemy import Connection, select

from connector.clock import Millis
from connector.storage.tables import counter


def counts(connection: Connection, *names: str) -> dict[tuple[str, str], tuple[int, Millis]]:
    """(name, label) -> (count, last counted at), of the counters with these names."""
    rows = connection.execute(
        select(counter.c.name, counter.c.label, counter.c.count, counter.c.last_at).where(counter.c.name.in_(names))
    )
    return {(name, label): (count, last_at) for name, label, count, last_at in rows}
