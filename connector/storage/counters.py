"""Counters that all processes share: written in the transaction of what they count, read by /metrics."""

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from connector.clock import Millis
from connector.storage.phrases import upsert
from connector.storage.tables import counter

_ADD = upsert(counter)
_ADD = _ADD.on_conflict_do_update(
    index_elements=["name", "label"],
    set_={"count": counter.c.count + _ADD.excluded.count, "last_at": _ADD.excluded.last_at},
)


def tally(name: str, labels: Iterable[str]) -> dict[tuple[str, str], int]:
    """(name, label) -> how often the label occurs."""
    return {(name, label): count for label, count in Counter(labels).items()}


def add(tx: Connection, counts: Mapping[tuple[str, str], int], now: Millis) -> None:
    """Add these counts, and remember when."""
    if counts:
        tx.execute(
            _ADD,
            [
                {"name": name, "label": label, "count": count, "last_at": now}
                for (name, label), count in sorted(counts.items())
            ],
        )
