"""Deliveries as the line sees them: told apart by the sender's id, kept as dead letters, put in line again."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import orjson
from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_

from connector.clock import Millis
from connector.domain import Delivery
from connector.errors import ConnectorError, Fenced
from connector.ports import New, Rec
from connector.storage.phrases import among, upsert
from connector.storage.tables import dead_letter, seen

REPLAY = "storecue-replay"
"""Header of a delivery that was put in line again: `quiet` must not fire triggers, `loud` may, `history` never may."""

HISTORY = "history"
"""Its value for what was fetched of a source's past: it stays so whenever it is put in line again."""

QUIET = ("quiet", HISTORY)

FETCHED = "backfill/"
"""How the topic begins of what we have asked for: it is no sign that the source still sends."""

_SEEN = select(seen.c.delivery_id).where(seen.c.source == bindparam("source_"), among(seen.c.delivery_id, "ids"))


_SEE = upsert(seen).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


def fresh(tx: Connection, records: Sequence[Rec], now: Millis) -> list[Rec]:
    """The records not worked on before, each delivery once, remembered as seen in this transaction."""
    ids: dict[str, set[str]] = defaultdict(set)
    for record in records:
        ids[record.source].add(record.delivery_id)
    known = {
        (source, id_)
        for source, wanted in ids.items()
        for (id_,) in tx.execute(_SEEN, {"source_": source, "ids": sorted(wanted)})
    }
    news = []
    for record in records:
        key = (record.source, record.delivery_id)
        if key not in known:
            known.add(key)
            news.append(record)
    if news:
        rows = [{"source": record.source, "delivery_id": record.delivery_id, "at": now} for record in news]
        if tx.execute(_SEE, rows).rowcount < len(rows):
            raise Fenced("another worker is at one of these deliveries, which has another key there")
    return news


def unseen(tx: Connection, records: Sequence[Rec]) -> None:
    """Take back that these were worked on."""
    for record in records:
        tx.execute(delete(seen).where(seen.c.source == record.source, seen.c.delivery_id == record.delivery_id))


def forget_seen(tx: Connection, before: Millis, limit: int) -> int:
    """The number of delivery ids forgotten: older than any sender repeats (Shopify: 4 hours, 2026-09)."""
    old = select(seen.c.source, seen.c.delivery_id).where(seen.c.at < before).limit(limit)
    return tx.execute(delete(seen).where(tuple_(seen.c.source, seen.c.delivery_id).in_(old))).rowcount


def delivery(record: Rec) -> Delivery:
    return Delivery(
        source=record.source,
        id=record.delivery_id,
        topic=record.topic,
        received_at=record.received_at,
        headers=orjson.loads(record.headers),
        body=record.body,
    )


def add_dead_letters(tx: Connection, letters: Iterable[tuple[Rec, ConnectorError]], now: Millis) -> None:
    rows = [
        {
            "kind": "delivery",
            "origin": record.source,
            "reference": record.delivery_id,
            "topic": record.topic,
            "reason": error.reason,
            "message": error.message,
            "at": now,
            "received_at": record.received_at,
            "headers": record.headers,
            "body": record.body,
        }
        for record, error in letters
    ]
    if rows:
        tx.execute(insert(dead_letter), rows)


def again(record: Rec, *, fire: bool, attempt: str, body: bytes | None = None) -> New:
    """The delivery as a new one for the log. `attempt` makes its id new: it was seen before."""
    headers = orjson.loads(record.headers)
    if headers.get(REPLAY) != HISTORY:
        headers[REPLAY] = "loud" if fire else "quiet"
    return New(
        key=record.key,
        source=record.source,
        delivery_id=f"{record.delivery_id.partition('#')[0]}#{attempt}",
        topic=record.topic,
        received_at=record.received_at,
        headers=orjson.dumps(headers).decode(),
        body=record.body if body is None else body,
    )
