"""What a StoreCue's log and state are in: SQLite, PostgreSQL, or Kafka with its state in PostgreSQL."""

from collections.abc import Callable

from tests.brokers import MockKafka
from tests.postgres import create_database, drop_database, server


class Place:
    """`environ` chooses it. `takeover`: seconds within which another worker goes on where one was killed."""

    name = "sqlite"
    takeover = 30.0

    def __init__(self) -> None:
        self.environ: dict[str, str] = {}

    def close(self) -> None: ...


class Postgres(Place):
    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.environ["DATABASE_URL"] = create_database(server())

    def close(self) -> None:
        drop_database(server(), self.environ["DATABASE_URL"])


class Kafka(Postgres):
    """The mock cluster lives in this process; killing ours leaves it alone."""

    name = "kafka"
    takeover = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.cluster = MockKafka()
        self.cluster.topic("storecue.deliveries", 16)
        self.environ["KAFKA_BOOTSTRAP"] = self.cluster.bootstrap

    def close(self) -> None:
        super().close()
        self.cluster.close()


LOGS: dict[str, Callable[[], Place]] = {one.name: one for one in (Place, Postgres, Kafka)}
