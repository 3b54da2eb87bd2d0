"""What a batch holds until it commits, so that batches beside each other decide about no person twice.

On SQLite there is one writer, and nothing needs holding. On PostgreSQL several workers write beside each other
(`Database.tx(beside=True)`), each a partition of the log. Mostly a person's deliveries are all in one of them; where
they are not (a device and a customer id, an order and its refund), whoever comes second waits here until the first has
committed, and then sees what it has done. Rows are always taken in one order: orders, identifiers, people, contacts,
and each by their keys. Where two wait for each other all the same, PostgreSQL ends one of them, and its batch is taken
again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, text

from connector.domain import Identifier
from connector.storage.phrases import any_listed

# An order that is not known yet has no row to wait for. The row that stands in for it is older than any version, counts
# for nothing and belongs to nobody.
_STAND_IN = text(
    "INSERT INTO shop_order (source, id, updated_at, placed_at, total, counts, data)"
    " SELECT source, id, -1, 0, 0, 0, '{}'"
    " FROM json_to_recordset(CAST(:orders AS json)) AS o (source text, id text)"
    " ORDER BY source, id ON CONFLICT DO NOTHING"
)
_ORDERS = text(
    "SELECT 1 FROM shop_order JOIN json_to_recordset(CAST(:orders AS json)) AS o (source text, id text)"
    " USING (source, id) ORDER BY source, id FOR UPDATE OF shop_order"
)
_IDENTIFIERS = text(
    "SELECT 1 FROM identifier JOIN json_to_recordset(CAST(:identifiers AS json)) AS i (kind text, value text)"
    " USING (kind, value) ORDER BY kind, value FOR UPDATE OF identifier"
)
_PEOPLE = text(
    f"SELECT id FROM profile WHERE id = {any_listed(':ids')} ORDER BY id FOR UPDATE"  # noqa: S608  (one parameter)
)
_FREE = text(f"{_PEOPLE.text} SKIP LOCKED")
_CONTACTS = text(
    f"SELECT 1 FROM sync_state WHERE profile_id = {any_listed(':ids')}"  # noqa: S608  (one parameter)
    " ORDER BY destination, profile_id FOR UPDATE"
)
_IDS = text("SELECT nextval('profile_id_seq') FROM generate_series(1, :count)")


def are_needed(tx: Connection) -> bool:
    """False where whoever writes is alone in any case."""
    return tx.dialect.name != "sqlite"


def orders(tx: Connection, wanted: Collection[tuple[str, str]]) -> None:
    """Hold these orders (source, id), known or not."""
    if wanted and are_needed(tx):
        told = {"orders": _json([{"source": source, "id": id_} for source, id_ in wanted])}
        tx.execute(_STAND_IN, told)
        tx.execute(_ORDERS, told)


def identifiers(tx: Connection, wanted: Collection[Identifier]) -> None:
    """Hold those of these identifiers that are known. Of one that is not, `store.tie` notices that it was faster."""
    if wanted and are_needed(tx):
        told = [{"kind": one.kind, "value": one.value} for one in wanted]
        tx.execute(_IDENTIFIERS, {"identifiers": _json(told)})


def people(tx: Connection, wanted: Iterable[int]) -> None:
    """Hold these people."""
    if are_needed(tx) and (ids := list(wanted)):
        tx.execute(_PEOPLE, {"ids": _json(ids)})


def free_people(tx: Connection, wanted: Iterable[int]) -> list[int]:
    """Those of these people whom nobody holds, held."""
    ids = list(wanted)
    return list(tx.execute(_FREE, {"ids": _json(ids)}).scalars()) if are_needed(tx) else ids


def contacts(tx: Connection, of: Iterable[int]) -> None:
    """Hold the contacts of these people: a sender may be about to write down that the vendor has one."""
    if are_needed(tx) and (ids := list(of)):
        tx.execute(_CONTACTS, {"ids": _json(ids)})


def new_ids(tx: Connection) -> Iterator[int]:
    """Profile ids that nobody else is given; only where holds are needed. What is not taken of them is nobody's."""
    count = 1
    while True:
        yield from tx.execute(_IDS, {"count": count}).scalars().all()
        count = min(8 * count, 256)


def _json(rows: Sequence[Any]) -> str:
    """Rows as one parameter: a list of the driver's own costs it 2.5 us for each value in it (2026-11)."""
    return orjson.dumps(rows).decode()
