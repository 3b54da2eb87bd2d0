"""The whole at a glance: is anything waiting, refilling, paused or dead."""

from collections.abc import Mapping

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import StreamConfig
from connector.inbox import parking
from connector.ports import EventLog
from connector.privacy.store import unfinished
from connector.reporting import asked, dead_letters, destinations, segments
from connector.reporting.pages import Row
from connector.reporting.streams import standings
from connector.storage.turns import Turns


def status(
    state: Connection, log: EventLog, turns: Turns, names: list[str], streams: Mapping[str, StreamConfig], now: Millis
) -> Row:
    """{log, lag, oldest_waiting_at, partitions, parked, processes, turns, refills, destinations, streams, sources,
    erasures, dead_letters} at `now`. `names` are the configured destinations; of partitions only those with a lag are
    listed."""
    standing = log.standing()
    running = segments.refills(state, now)
    return {
        "at": now,
        "log": {
            "name": standing.log,
            "partitions": len(standing.partitions),
            "message": standing.trouble or standing.note,
        },
        "lag": None if standing.trouble else standing.lag,
        "oldest_waiting_at": log.oldest(standing),
        "partitions": [
            {"part": part.part, "head": part.head, "position": part.position, "lag": part.lag}
            for part in standing.partitions
            if part.lag
        ],
        "parked": parking.standing(state),
        "processes": [one._asdict() for one in turns.processes()],
        "turns": [one._asdict() for one in turns.held()],
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
