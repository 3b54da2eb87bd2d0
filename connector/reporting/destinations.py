"""How each destination stands: its account, what waits, what was pushed in the last hour, what went wrong last."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Connection, func, select

from connector.clock import DAY, HOUR, Millis
from connector.reporting.pages import Row
from connector.reporting.verifications import latest
from connector.storage.tables import account, cue, push, sync_state
from connector.sync import guard
from connector.sync import store as sync_store


def pending(connection: Connection) -> dict[str, tuple[int, Millis]]:
    """Destination -> (contacts that wait, since when the oldest does)."""
    query = (
        select(sync_state.c.destination, func.count(), func.min(sync_state.c.changed_at))
        .where(sync_state.c.pending == 1)
        .group_by(sync_state.c.destination)
    )
    return {name: (count, oldest) for name, count, oldest in connection.execute(query)}


def pending_cues(connection: Connection) -> dict[str, int]:
    """Destination -> trigger events that wait."""
    query = select(cue.c.destination, func.count()).where(cue.c.state == "pending").group_by(cue.c.destination)
    return {name: count for name, count in connection.execute(query)}


def accounts(connection: Connection) -> dict[str, Row]:
    """Destination -> {state, message, retry_at}, where its account was ever used."""
    columns = (account.c.destination, account.c.state, account.c.message, account.c.retry_at, account.c.updated_at)
    query = select(*columns, account.c.hold)
    return {row["destination"]: dict(row) for row in connection.execute(query).mappings()}


def held(connection: Connection, known: Row, name: str) -> Row | None:
    """What is held at a destination (`known` is its account) until somebody approves: {changes, changed, new,
    only_there, accepted, since, contacts}, where `contacts` counts those that still wait."""
    hold = guard.hold_of(known) if known else None
    waiting = 0 if hold is None else sync_store.held_now(connection, name)
    if hold is None or not waiting:
        return None
    return {**asdict(hold), "changes": hold.changes, "contacts": waiting}


def standings(connection: Connection, names: Iterable[str], now: Millis) -> list[Row]:
    """How each of these destinations stands, in their order.

    {name, state, message, retry_at, held, pending, pending_cues, oldest_pending_at, last_hour, last_error,
    last_verification, engagement}: `last_hour`
    counts pushes by status; `last_error` is the latest of a day that was rejected or must be retried. An account that
    is active shows the state `held` while too many changes wait for an approval (see sync.guard).
    """
    waiting, cues, stored, pushed = (
        pending(connection),
        pending_cues(connection),
        accounts(connection),
        _last_hour(connection, now),
    )
    found, verified, asked = [], latest(connection), sync_store.polls(connection)
    for name in names:
        count, oldest = waiting.get(name, (0, None))
        known = stored.get(name, {})
        retry_at = known.get("retry_at", 0)
        state, message, waits = known.get("state", "active"), known.get("message", ""), held(connection, known, name)
        if waits is not None and state == "active" and (hold := guard.hold_of(known)):
            state, message = "held", message if retry_at > now else guard.words(name, hold)
        found.append(
            {
                "name": name,
                "state": state,
                "message": message,
                "retry_at": retry_at if retry_at > now else None,
                "held": waits,
                "pending": count,
                "pending_cues": cues.get(name, 0),
                "oldest_pending_at": oldest,
                "last_hour": pushed[name],
                "last_error": _last_error(connection, name, now),
                "last_verification": verified.get(name),
                "engagement": asked.get(name),
            }
        )
    return found


def _last_hour(connection: Connection, now: Millis) -> dict[str, dict[str, int]]:
    query = (
        select(push.c.destination, push.c.status, func.count())
        .where(push.c.at > now - HOUR)
        .group_by(push.c.destination, push.c.status)
    )
    counted: dict[str, dict[str, int]] = defaultdict(dict)
    for name, status, count in connection.execute(query):
        counted[name][status] = count
    return counted


def _last_error(connection: Connection, destination: str, now: Millis) -> Row | None:
    query = (
        select(push.c.at, push.c.profile_id, push.c.status, push.c.reason, push.c.message)
        .where(push.c.destination == destination, push.c.at > now - DAY, push.c.status.in_(("rejected", "retry")))
        .order_by(push.c.at.desc(), push.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)
