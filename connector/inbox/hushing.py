"""Deliveries of the log that are worked off without starting a flow, after a restore."""

import sqlite3
from contextlib import closing

from connector.inbox.deliveries import HISTORY, REPLAY
from connector.storage.backup import Files, standing

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
