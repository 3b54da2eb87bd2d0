"""The whole at a glance: is anything waiting, refilling, paused or dead."""

from collections.abc import Mapping

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import StreamConfig
from connector.inbox import parking
from connector.privacy.store import unfinished
from connector.reporting import asked, backlog, dead_letters, destinations, segments
from connector.reporting.pages import Row
from connector.reporting.streams import standings


def status(
    state: Connection, inbox: Connection, names: list[str], streams: Mapping[str, StreamConfig], now: Millis
) -> Row:
    """{lag, oldest_waiting_at, partitions, parked, refills, destinations, streams, sources, erasures, dead_letters} at
    `now`. `names` are the configured destinations; of partitions only those with a lag are listed."""
    parts = backlog.partitions(state, inbox)
    running = segments.refills(state, now)
    return {
        "at": now,
        "lag": sum(part.lag for part in parts),
        "oldest_waiting_at": backlog.oldest_waiting(inbox, parts),
        "partitions": [
            {"part": part.part, "head": part.head, "position": part.position, "lag": part.lag}
            for part in parts
            if part.lag
        ],
        "parked": parking.standing(state),
        "refills": [refill for refill in running.values() if refill["finished_at"] is None],
        "destinations": destinations.standings(state, names, now),
        "streams": standings(state, streams),
        "sources": asked.standings(state),
        "erasures": unfinished(state),
        "dead_letters": [
            {"kind": kind, "reason": reason, "count": count}
            for (kind, reason), count in sorted(dead_letters.by_reason(state).items())
        ],
    }
