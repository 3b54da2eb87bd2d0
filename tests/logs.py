"""Every log there is, each at a place of its own, for tests that hold all of them to the same promises."""

import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from connector.inbox.kafka.cluster import Cluster
from connector.inbox.kafka.log import KafkaLog
from connector.inbox.runner import positions
from connector.inbox.sql import SqlLog
from connector.ports import EventLog, New
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import inbox_metadata, metadata
from tests.brokers import HEARTBEAT, SESSION, MockKafka

PARTS = 4
_TOPICS = itertools.count()


class Place:
    """Where a log and its state are. `log` gives what another process would have: an object of its own."""

    def __init__(self, state_url: str) -> None:
        self.state = self.database(state_url)
        self.state.create(metadata)
        self.state.create(inbox_metadata)
        self._logs: list[EventLog] = []

    def database(self, url: str) -> Database:
        return Database(url)

    def log(self) -> EventLog:
        log = self._log()
        log.create()
        self._logs.append(log)
        return log

    def _log(self) -> EventLog:
        raise NotImplementedError

    def down(self) -> None:
        """From now on nothing is durable."""
        raise NotImplementedError

    def up(self) -> None:
        raise NotImplementedError

    def gap(self, pos: int) -> None:
        """Make a hole: the record at `pos` of each partition that has it is no delivery any more."""
        raise NotImplementedError

    def close(self) -> None:
        for log in self._logs:
            log.close()
        self.state.close()


class SqlPlace(Place):
    """SqlLog. The database of the log is a file of its own on SQLite, the state's on a server."""

    def __init__(self, folder: Path, state_url: str) -> None:
        super().__init__(state_url)
        self._url = sqlite_url(folder / "inbox.db") if state_url.startswith("sqlite") else state_url
        self._apart: list[Database] = []

    def _log(self) -> EventLog:
        self._apart.append(Database(self._url, one_writer=False))
        return SqlLog(self._apart[-1], PARTS, lambda: positions(self.state))

    def down(self) -> None:
        with self._apart[0].tx() as tx:
            tx.exec_driver_sql("ALTER TABLE log_head RENAME TO log_head_away")

    def up(self) -> None:
        with self._apart[0].tx() as tx:
            tx.exec_driver_sql("ALTER TABLE log_head_away RENAME TO log_head")

    def gap(self, pos: int) -> None:
        with self._apart[0].tx() as tx:
            tx.exec_driver_sql(f"DELETE FROM delivery WHERE pos = {pos}")

    def close(self) -> None:
        super().close()
        for database in self._apart:
            database.close()


class KafkaPlace(Place):
    """KafkaLog on librdkafka's mock cluster, in a topic and a group of its own."""

    def __init__(self, state_url: str, kafka: MockKafka | None, **more: Any) -> None:
        super().__init__(state_url)
        self.now = 1_795_000_000_000
        if kafka is None:
            return  # a cluster of somebody else's, which is told later
        self.kafka = kafka
        name = f"deliveries-{next(_TOPICS)}"
        kafka.topic(name, PARTS)
        self.cluster = cluster(kafka, topic=name, group=name, **more)

    def _log(self) -> KafkaLog:
        return KafkaLog(self.cluster, self.state, lambda: positions(self.state), lambda: self.now)

    def down(self) -> None:
        self.kafka.down()

    def up(self) -> None:
        self.kafka.up()

    def gap(self, pos: int) -> None:
        """Somebody else's record is passed over as a gap is: the mock cluster keeps every offset."""
        self.kafka.produce(self.cluster.topic, *((f"x{n}", b"not ours") for n in range(8)))


def cluster(kafka: MockKafka, **more: Any) -> Cluster:
    """The mock cluster as a log's."""
    return Cluster(kafka.bootstrap, **{"session": SESSION, "heartbeat": HEARTBEAT, **more})


def append_side_by_side(log: EventLog, items: Sequence[New]) -> None:
    """Each in an append of its own, from ten threads."""
    threads = [
        threading.Thread(target=lambda some=items[first::10]: [log.append([one]) for one in some])  # type: ignore[misc]
        for first in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Surroundings(NamedTuple):
    """What a place may stand on; nothing is started that is not asked for."""

    folder: Path
    kafka: Callable[[], MockKafka]
    postgres: Callable[[], str]

    def sqlite(self) -> str:
        return sqlite_url(self.folder / "state.db")


PLACES: dict[str, Callable[[Surroundings], Place]] = {
    "sql on sqlite": lambda here: SqlPlace(here.folder, here.sqlite()),
    "sql on postgresql": lambda here: SqlPlace(here.folder, here.postgres()),
    "kafka, state on sqlite": lambda here: KafkaPlace(here.sqlite(), here.kafka()),
    "kafka, state on postgresql": lambda here: KafkaPlace(here.postgres(), here.kafka()),
}
"""One line for each log and each database of its state."""
