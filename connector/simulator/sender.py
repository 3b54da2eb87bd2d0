"""Posts webhooks to a URL as Shopify does: kept-alive connections, 5 s for an answer, only 2xx counts, 8 retries."""

import heapq
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from connector.simulator.delivery import Webhook

TIMEOUT = 5.0
RETRIES = tuple(14_400 / 255 * 2**attempt for attempt in range(8))
"""Seconds before each of the 8 retries, doubling, 4 hours in all (2024-09; the 19 tries of older texts are gone)."""


@dataclass
class Tally:
    """What became of the deliveries. `accepted` counts deliveries, `attempts` requests; `repeats` are deliveries with a
    webhook id that was sent before; `seconds` holds the time to each 2xx answer."""

    sent: int = 0
    accepted: int = 0
    repeats: int = 0
    attempts: int = 0
    given_up: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


class Sender:
    """Sends with `threads` connections. `hurry` divides the waits between retries; `retry=False` gives up at once.

    `feed` puts deliveries on the way at a rate; they are sent in the background until `close`.
    """

    def __init__(self, url: str, *, threads: int = 4, hurry: float = 1.0, retry: bool = True) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path
        self._waits = tuple(wait / hurry for wait in RETRIES) if retry else ()
        self._due: list[tuple[float, int, int, Webhook]] = []
        self._number = 0
        self._unsettled = 0
        self._changed = threading.Condition()
        self._closing = False
        self.tally = Tally()
        self._threads = [
            threading.Thread(target=self._work, name=f"shopify-{n}", daemon=True) for n in range(max(1, threads))
        ]
        for thread in self._threads:
            thread.start()

    def feed(self, webhooks: Iterable[Webhook], rate: float | None = None, most_waiting: int = 2000) -> None:
        """Sends `webhooks` in order, `rate` per second (None: as fast as they go); returns when the last is on its way.
        Waits while `most_waiting` are unsent."""
        began = time.monotonic()
        for index, webhook in enumerate(webhooks):
            due = began + index / rate if rate else 0.0
            if rate and (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            with self._changed:
                self._changed.wait_for(lambda: self._closing or len(self._due) < most_waiting)
                if self._closing:
                    return
                self.tally.sent += 1
                self.tally.repeats += webhook.repeats
                self.tally.topics[webhook.topic] += 1
                self._unsettled += 1
                self._push(due, 0, webhook)

    def send(self, webhook: Webhook) -> None:
        """Puts one delivery on its way at once."""
        self.feed((webhook,))

    def settle(self, timeout: float) -> bool:
        """Waits until every delivery is accepted or given up; False when `timeout` seconds did not suffice."""
        with self._changed:
            return self._changed.wait_for(lambda: self._unsettled == 0, timeout)

    def close(self) -> None:
        """Stops; what is unsent stays unsent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=TIMEOUT + 1)

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _push(self, due: float, attempt: int, webhook: Webhook) -> None:
        self._number += 1
        heapq.heappush(self._due, (due, self._number, attempt, webhook))
        self._changed.notify()

    def _next(self) -> tuple[int, Webhook] | None:
        """The next delivery that is due and which attempt it is; None when closing."""
        with self._changed:
            while not self._closing:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    _, _, attempt, webhook = heapq.heappop(self._due)
                    self._changed.notify()
                    return attempt, webhook
                self._changed.wait(wait)
        return None

    def _work(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        while (taken := self._next()) is not None:
            attempt, webhook = taken
            began = time.perf_counter()
            status = self._post(connection, webhook)
            self._settled(webhook, attempt, status, time.perf_counter() - began)
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, webhook: Webhook) -> int:
        """The status, or 0 when there was no answer. A kept-alive connection may have gone stale: one more try then."""
        for _ in range(1 if connection.sock is None else 2):
            try:
                connection.request("POST", self._path, webhook.body, dict(webhook.headers))
                answer = connection.getresponse()
                answer.read()
            except TimeoutError:
                connection.close()
                return 0
            except (OSError, http.client.HTTPException):
                connection.close()
            else:
                return answer.status
        return 0

    def _settled(self, webhook: Webhook, attempt: int, status: int, seconds: float) -> None:
        with self._changed:
            self.tally.attempts += 1
            self.tally.statuses[status] += 1
            if 200 <= status < 300:
                self.tally.accepted += 1
                self.tally.seconds.append(seconds)
            elif attempt < len(self._waits):
                self._push(time.monotonic() + self._waits[attempt], attempt + 1, webhook)
                return
            else:
                self.tally.given_up += 1
            self._unsettled -= 1
            self._changed.notify_all()
