"""The clock of the workers of one database: its server's, so that machines whose clocks differ decide at one time."""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import MINUTE, Millis
from connector.storage.database import Database

log = structlog.get_logger("clock")

_ASK_EVERY = 10.0  # seconds; in between this machine's own running time is added, which nobody sets
_NOW = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")


class ServerClock:
    """Called, it gives the present instant. On SQLite that is this machine's `own`; so it is on PostgreSQL until the
    server has been asked. A server that does not answer is asked again later. It never goes back by less than a minute:
    who was decided about a moment ago is not decided about as of before."""

    def __init__(self, database: Database, own: Callable[[], Millis]) -> None:
        self._database = database
        self._own = own
        self._lock = threading.Lock()
        self._ahead: Millis = 0  # the server's instant less this machine's running time
        self._asked_at = float("-inf")
        self._last: Millis = 0

    def __call__(self) -> Millis:
        if self._database.dialect == "sqlite":
            return self._own()
        with self._lock:
            running = time.monotonic()
            if running - self._asked_at >= _ASK_EVERY:
                self._ask()
                running = time.monotonic()
            found = self._ahead + int(running * 1000)
            if self._last - MINUTE < found < self._last:
                found = self._last
            self._last = found
            return found

    def _ask(self) -> None:
        before = time.monotonic()
        try:
            with self._database.read() as connection:
                connection.execute(_NOW)  # connects and begins, which takes longer than the answer
                before = time.monotonic()
                told = int(connection.execute(_NOW).scalar_one())
        except SQLAlchemyError as error:
            if self._asked_at < 0:
                self._ahead = self._own() - int(before * 1000)
            log.warning("clock.server_does_not_answer", error=type(error).__name__)
        else:
            # The answer is of some instant in between.
            self._ahead = told - int((before + time.monotonic()) * 500)
        self._asked_at = time.monotonic()
