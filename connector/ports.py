"""Every seam of StoreCue on one screen: the log, sources, conditions. Destinations: `adapters.destination`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from sqlalchemy import Connection

from adapters.destination import Clock
from connector.clock import Millis
from connector.domain import AdminConfig, Delivery, Facts, Json, Normalised, RawRequest, StoreInfo, Verdict
from connector.errors import NotDurable


class New(NamedTuple):
    """A delivery to append. `key` is the customer key that chooses the partition; `headers` is a JSON text."""

    key: str
    source: str
    delivery_id: str
    topic: str
    received_at: Millis
    headers: str
    body: bytes


class Rec(NamedTuple):
    """A record of one partition. Positions ascend and may have gaps."""

    pos: int
    key: str
    source: str
    delivery_id: str
    topic: str
    received_at: Millis
    headers: str
    body: bytes


class Partition(NamedTuple):
    """One partition of the log: `head` is the next position to be written, `position` the next to be worked on."""

    part: int
    head: int
    position: int

    @property
    def lag(self) -> int:
        """Deliveries that wait; where positions have gaps, at most."""
        return max(0, self.head - self.position)


class Standing(NamedTuple):
    """How the log stands. `log`: what it is, for people; `trouble`: why nothing is known, and who must act; `note`:
    what somebody should know of it."""

    log: str
    partitions: Sequence[Partition]
    trouble: str = ""
    note: str = ""

    @property
    def lag(self) -> int:
        return sum(part.lag for part in self.partitions)


Settled = Callable[[NotDurable | None], None]
"""What hears that deliveries are durable (None), or that they will never be; called by a thread of the log's."""


class EventLog(Protocol):
    """The durable, partitioned log of deliveries. Everything but `archive` happens outside the effects' transaction."""

    def create(self) -> None:
        """Make what is missing. Raises ConfigurationError when that takes somebody's doing."""

    def append(self, items: Sequence[New], timeout: float = 3.0) -> None:
        """Durable on return; raises NotDurable when `timeout` seconds did not suffice."""

    def submit(self, items: Sequence[New], settled: Settled) -> None:
        """The same without waiting: `settled` is called once, sooner or later."""

    def fill(self, wait: float) -> bool:
        """True when a partition may have records past its position; waits up to `wait` seconds for one."""

    def batch(self, limit: int) -> tuple[int, list[Rec]] | None:
        """Up to `limit` records of ONE partition from where we left off, or None."""

    def rewind(self, part: int, pos: int) -> None:
        """Forget buffers; the next batch of `part` starts at `pos`."""

    def leave(self, part: int, pos: int) -> None:
        """Another worker is at work on `part`: go on with others, and come back to `pos` a little later."""

    def done(self, part: int, pos: int) -> None:
        """Everything below `pos` is settled: the lag metric and retention may use it."""

    def archive(self, tx: Connection, part: int, records: Sequence[Rec]) -> None:
        """In the effects' transaction: what was worked off is in the table `delivery` from then on, if it was not."""

    def standing(self) -> Standing:
        """Every partition, its head and how far it was worked off. Positions are read first, so that a lag is never
        understated by what happens in between."""

    def oldest(self, standing: Standing) -> Millis | None:
        """When the delivery was received that waits longest; None when none waits, or when it is not known."""

    def check(self) -> None:
        """Returns when deliveries can be kept at this moment; raises NotDurable."""

    def prune(self, before: Millis) -> int:
        """The number of things forgotten that the log keeps beside deliveries, older than `before` and not waiting."""

    def close(self) -> None:
        """Writes what is queued, and lets others take over what is read here."""


class Claim(NamedTuple):
    """How a delivery is filed before anyone reads it: the sender's id, its topic and the customer key.

    `body`: the part of the request that is this delivery, where it is not all of it.
    """

    delivery_id: str
    topic: str
    key: str
    headers: dict[str, str]
    body: bytes | None = None


class Reply(NamedTuple):
    """What a sender is answered that only tries the address."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Source(Protocol):
    """A system that sends us deliveries: is it genuine, which delivery is it, what does it mean."""

    kind: str

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one secret fits the raw bytes; raises RejectedDelivery(status=401) otherwise."""

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data, read from headers and by a byte search: the body is not parsed. Raises RejectedDelivery.

        A request of many events is split here, at the border, so that each has its own customer key, its own id and,
        if need be, its own dead letter. None at all: genuine, and nothing to keep; it is acknowledged all the same.
        """

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the delivery means. Raises UnprocessableEvent; an unknown topic is Normalised(skipped=...)."""


@runtime_checkable
class Configurable(Protocol):
    """A Source of which each configured one is different: it takes `options` in storecue.yaml."""

    def configured(self, options: Mapping[str, Json]) -> Source:
        """The source as these options want it. DefinitionError with a JSON pointer into them."""


@runtime_checkable
class Thanks(Protocol):
    """A Source whose sender's own client wants another answer than ours to what was kept."""

    accepted: Reply


@runtime_checkable
class Greets(Protocol):
    """A Source whose sender tries an address before it uses it: a challenge, an OPTIONS, an unsigned ping."""

    def greet(self, request: RawRequest, secrets: Sequence[str]) -> Reply | None:
        """The answer to a request of any method that is no delivery; None for what may be one. It is asked first, and
        nothing is kept. Raises RejectedDelivery."""


class Bulk(NamedTuple):
    """How a bulk operation stands at the source: `state` running, ready or failed; `url` of the result, of `size` bytes
    and `found` records; `partial`: it failed, and the url is of what it had found until then."""

    state: str
    objects: int
    found: int | None = None
    size: int | None = None
    url: str | None = None
    ended_at: Millis | None = None
    partial: bool = False
    message: str = ""


