"""Bodies that are larger than a record may be: they wait in the state's database, and the record names them."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, insert, select

from connector.clock import Millis
from connector.storage.tables import claim


def keep(tx: Connection, bodies: Sequence[tuple[str, bytes]], now: Millis) -> None:
    """Keep (id, packed body), before their records are sent."""
    tx.execute(insert(claim), [{"id": id_, "at": now, "body": body} for id_, body in bodies])


def bodies(connection: Connection, ids: Iterable[str]) -> dict[str, bytes]:
    """Id -> packed body, of those that are there."""
    query = select(claim.c.id, claim.c.body).where(claim.c.id.in_(sorted(ids)))
    return {id_: body for id_, body in connection.execute(query)}


def drop(tx: Connection, ids: Iterable[str]) -> None:
    """Forget what was worked off."""
    tx.execute(delete(claim).where(claim.c.id.in_(sorted(ids))))


def drop_orphans(tx: Connection, before: Millis) -> int:
    """The number of bodies forgotten whose record never came into being; `before`: no older record waits."""
    return tx.execute(delete(claim).where(claim.c.at < before)).rowcount
