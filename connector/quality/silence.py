"""Sources from which nothing good has come for longer than they may be silent."""

from collections.abc import Mapping

import structlog

from connector.clock import MINUTE, Millis, isoformat, parse_duration
from connector.domain import SourceConfig
from connector.quality import store
from connector.storage.database import Database

log = structlog.get_logger("sources")

_EVERY: Millis = MINUTE


def silent(config: SourceConfig, heard_at: Millis | None, now: Millis) -> bool:
    """True when the last good delivery is older than the source may be silent. A source that was never heard is not
    silent: it has not begun."""
    if config.silent_after is None or heard_at is None:
        return False
    return now - heard_at > parse_duration(config.silent_after)


class SilenceAlarm:
    """Tells, once for each silence, in the log of the worker; metrics and the API tell as long as it lasts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: Millis = 0
        self._silent: set[str] = set()

    def step(self, sources: Mapping[str, SourceConfig], now: Millis) -> None:
        if now < self._next or not any(config.silent_after for config in sources.values()):
            return
        self._next = now + _EVERY
        with self._database.read() as connection:
            heard = store.heard(connection)
        now_silent = {name for name, config in sources.items() if silent(config, heard.get(name), now)}
        for name in sorted(now_silent - self._silent):
            log.error("source.silent", source=name, last_good_delivery=isoformat(heard[name]))
        for name in sorted(self._silent & sources.keys() - now_silent):
            log.info("source.heard_again", source=name)
        self._silent = now_silent