class Record(NamedTuple):
    """A thing of the source's past: its id and the instant of its version, beside the body of its delivery."""

    id: str
    updated_at: Millis
    body: bytes


class Page(NamedTuple):
    """Some records, and where the next ones begin; None at the end."""

    records: Sequence[Record]
    next: str | None


class Finding(NamedTuple):
    """What was found wrong or right with the access to a source: `hint` says what, and who must act."""

    name: str
    good: bool
    hint: str


class History(Protocol):
    """A source's own API: what was there before, and what was missed. Every call may raise an adapters.errors one."""

    kinds: Sequence[str]
    signs: str | None
    """The secret by which deliveries of its subscriptions are signed, where it is known."""

    def count(self, kind: str, since: Millis | None) -> int | None:
        """About how many there are; None when the source does not say."""

    def begin(self, kind: str, since: Millis | None, asked_at: Millis) -> str | None:
        """The id of a bulk operation that fetches everything of a kind that changed since, the one from before a crash
        (not older than `asked_at`) if there is one; None when it refuses, and pages must do."""

    def look(self, operation: str) -> Bulk:
        """How the operation stands."""

    def cancel(self, operation: str) -> None:
        """Stops it, if it still runs."""

    def download(self, url: str, start: int) -> "tuple[int, Iterator[bytes]]":
        """Where the pieces begin, which is `start` or 0, and the pieces of the result."""

    def owner(self, line: bytes) -> tuple[str, bool]:
        """The id of the record that a line of the result belongs to, and whether it is the record's own line."""

    def record(self, kind: str, line: bytes, parts: Sequence[bytes]) -> Record:
        """The record of a line with the lines that belong to it."""

    def page(self, kind: str, since: Millis | None, cursor: str | None) -> Page:
        """The next records that changed since, where the source can: oldest change first."""

    def delivery(self, kind: str, record: Record, received_at: Millis, *, quiet: bool) -> New:
        """The record as a delivery of the source, under a topic of its own. `quiet`: it may fire nothing."""

    def subscriptions(self, address: str) -> "dict[str, bool]":
        """Topic that we use -> whether it is sent to `address`."""

    def subscribe(self, topics: Sequence[str], address: str) -> "dict[str, str]":
        """Topic -> why it could not be subscribed; empty when all could."""

    def findings(self, now: Millis) -> list[Finding]:
        """The access itself: the login, what it may read, the age of the API's version."""

    def days(self, days: Sequence[tuple[Millis, Millis]]) -> list[int]:
        """How many orders were placed in each of these spans [from, to)."""

    def close(self) -> None: ...


@runtime_checkable
class Remembers(Protocol):
    """A Source that can be asked for its past."""

    def history(self, name: str, config: AdminConfig, clock: Clock) -> History:
        """Its API, by credentials that are opened already. `name` is the source's."""


class Api(Protocol):
    """A source's own API as it is asked day by day. Every call may raise an adapters.errors one."""

    def close(self) -> None: ...


@runtime_checkable
class FetchesThings(Api, Protocol):
    """An Api of a source whose deliveries only name what has changed."""

    def fetch(self, kind: str, id_: str, asked_at: Millis, *, quiet: bool) -> New:
        """The thing as a delivery of the source, received at `asked_at`, its id made of the thing and its version; that
        it is gone, likewise. Rejected concerns this thing alone, Transient too unless nothing can be asked for."""


class Changes(NamedTuple):
    """Some of what has changed, as deliveries, the oldest change first; `until`: the instant of the latest; `next`:
    where more begin."""

    deliveries: Sequence[New]
    until: Millis | None
    next: str | None


@runtime_checkable
class TellsChanges(Api, Protocol):
    """An Api of a source that tells nothing by itself: it is asked for each of `kinds` once in `every`."""

    kinds: Sequence[str]
    every: Millis

    def changes(self, kind: str, since: Millis | None, cursor: str | None, begun_at: Millis, now: Millis) -> Changes:
        """What has changed since, and a little before, because a change may become visible late; None: everything.
        What changed before `begun_at` is history, and fires nothing."""


class Access(NamedTuple):
    """What the `admin` of a source must say. `shop`: a pattern, and `example` of it; `credentials`: the sets of secrets
    of which one is needed; `required`: the source is of no use without."""

    shop: str
    example: str
    credentials: Sequence[Sequence[str]]
    required: bool = True


@runtime_checkable
class Asked(Protocol):
    """A Source that has to be asked for what it does not tell."""

    access: Access

    def api(self, name: str, config: AdminConfig, clock: Clock) -> Api:
        """Its API, by credentials that are opened already. `name` is the source's."""


@runtime_checkable
class Silent(Protocol):
    """A Source that sends no deliveries, and has no secrets to prove them: it is asked only."""

    silent: bool


@runtime_checkable
class Pasted(Protocol):
    """A Source whose sender has to be given something: an address with a token, headers, a body template."""

    def paste(self, address: str, secrets: Sequence[str]) -> str:
        """What to paste there, for people, line by line. Never a secret itself."""


class Needs(NamedTuple):
    """Events a condition reads: name and how far back in milliseconds (None: all of them)."""

    event: str
    reach: Millis | None


class Condition(Protocol):
    """One compiled condition. `check` is pure; `sql` is its set-based twin (see segments.sql)."""

    def check(self, facts: Facts, now: Millis) -> Verdict: ...

    def needs(self) -> tuple[Needs, ...]: ...
