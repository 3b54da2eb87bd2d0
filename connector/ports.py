"""Every seam of StoreCue on one screen: the log, sources, conditions. Destinations: `adapters.destination`."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from connector.clock import Millis
from connector.domain import Delivery, Facts, Json, Normalised, RawRequest, StoreInfo, Verdict
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


Settled = Callable[[NotDurable | None], None]
"""What hears that deliveries are durable (None), or that they will never be; called by a thread of the log's."""


class EventLog(Protocol):
    """The durable, partitioned log of deliveries. Everything here happens outside the effects' transaction."""

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

    def done(self, part: int, pos: int) -> None:
        """Everything below `pos` is settled: the lag metric and retention may use it."""


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
