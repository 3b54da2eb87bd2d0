"""The fake vendors as recorders: what each accepted for whom, in order, and what they must show in the end."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor
from connector.simulator.vendors.server import Request, Response

CONFIG = """
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  shop: {{kind: shopify, secrets: [hush]}}
destinations:
  klaviyo:
    kind: klaviyo
    credentials: {{api_key: pk_fake}}
    base_url: "{klaviyo}"
    allow_insecure: true
    events: true
    at_most_every: 0s
  hubspot:
    kind: hubspot
    credentials: {{access_token: pat-fake}}
    base_url: "{hubspot}"
    allow_insecure: true
    at_most_every: 0s
  mailchimp:
    kind: mailchimp
    credentials: {{api_key: 0123456789abcdef0123456789abcdef-us21}}
    list_id: a1b2c3d4e5
    base_url: "{mailchimp}"
    allow_insecure: true
    at_most_every: 0s
    create_contacts: always
fields:
  total_spent: {{from: traits.total_spent}}
  orders_count: {{from: traits.orders_count}}
segments:
  recent-buyers:
    name: Bought in the last 7 days
    when: {{event: Order Completed, within: 7d}}
  returning:
    name: Bought three times
    when: {{event: Order Completed, count: {{">=": 3}}}}
  vip:
    name: VIP
    when: {{trait: total_spent, ">=": 300}}
"""


class Esp:
    """The three vendors. `states`: for each vendor and address the order counts it was shown, in the order in which
    they took effect; they only ever grow. `cues`: how often each cue's key was sent, repeats of one key included."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.cues = Counter[str]()
        self._waited_for = threading.Event()
        self._strike: Callable[[], None] | None = None
        self._after = False
        self.vendors: dict[str, FakeVendor] = {
            "klaviyo": FakeKlaviyo(rate_limits=False, job_seconds=0.1),
            "hubspot": FakeHubSpot(access_token="pat-fake", rate_limits=False),
            "mailchimp": FakeMailchimp(rate_limits=False, batch_seconds=0.1),
        }
        for name, vendor in self.vendors.items():
            self._watch(name, vendor)
            vendor.start()

    @property
    def config(self) -> str:
        return CONFIG.format(**{name: vendor.url for name, vendor in self.vendors.items()})

    def close(self) -> None:
        for vendor in self.vendors.values():
            vendor.close()

    def _watch(self, name: str, vendor: FakeVendor) -> None:
        handle, touch, touched = vendor.handle, vendor.touch, set[str]()

        def watched(request: Request) -> Response | None:
            strike = self._taken() if request.method != "GET" else None
            if strike and not self._after:
                strike()
            response = handle(request)  # not what a batch asks inside it
            self._note(name, vendor, touched)
            if strike and self._after:
                strike()
            if "/api/events" in request.path and request.method == "POST":
                self.cues[request.json["data"]["attributes"]["unique_id"]] += 1
            return response

        def touching(email: str | None) -> None:
            touch(email)
            touched.update([email] if email else [])

        vendor.handle = watched  # type: ignore[method-assign]
        vendor.touch = touching  # type: ignore[method-assign]

    def _note(self, name: str, vendor: FakeVendor, touched: set[str]) -> None:
        with vendor.lock:
            contacts = vendor.contacts() if touched else {}  # which may end jobs of the vendor's that are due
            while touched:
                email = touched.pop()
                count = orders_shown(contacts[email]) if email in contacts else None
                states = self.states[name, email]
                if count is not None and states[-1:] != [count]:
                    states.append(count)

    def _taken(self) -> Callable[[], None] | None:
        strike, self._strike = self._strike, None
        return strike

    @contextmanager
    def at_next_write(self, strike: Callable[[], None], *, after: bool) -> Iterator[threading.Event]:
        """Calls `strike` in the middle of the next write to any vendor: before it is applied, or after it and before
        its answer. The event is set once that has happened."""
        struck = threading.Event()

        def once() -> None:
            strike()
            struck.set()

        self._after, self._strike = after, once
        yield struck
        self._strike = None

    @property
    def backwards(self) -> int:
        """States that took effect after a newer one of the same contact."""
        return sum(later < earlier for states in self.states.values() for earlier, later in pairwise(states))


def orders_shown(contact: dict[str, Any]) -> float | None:
    """The contact's orders_count; Mailchimp shortens the name, HubSpot keeps texts."""
    found = [
        value for name, value in contact["fields"].items() if name.lower()[:5] == "order" and value not in (None, "")
    ]
    return float(found[0]) if found else None
