"""How good what a source sends is: when it was last good, what was wrong with it, what is new in it."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from connector.clock import Millis
from connector.domain import SourceConfig
from connector.quality import store
from connector.quality.silence import silent
from connector.reporting.counts import counts
from connector.reporting.pages import Row
from connector.storage.tables import dead_letter


def quality(connection: Connection, sources: Mapping[str, SourceConfig], now: Millis) -> list[Row]:
    """Of each source {name, good, last_good_at, silent_after, silent, faults, dead, notices}.

    `good` counts deliveries that were understood; `faults` what was noticed in those, such as bad_email; `dead` open
    dead letters by reason; `notices` what nobody has read yet of unknown and retyped fields.
    """
    counted, told = counts(connection, store.GOOD, store.FAULTS), store.notices(connection)
    letters = _dead(connection)
    found = []
    for name, config in sources.items():
        good, last = counted.get((store.GOOD, name), (0, None))
        faults = {
            label.partition("/")[2]: count
            for (kind, label), (count, _) in counted.items()
            if kind == store.FAULTS and label.partition("/")[0] == name
        }
        found.append(
            {
                "name": name,
                "good": good,
                "last_good_at": last,
                "silent_after": config.silent_after,
                "silent": silent(config, last, now),
                "faults": faults,
                "dead": letters.get(name, {}),
                "notices": told.get(name, []),
            }
        )
    return found


def _dead(connection: Connection) -> dict[str, dict[str, int]]:
    query = (
        select(dead_letter.c.origin, dead_letter.c.reason, func.count())
        .where(dead_letter.c.state == "open", dead_letter.c.kind == "delivery")
        .group_by(dead_letter.c.origin, dead_letter.c.reason)
    )
    found: dict[str, dict[str, int]] = {}
    for source, reason, count in connection.execute(query):
        found.setdefault(source, {})[reason] = count
    return found
