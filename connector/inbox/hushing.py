"""Deliveries of the log that are worked off without starting a flow, after a restore."""

import sqlite3
from contextlib import closing

from sqlalchemy import Connection, text

from connector.inbox.deliveries import HISTORY, REPLAY
from connector.storage.backup import Files, between, standing

_HUSH = (
    "UPDATE delivery SET headers = json_set(headers, ?, 'quiet')"
    " WHERE part = ? AND pos >= ? AND json_extract(headers, ?) IS NOT ?"
)
_HUSH_PARKED = "UPDATE parked SET headers = json_set(headers, ?, 'quiet') WHERE json_extract(headers, ?) IS NOT ?"


def hush(files: Files) -> int:
    """The number of deliveries not worked off yet that now fire no triggers. Nobody else may have the log open."""
    positions, heads, _ = standing(files)
    name, count = f'$."{REPLAY}"', 0
    with closing(sqlite3.connect(files.log)) as log, log:
        for part in heads:
            count += log.execute(_HUSH, (name, part, positions.get(part, 0), name, HISTORY)).rowcount
    with closing(sqlite3.connect(files.state)) as state, state:
        count += state.execute(_HUSH_PARKED, (name, name, HISTORY)).rowcount
    return count


_HUSH_ON_SERVER = text(
    "UPDATE delivery"
    " SET headers = CAST(CAST(headers AS jsonb) || jsonb_build_object(CAST(:name AS text), 'quiet') AS text)"
    " WHERE part = :part AND pos >= :pos AND CAST(headers AS jsonb) ->> :name IS DISTINCT FROM :history"
)


def hush_on_server(tx: Connection) -> int:
    """The same in PostgreSQL, where the log lies beside the state."""
    positions, heads, _ = between(tx, tx)
    told = {"name": REPLAY, "history": HISTORY}
    return sum(
        tx.execute(_HUSH_ON_SERVER, {**told, "part": part, "pos": positions.get(part, 0)}).rowcount for part in heads
    )
