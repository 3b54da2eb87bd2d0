"""The outbox published to a topic: a row is dropped when the broker has it, and not before."""

from collections import Counter
from collections.abc import Callable

from connector.clock import Millis
from connector.errors import StreamUnavailable
from connector.storage.database import Database
from connector.streams import store
from connector.streams.port import Broker, Lag, Writing

_BATCH = 1000  # rows of a round


class Writer:
    """Publishes one stream's rows of the outbox, in their order. A crash between publishing and dropping publishes the
    same again, under the same id."""

    counter = store.PUBLISHED

    def __init__(self, name: str, broker: Broker, database: Database) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.resting = ""
        self._broker = broker
        self._database = database
        self._writing: Writing | None = None

    def step(self, now: Millis, wait: float, stopped: Callable[[], bool] = lambda: False) -> int:
        """The number of rows settled. Raises StreamUnavailable. `wait` is for others: what to publish is at hand."""
        with self._database.read() as connection:
            rows = store.waiting(connection, self.name, _BATCH)
        if not rows:
            return 0
        if self._writing is None:
            self._writing = self._broker.writing()
        try:
            written = self._writing.write(rows, stopped)
            with self._database.tx() as tx:
                store.drop(tx, written.done)
                store.bury_rows(tx, self.name, written.refused, now)
        except StreamUnavailable:
            raise
        except BaseException:
            self.close()
            raise
        self.counts["published"] += len(written.done)
        self.counts["refused"] += len(written.refused)
        return len(written.done) + len(written.refused)

    def lag(self) -> Lag:
        with self._database.read() as connection:
            return Lag(records=store.waiting_count(connection, self.name))

    def close(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()
