"""Deliveries of the log that are worked off without starting a flow, after a restore."""

import sqlite3
from contextlib import closing

import orjson
from sqlalchemy import Connection, select, text, update

from connector.errors import ConnectorError
from connector.inbox.deliveries import HISTORY, REPLAY
from connector.ports import EventLog
from connector.storage.backup import Files, between, standing
from connector.storage.database import Database
from connector.storage.phrases import upsert
from connector.storage.tables import meta, parked

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
    count = sum(
        tx.execute(_HUSH_ON_SERVER, {**told, "part": part, "pos": positions.get(part, 0)}).rowcount for part in heads
    )
    return count + _hush_parked(tx)


# --- a log that is no table -------------------------------------------------------------------------------------------

_NAME = "hushed"


def hush_log(state: Database, log: EventLog) -> int:
    """The same of a log whose records stay as they are: it is written down up to where they fire no triggers."""
    found = log.standing()
    if found.trouble:
        raise ConnectorError(f"what waits in the log cannot be hushed: {found.trouble}; then run the restore again")
    heads = orjson.dumps({str(part.part): part.head for part in found.partitions}).decode()
    with state.tx() as tx:
        row = upsert(meta).values(name=_NAME, value=heads)
        tx.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))
        return found.lag + _hush_parked(tx)


def hushed(state: Database) -> dict[int, int]:
    """Partition -> the position from which on records fire triggers, as `hush_log` has written it down."""
    with state.read() as connection:
        found = connection.execute(select(meta.c.value).where(meta.c.name == _NAME)).scalar()
    return {int(part): head for part, head in orjson.loads(found or "{}").items()}


def quiet(headers: str) -> str:
    """The headers of a delivery that must fire no triggers."""
    told = orjson.loads(headers)
    return headers if told.get(REPLAY) == HISTORY else orjson.dumps({**told, REPLAY: "quiet"}).decode()


def _hush_parked(tx: Connection) -> int:
    rows = tx.execute(select(parked.c.id, parked.c.headers)).all()
    for id_, headers in rows:
        tx.execute(update(parked).where(parked.c.id == id_).values(headers=quiet(headers)))
    return len(rows)
