"""Streams in the database: what is to be published, how far shards are read, how each stream stands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from connector.clock import Millis
from connector.storage.phrases import among, upsert
from connector.storage.tables import dead_letter, event, outbox, stream_position, stream_standing
from connector.streams.port import Lag, Poison, Row

READ, PUBLISHED, ERRORS = "stream_read", "stream_published", "stream_errors"
"""Counters; the label is `stream/outcome`, or `stream/reason` of errors."""

DEAD = "stream"
"""The kind of a dead letter that is a record nobody could file, or a thing that could not be published."""

KEY = ":key"
"""The header under which such a letter keeps the key of the record."""

# --- the outbox ------------------------------------------------------------------------------------------------------

_KNOWN = select(event.c.id).where(among(event.c.id, "ids"))


def known_events(tx: Connection, ids: Iterable[str]) -> set[str]:
    """Those of these events that are stored already."""
    return set(tx.execute(_KNOWN, {"ids": sorted(set(ids))}).scalars())


def put(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Things to publish, in their order: {stream, profile_id, at, body}."""
    if rows:
        tx.execute(insert(outbox), rows)


def waiting(connection: Connection, stream: str, limit: int) -> list[Row]:
    """The oldest things that a stream has to publish."""
    query = (
        select(outbox.c.id, outbox.c.profile_id, outbox.c.body)
        .where(outbox.c.stream == stream)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [Row(id_, str(person), body) for id_, person, body in connection.execute(query)]


def waiting_count(connection: Connection, stream: str) -> int:
    """How much a stream has to publish."""
    return connection.execute(select(func.count()).where(outbox.c.stream == stream)).scalar_one()


_DROP = delete(outbox).where(outbox.c.id == bindparam("id_"))


def drop(tx: Connection, ids: Iterable[int]) -> None:
    """Forget what has been published."""
    if rows := [{"id_": one} for one in ids]:
        tx.execute(_DROP, rows)


def forget_others(tx: Connection, streams: Iterable[str], publishing: Iterable[str]) -> None:
    """Forget what belongs to streams that are configured no more, and what those no more publish."""
    tx.execute(delete(outbox).where(outbox.c.stream.not_in(sorted(publishing))))
    known = sorted(streams)
    for table in (stream_position, stream_standing):
        tx.execute(delete(table).where(table.c.stream.not_in(known)))


# --- positions -------------------------------------------------------------------------------------------------------

_POSITION = upsert(stream_position)
_POSITION = _POSITION.on_conflict_do_update(
    index_elements=["stream", "shard"],
    set_={"sequence": _POSITION.excluded.sequence, "finished": _POSITION.excluded.finished},
)


def positions(connection: Connection, stream: str, topic: str) -> dict[str, tuple[str, bool]]:
    """Shard -> (sequence of the last record kept, whether it is read to its end)."""
    query = select(stream_position).where(
        stream_position.c.stream == stream, stream_position.c.shard.startswith(f"{topic}/", autoescape=True)
    )
    return {
        row.shard.removeprefix(f"{topic}/"): (row.sequence, bool(row.finished)) for row in connection.execute(query)
    }


def set_positions(tx: Connection, stream: str, topic: str, places: Mapping[str, tuple[str, bool]]) -> None:
    """Remember how far these shards are read."""
    rows = [
        {"stream": stream, "shard": f"{topic}/{shard}", "sequence": sequence, "finished": int(finished)}
        for shard, (sequence, finished) in places.items()
    ]
    if rows:
        tx.execute(_POSITION, rows)


# --- standing --------------------------------------------------------------------------------------------------------

_STANDING = upsert(stream_standing)
_STANDING = _STANDING.on_conflict_do_update(
    index_elements=["stream"],
    set_={name: _STANDING.excluded[name] for name in ("state", "message", "lag", "lag_ms", "at")},
)


def tell(tx: Connection, stream: str, state: str, message: str, lag: Lag, now: Millis) -> None:
    """Write down how a stream stands."""
    words = {"stream": stream, "state": state, "message": message, "lag": lag.records, "lag_ms": lag.millis, "at": now}
    tx.execute(_STANDING, words)


# --- dead letters ----------------------------------------------------------------------------------------------------


def bury_records(tx: Connection, stream: str, poison: Iterable[Poison], now: Millis) -> None:
    """Keep records that no broker keeps as dead letters, each once."""
    for record, error in poison:
        headers = orjson.dumps({**record.headers, KEY: record.key}).decode()
        body = record.body or b""
        _bury(tx, stream, record.place, error.reason, error.message, headers, body, now)


def bury_rows(tx: Connection, stream: str, refused: Iterable[tuple[Row, str]], now: Millis) -> None:
    """Keep what a broker will never take, in place of publishing it."""
    for row, why in refused:
        _bury(tx, stream, orjson.loads(row.body)["id"], "refused", why, "{}", row.body.encode(), now)
        tx.execute(_DROP, {"id_": row.id})


def _bury(
    tx: Connection, stream: str, place: str, reason: str, message: str, headers: str, body: bytes, now: Millis
) -> None:
    same = (dead_letter.c.kind == DEAD, dead_letter.c.origin == stream, dead_letter.c.reference == place)
    words = {"reason": reason, "message": message, "at": now, "headers": headers, "body": body, "state": "open"}
    if not tx.execute(update(dead_letter).where(*same).values(words)).rowcount:
        tx.execute(insert(dead_letter).values(kind=DEAD, origin=stream, reference=place, **words))
