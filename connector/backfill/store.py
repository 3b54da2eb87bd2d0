"""How far each backfill and each comparison has come, in the database."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from connector.clock import Millis
from connector.storage.phrases import upsert
from connector.storage.tables import backfill, entity, reconciliation, shop_order

Row = dict[str, Any]

ENDED = ("done", "failed", "cancelled")


def ask(tx: Connection, source: str, kinds: Collection[str], since: Millis | None, now: Millis) -> list[str]:
    """The kinds that are wanted from now on; those that are under way already are left to go on."""
    here = (backfill.c.source == source, backfill.c.kind.in_(sorted(kinds)))
    tx.execute(delete(backfill).where(*here, backfill.c.state.in_(ENDED)))
    running = set(tx.execute(select(backfill.c.kind).where(*here)).scalars())
    wanted = [kind for kind in kinds if kind not in running]
    rows = [
        {"source": source, "kind": kind, "since": since, "state": "wanted", "due_at": now, "started_at": now}
        for kind in wanted
    ]
    if rows:
        tx.execute(insert(backfill), rows)
    return wanted


def cancel(tx: Connection, source: str, now: Millis) -> int:
    """The number of kinds that are not fetched any further. The worker stops what runs at the source."""
    stopped = update(backfill).where(backfill.c.source == source, backfill.c.state.not_in((*ENDED, "cancelling")))
    return tx.execute(stopped.values(state="cancelling", due_at=now)).rowcount


def all_of(connection: Connection, source: str | None = None) -> list[Row]:
    """Every backfill, of one source or all, as it stands."""
    query = select(backfill).order_by(backfill.c.source, backfill.c.started_at)
    if source is not None:
        query = query.where(backfill.c.source == source)
    return [dict(row) for row in connection.execute(query).mappings()]


def due(connection: Connection, now: Millis) -> list[Row]:
    """What is to be worked on, the longest waiting first."""
    query = select(backfill).where(backfill.c.state.not_in(ENDED), backfill.c.due_at <= now).order_by(backfill.c.due_at)
    return [dict(row) for row in connection.execute(query).mappings()]


def move(tx: Connection, row: Row, **values: Any) -> bool:
    """Write down how far it has come; False when somebody has cancelled it or asked anew meanwhile."""
    here = (
        backfill.c.source == row["source"],
        backfill.c.kind == row["kind"],
        backfill.c.state == row["state"],
        backfill.c.started_at == row["started_at"],
    )
    return tx.execute(update(backfill).where(*here).values(**values)).rowcount == 1


# --- the comparison ---------------------------------------------------------------------------------------------------


def compared(connection: Connection, source: str) -> dict[str, Row]:
    """Kind -> how far it has been compared."""
    rows = connection.execute(select(reconciliation).where(reconciliation.c.source == source)).mappings()
    return {row["kind"]: dict(row) for row in rows}


def note(tx: Connection, source: str, kind: str, **values: Any) -> None:
    """Write down how far a kind has been compared."""
    row = upsert(reconciliation).values(source=source, kind=kind, **{"until": 0, "at": 0, **values})
    tx.execute(row.on_conflict_do_update(index_elements=["source", "kind"], set_=values))


_ENTITIES = {"products": "product"}
COMPARABLE = frozenset({"orders", *_ENTITIES})
"""The kinds of which it can be said that a version is missing here."""


def versions(connection: Connection, source: str, kind: str, ids: Sequence[str]) -> dict[str, Millis]:
    """Id -> the version that is here, of orders and products. Customers have none to compare: their tags and consent
    come by streams of their own, which may be missing where the rest has come."""
    if kind == "orders":
        query = select(shop_order.c.id, shop_order.c.updated_at)
        query = query.where(shop_order.c.source == source, shop_order.c.id.in_(ids))
    elif kind in _ENTITIES:
        query = select(entity.c.id, entity.c.updated_at)
        query = query.where(entity.c.source == source, entity.c.kind == _ENTITIES[kind], entity.c.id.in_(ids))
    else:
        return {}
    return {id_: at for id_, at in connection.execute(query)}


def orders_placed(connection: Connection, source: str, first: Millis, last: Millis) -> int:
    """How many orders are here that were placed in [first, last), without those that were deleted."""
    here = (shop_order.c.source == source, shop_order.c.placed_at >= first, shop_order.c.placed_at < last)
    return int(connection.execute(select(func.count()).where(*here, shop_order.c.data != "{}")).scalar_one())
