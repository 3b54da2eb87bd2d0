"""How each stream stands: what its holder last told, what waits, what went wrong."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from connector.domain import StreamConfig
from connector.reporting.counts import counts
from connector.reporting.pages import Row
from connector.storage.tables import outbox, stream_standing
from connector.streams.store import ERRORS, PUBLISHED, READ


def standings(connection: Connection, streams: Mapping[str, StreamConfig]) -> list[Row]:
    """{name, kind, topic, direction, state, message, lag, lag_ms, told_at, counts, errors} of each, in their order.

    `state`: active, waiting (the log takes nothing), failing, or unknown: no worker has told of it yet. `lag`: records
    that are still to be read, or things to publish; `lag_ms` where the broker tells a time instead.
    """
    told = {row.stream: row for row in connection.execute(select(stream_standing))}
    waiting: dict[str, int] = {
        name: count
        for name, count in connection.execute(select(outbox.c.stream, func.count()).group_by(outbox.c.stream))
    }
    counted = counts(connection, READ, PUBLISHED, ERRORS)
    found = []
    for name, config in streams.items():
        row = told.get(name)
        outcomes: dict[str, int] = {}
        errors: dict[str, int] = {}
        for (counter, label), (count, _) in counted.items():
            stream, _, word = label.partition("/")
            if stream == name:
                (errors if counter == ERRORS else outcomes)[word] = count
        found.append(
            {
                "name": name,
                "kind": config.kind,
                "topic": config.topic,
                "direction": "publish" if config.into is None else "read",
                "state": "unknown" if row is None else row.state,
                "message": "" if row is None else row.message,
                "lag": waiting.get(name, 0) if config.into is None else None if row is None else row.lag,
                "lag_ms": None if row is None else row.lag_ms,
                "told_at": None if row is None else row.at,
                "counts": dict(sorted(outcomes.items())),
                "errors": dict(sorted(errors.items())),
            }
        )
    return found
