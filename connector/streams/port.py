"""What a broker of any kind answers, and what is read from it and written to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

from adapters.destination import Option
from connector.clock import Millis
from connector.domain import StreamConfig
from connector.errors import RejectedDelivery
from connector.storage.database import Database


class Record(NamedTuple):
    """One record of a topic. `place` names it for ever, such as clicks/3/1207/1795000000000; `shard` is what it shares
    with those that come after it; `body` None is a tombstone. Names of headers are lower case."""

    place: str
    shard: str
    key: str | None
    headers: Mapping[str, str]
    body: bytes | None
    at: Millis | None


class Row(NamedTuple):
    """One thing to publish: `body` is a CloudEvent as JSON, `key` the profile's id."""

    id: int
    key: str
    body: str


Poison = tuple[Record, RejectedDelivery]
"""A record that will never be a delivery, and why."""


class Lag(NamedTuple):
    """How much is still to be read: in records, or in milliseconds, or not known."""

    records: int | None = None
    millis: Millis | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A stream and what is needed to reach it: its credentials in the clear."""

    config: StreamConfig
    credentials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Takes:
    """What the configuration of a stream may hold: credentials it needs, others, options."""

    needs: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    topic: Option = field(default=Option(r".+", "clicks"))


class Reading(Protocol):
    """A topic being read. Methods raise StreamUnavailable. Used by one thread."""

    def read(self, limit: int, wait: float, now: Millis) -> list[Record]:
        """Up to about `limit` records that were not read before, those of one shard in order; waits for the first."""

    def rest(self, wait: float) -> list[Record]:
        """Stay alive for `wait` seconds without reading on; what comes all the same is given."""

    def is_ours(self, record: Record) -> bool:
        """True while nobody else has been given the record's shard."""

    def bury(self, poison: Sequence[Poison]) -> list[Poison]:
        """Put records where the broker keeps dead letters; gives those that it did not take."""

    def settle(self, records: Sequence[Record]) -> None:
        """All of these, and what came before them, are durable elsewhere: a restart goes on after them."""

    def lag(self) -> Lag: ...

    def close(self) -> None: ...


class Writing(Protocol):
    """A topic being written to. Used by one thread."""

    def write(self, rows: Sequence[Row], stopped: Callable[[], bool]) -> "Written":
        """Write these in order, of one key one after the other, and wait until the broker has them or `stopped`.
        Raises StreamUnavailable when it has none of them."""

    def close(self) -> None: ...


class Written(NamedTuple):
    """What became of rows: those that the broker has, and those that it never will with the reason. Others remain."""

    done: Sequence[int] = ()
    refused: Sequence[tuple[Row, str]] = ()


class Broker(Protocol):
    """A kind of broker."""

    takes: ClassVar[Takes]

    def __init__(self, account: Account) -> None: ...

    def check(self, wait: float) -> str:
        """A line on what was found at the other end. Raises StreamUnavailable, or ConfigurationError when the library
        is not installed."""

    def reading(self, database: Database) -> Reading:
        """Begin to read. `database` keeps the positions of brokers that keep none."""

    def writing(self) -> Writing: ...
