"""Everything that is kept of one person, as they may ask for it by law."""

import orjson
from sqlalchemy import Connection, RowMapping, Table, select

from connector.reporting import profiles, timeline
from connector.reporting.pages import Row
from connector.storage.tables import entity, refund, shop_order

_PAGE = 1_000


def export(connection: Connection, profile_id: int) -> Row | None:
    """{profile, orders, refunds, records, timeline}; None when there is no such profile. Instants are epoch
    milliseconds UTC, amounts of orders and refunds minor units of the shop's currency."""
    found = profiles.one(connection, profile_id)
    if found is None:
        return None
    person = found["id"]
    return {
        "profile": found,
        "orders": [_opened(row) for row in _rows(connection, shop_order, person)],
        "refunds": [dict(row) for row in connection.execute(_refunds(person)).mappings()],
        "records": [_opened(row) for row in _rows(connection, entity, person)],
        "timeline": _timeline(connection, person),
    }


def _rows(connection: Connection, table: Table, person: int) -> list[RowMapping]:
    return list(connection.execute(select(table).where(table.c.profile_id == person)).mappings())


def _refunds(person: int):  # type: ignore[no-untyped-def]  # the type of a select of all columns says nothing
    orders = (refund.c.source == shop_order.c.source) & (refund.c.order_id == shop_order.c.id)
    return select(refund).join(shop_order, orders).where(shop_order.c.profile_id == person)


def _opened(row: RowMapping) -> Row:
    return {**row, "data": orjson.loads(row["data"])}


def _timeline(connection: Connection, person: int) -> list[Row]:
    entries: list[Row] = []
    cursor = None
    while True:
        page = timeline.timeline(connection, person, cursor, _PAGE)
        entries += page.items
        cursor = page.next
        if cursor is None:
            return entries
