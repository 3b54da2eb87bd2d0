"""The shapes that sources have sent, in the database."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, select, update

from connector.clock import Millis
from connector.storage.phrases import upsert
from connector.storage.tables import counter, shape

Topic = tuple[str, str]
"""(source, topic)"""

GOOD, FAULTS = "good", "faults"
"""Counters: deliveries that were understood, by source; what was noticed in them, by source and fault."""

_LOOKED = "shapes"  # deliveries whose shape was looked at, by source and topic

_ADD = upsert(shape).on_conflict_do_nothing()
_KNOWN = select(shape.c.path, shape.c.type).where(
    shape.c.source == bindparam("source_"), shape.c.topic == bindparam("topic_")
)


def known(connection: Connection, topic: Topic) -> set[tuple[str, str]]:
    """(path, type) of everything that a topic of a source has sent."""
    return {(path, type_) for path, type_ in connection.execute(_KNOWN, {"source_": topic[0], "topic_": topic[1]})}


def add(
    tx: Connection, topic: Topic, pairs: Iterable[tuple[str, str]], *, notice: bool, delivery_id: str, now: Millis
) -> None:
    """Remember these; `notice` when somebody should be told of them."""
    state = "notice" if notice else "known"
    rows = [
        {
            "source": topic[0],
            "topic": topic[1],
            "path": path,
            "type": type_,
            "state": state,
            "delivery_id": delivery_id,
            "first_at": now,
        }
        for path, type_ in sorted(pairs)
    ]
    if rows:
        tx.execute(_ADD, rows)


def acknowledge(tx: Connection, source: str) -> int:
    """The number of notices of a source that somebody has read and that are gone now."""
    read = update(shape).where(shape.c.source == source, shape.c.state == "notice").values(state="known")
    return tx.execute(read).rowcount


def looked(connection: Connection, topic: Topic) -> int:
    """How many deliveries of a topic were looked at."""
    query = select(counter.c.count).where(counter.c.name == _LOOKED, counter.c.label == "/".join(topic))
    return connection.execute(query).scalar() or 0


def counted(topic: Topic) -> tuple[str, str]:
    """The counter of that."""
    return _LOOKED, "/".join(topic)


def heard(connection: Connection) -> dict[str, Millis]:
    """Source -> when its last good delivery was worked off."""
    query = select(counter.c.label, counter.c.last_at).where(counter.c.name == GOOD)
    return {source: at for source, at in connection.execute(query)}


def notices(connection: Connection) -> Mapping[str, list[dict[str, object]]]:
    """Source -> its notices, newest first: {topic, path, type, was (types it had before), first_at, delivery_id}."""
    rows = connection.execute(
        select(shape).where(shape.c.state == "notice").order_by(shape.c.first_at.desc(), shape.c.path)
    ).mappings()
    found: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        before = select(shape.c.type).where(
            shape.c.source == row["source"],
            shape.c.topic == row["topic"],
            shape.c.path == row["path"],
            shape.c.type != row["type"],
        )
        told = {name: row[name] for name in ("topic", "path", "type", "first_at", "delivery_id")}
        told["was"] = sorted(connection.execute(before).scalars())
        found.setdefault(row["source"], []).append(told)
    return found
