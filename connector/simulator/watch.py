"""What the demo knows of itself: numbers from the connector's REST API, contacts and journals of the fake vendors."""

import re
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import requests

from connector.simulator.delivery import Webhook
from connector.simulator.vendors import FakeVendor

_ADDRESS = re.compile(rb"[a-z0-9.+_-]+@example\.(?:com|net|org)")
_WINDOW = 10.0
_SAMPLES = 200


class TagChange(NamedTuple):
    """A tag that appeared at, or went from, a fake vendor's contact."""

    at: float
    vendor: str
    email: str
    tag: str
    added: bool


@dataclass
class VendorView:
    """One fake vendor as the demo sees it. `delays` are seconds from an order's sending to the next write to its
    buyer's contact, for people the vendor already knew; `first_tag` seconds after the demo's start."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    contacts: int = 0
    tagged: int = 0
    events: int = 0
    first_tag: float | None = None
    recent: deque[float] = field(default_factory=deque)
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    tags: dict[str, frozenset[str]] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)

    @property
    def rate_limited(self) -> int:
        """Requests answered with 429."""
        return self.statuses[429]

    @property
    def server_errors(self) -> int:
        """Requests answered with a 5xx."""
        return sum(count for status, count in self.statuses.items() if status >= 500)

    @property
    def delay(self) -> float | None:
        """The median of the last delays, in seconds."""
        return median(self.delays) if self.delays else None

    @property
    def per_second(self) -> float:
        """Requests per second over the last ten seconds."""
        return len(self.recent) / _WINDOW


@dataclass
class SegmentView:
    """A segment as the API shows it."""

    id: str
    name: str
    members: int


class Watch:
    """Looks at the connector and the fakes; each `look_...` takes new numbers. `began` is a time.monotonic()."""

    def __init__(self, vendors: Sequence[FakeVendor], began: float) -> None:
        self._vendors = vendors
        self.began = began
        self.vendors: dict[str, VendorView] = {vendor.vendor: VendorView() for vendor in vendors}
        self.segments: list[SegmentView] = []
        self.profiles = 0
        self.processed = 0
        self.waiting = 0
        self.dead_letters = 0
        self.unreachable = ""
        self.changes: deque[TagChange] = deque(maxlen=100)
        self._session = requests.Session()
        self._url = ""

    @property
    def first_tag(self) -> float | None:
        """Seconds from the start to the first tag at any vendor."""
        seen = [view.first_tag for view in self.vendors.values() if view.first_tag is not None]
        return min(seen) if seen else None

    def connect(self, url: str, token: str) -> None:
        """Names the connector whose API is to be looked at."""
        self._url = url
        self._session.headers["Authorization"] = f"Bearer {token}"

    def sent(self, webhook: Webhook) -> None:
        """Notes that an order is on its way: its buyer's contact is bound to change at every vendor that has it."""
        if webhook.topic == "orders/create" and (match := _ADDRESS.search(webhook.body)):
            email = match[0].decode()
            for view in self.vendors.values():
                if email in view.tags:
                    view.waiting.setdefault(email, time.time())

    def look_at_vendors(self) -> None:
        """Contacts, tags and new requests of the fakes. Journals are emptied: a demo may run for days."""
        now = time.monotonic()
        for vendor in self._vendors:
            view = self.vendors[vendor.vendor]
            rows = vendor.requests[:]
            del vendor.requests[: len(rows)]
            for row in rows:
                view.requests += 1
                view.statuses[row.status] += 1
                view.recent.append(row.monotonic)
            while vendor.touched:
                at, email = vendor.touched.popleft()
                if (began := view.waiting.pop(email, None)) is not None:
                    view.delays.append(at - began)
            while view.recent and view.recent[0] < now - _WINDOW:
                view.recent.popleft()
            self._compare(vendor, view, now)

    def _compare(self, vendor: FakeVendor, view: VendorView, now: float) -> None:
        contacts = vendor.contacts()
        tags = {email: frozenset(contact["tags"]) for email, contact in contacts.items()}
        for email, held in tags.items():
            before = view.tags.get(email, frozenset())
            for tag in sorted(held ^ before):
                self.changes.append(TagChange(now, vendor.vendor, email, tag, tag in held))
        view.tags, view.contacts = tags, len(contacts)
        view.tagged = sum(bool(held) for held in tags.values())
        view.events = len(vendor.events())
        if view.tagged and view.first_tag is None:
            view.first_tag = now - self.began

    def look_at_connector(self) -> None:
        """Segments, people and what waits, from the REST API. A connector that does not answer is noted, no error."""
        try:
            self.segments = [
                SegmentView(item["id"], item["name"], item["members"]) for item in self._get("segments")["items"]
            ]
            status = self._get("status")
            self.waiting = status["lag"]
            self.dead_letters = sum(item["count"] for item in status["dead_letters"])
            self.processed = sum(item["processed"] for item in self._get("sources")["items"])
            self.profiles = self._count("profiles")
            self.unreachable = ""
        except (requests.RequestException, ValueError, KeyError) as error:
            self.unreachable = f"{type(error).__name__}: {error}"[:200]

    def _get(self, noun: str, **query: Any) -> Mapping[str, Any]:
        answer = self._session.get(f"{self._url}/api/v1/{noun}", params=query, timeout=5)
        answer.raise_for_status()
        body: Mapping[str, Any] = answer.json()
        return body

    def _count(self, noun: str) -> int:
        total, cursor = 0, None
        while True:
            page = self._get(noun, limit=200, **({"cursor": cursor} if cursor else {}))
            total += len(page["items"])
            cursor = page.get("next")
            if not cursor:
                return total

    def close(self) -> None:
        """Closes the connection to the API."""
        self._session.close()
