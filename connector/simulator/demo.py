"""`storecue demo`: a simulated store, the connector, and three fake vendors on this machine, seen at work."""

import contextlib
import fcntl
import io
import json
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.live import Live

from connector import clock
from connector.clock import DAY, SECOND
from connector.errors import ConfigurationError
from connector.simulator import screen
from connector.simulator.catalogue import HERO
from connector.simulator.sender import Sender, Tally
from connector.simulator.store import Shop
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor, Faults
from connector.simulator.watch import Watch

MARKER = "DEMO"
PACE = 40.0
"""How many times faster than people the demo's visitors act: a visit that ends in an order takes some four seconds."""
DELIVERIES_PER_VISIT = 8.0
"""Measured over 400 live visits; turns a rate of deliveries into a rate of visits."""
HISTORY = 60 * DAY
ERROR_RATE = 0.01
LATENCY = 0.02
HURRY = 200.0
"""Divides Shopify's waits between retries, of which the first is 56 s."""

_SECRET = "shpss_demo_0f2c9a417be84d6f"
_KEYS = {
    "SHOPIFY_SECRET": _SECRET,
    "KLAVIYO_KEY": "pk_demo_5d1f0a7c",
    "HUBSPOT_TOKEN": "pat-eu1-demo-77aa",
    "MAILCHIMP_KEY": "demo0f2c9a417be84d6f-us21",
}
_LIST = "a1b2c3d4e5"


class Running(NamedTuple):
    """A connector at work: where its HTTP server is, and a token for its API."""

    url: str
    token: str


@dataclass(frozen=True)
class DemoSetup:
    """What the connector is to be started with."""

    data_dir: Path
    config_file: Path
    environment: Mapping[str, str]


StartConnector = Callable[[DemoSetup], AbstractContextManager[Running]]


class Demo:
    """One run. `start_connector` gives a running connector, already configured from the setup's file."""

    def __init__(self, setup_dir: Path, seed: int, rate: float, start_connector: StartConnector) -> None:
        self._data_dir = setup_dir
        self._start_connector = start_connector
        self.fakes: tuple[FakeVendor, ...] = _fakes(seed)
        self._shop = Shop(
            seed, people=240, secret=_SECRET, pace=PACE, sessions_per_hour=rate / DELIVERIES_PER_VISIT * 3600
        )
        self._stopping = threading.Event()
        self._url = ""
        self.watch = Watch(self.fakes, time.monotonic())
        self.tally = Tally()
        self.stage = "starting"

    def run(self, duration_s: float | None, look: Callable[[], None]) -> None:
        """Runs for `duration_s` seconds, or until interrupted; calls `look` about four times a second."""
        ends = None if duration_s is None else self.watch.began + duration_s
        with contextlib.ExitStack() as stack:
            stack.callback(self.watch.close)
            for fake in self.fakes:
                stack.enter_context(fake)
            look()
            running = stack.enter_context(self._start_connector(self._setup()))
            self._url = running.url
            self.watch.connect(running.url, running.token)
            sender = stack.enter_context(Sender(f"{running.url}/webhooks/shopify/shop", hurry=HURRY))
            self.tally = sender.tally
            feeder = threading.Thread(target=self._feed, args=(sender,), name="shop", daemon=True)
            feeder.start()
            try:
                self._watch(ends, look)
            finally:
                self._stopping.set()
                feeder.join(timeout=2)
                sender.settle(timeout=2)
                self.watch.look_at_vendors()
                self.watch.look_at_connector()

    def render(self) -> Any:
        """The screen as of now."""
        return screen.render(self.watch, self.tally, self._url, self.stage)

    def summary(self, seed: int) -> dict[str, Any]:
        """What happened, for machines."""
        watch, tally = self.watch, self.tally
        return {
            "seed": seed,
            "seconds": round(time.monotonic() - watch.began, 1),
            "deliveries": {
                "sent": tally.sent,
                "accepted": tally.accepted,
                "duplicates": tally.repeats,
                "attempts": tally.attempts,
                "processed": watch.processed,
            },
            "profiles": watch.profiles,
            "dead_letters": watch.dead_letters,
            "segments": {segment.id: segment.members for segment in watch.segments},
            "first_tag_seconds": _rounded(watch.first_tag),
            "destinations": {
                name: {
                    "contacts": view.contacts,
                    "tagged_contacts": view.tagged,
                    "events": view.events,
                    "requests": view.requests,
                    "429s": view.rate_limited,
                    "5xx": view.server_errors,
                    "first_tag_seconds": _rounded(view.first_tag),
                    "order_to_contact_p50_ms": None if view.delay is None else round(view.delay * 1000),
                }
                for name, view in watch.vendors.items()
            },
        }

    def report(self) -> str:
        """What happened, for people."""
        watch, tally = self.watch, self.tally
        lines = [
            f"{tally.accepted:,} of {tally.sent:,} deliveries accepted, {watch.profiles:,} people, first tag after"
        ]
        lines[0] += f" {watch.first_tag:.1f} s" if watch.first_tag is not None else " -"
        lines += [f"  {segment.name}: {segment.members:,}" for segment in watch.segments]
        lines += [
            f"  {screen.NAMES[name]}: {view.contacts:,} contacts, {view.tagged:,} tagged, {view.requests:,} requests"
            for name, view in watch.vendors.items()
        ]
        return "\n".join(lines)

    def _watch(self, ends: float | None, look: Callable[[], None]) -> None:
        tick = 0
        while ends is None or time.monotonic() < ends:
            self.watch.look_at_vendors()
            if tick % 4 == 0:
                self.watch.look_at_connector()
            look()
            tick += 1
            time.sleep(0.25 if ends is None else max(0.0, min(0.25, ends - time.monotonic())))

    def _feed(self, sender: Sender) -> None:
        """Sixty days at once, then what happens now, each delivery when its time has come."""
        self.stage = "sixty days of history"
        now = clock.now()
        for webhook in self._shop.history(now - HISTORY, now):
            if self._stopping.is_set():
                return
            sender.send(webhook)
        self.stage = "live traffic"
        for webhook in self._shop.run(clock.now()):
            if self._stopping.wait(max(0.0, (webhook.at - clock.now()) / SECOND)):
                return
            self.watch.sent(webhook)
            sender.send(webhook)

    def _setup(self) -> DemoSetup:
        file = self._data_dir / "storecue.yaml"
        file.write_text(configuration({fake.vendor: fake.url for fake in self.fakes}), encoding="utf-8")
        return DemoSetup(self._data_dir, file, _KEYS)


def run_demo(
    *,
    data_dir: Path,
    seed: int,
    duration_s: float | None,
    headless: bool,
    as_json: bool,
    rate: float,
    start_connector: StartConnector,
    picture: Path | None = None,
) -> int:
    """0 when the demo ran until its time was up or it was interrupted. ConfigurationError when `data_dir` holds
    anything but a demo's data; a former demo's data is thrown away, since the fakes have forgotten it."""
    if not 0 < rate <= 1000:
        raise ConfigurationError(f"a rate of {rate:g} is not possible; use 0.1 to 1000 deliveries per second")
    with _claimed(data_dir):
        demo = Demo(data_dir, seed, rate, start_connector)
        with _terminable(), contextlib.suppress(KeyboardInterrupt):
            if headless:
                demo.run(duration_s, look=lambda: None)
            else:
                with Live(demo.render(), console=Console(stderr=as_json), screen=True, auto_refresh=False) as live:
                    demo.run(duration_s, look=lambda: live.update(demo.render(), refresh=True))
        if picture is not None:
            picture.write_text(svg(demo.render()), encoding="utf-8")
        sys.stdout.write((json.dumps(demo.summary(seed)) if as_json else demo.report()) + "\n")
    return 0


def svg(screen: Any) -> str:
    """A screen as an SVG that loads nothing: Rich's own asks a CDN for its font."""
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
    console.print(screen, height=38)
    own_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="storecue demo", code_format=own_fonts)


def configuration(urls: Mapping[str, str]) -> str:
    """The demo's storecue.yaml; `urls` holds each fake vendor's address."""
    return _CONFIGURATION.format(hero=HERO, list=_LIST, **urls)


_CONFIGURATION = """\
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  shop: {{kind: shopify, secrets: ["env:SHOPIFY_SECRET"]}}
destinations:
  klaviyo:
    kind: klaviyo
    credentials: {{api_key: "env:KLAVIYO_KEY"}}
    base_url: {klaviyo}
    allow_insecure: true      # the fakes of this demo speak plain http on loopback
    events: true
  hubspot:
    kind: hubspot
    credentials: {{access_token: "env:HUBSPOT_TOKEN"}}
    base_url: {hubspot}
    allow_insecure: true
  mailchimp:
    kind: mailchimp
    credentials: {{api_key: "env:MAILCHIMP_KEY"}}
    list_id: {list}
    base_url: {mailchimp}
    allow_insecure: true
fields:
  total_spent:    {{from: traits.total_spent}}
  orders_count:   {{from: traits.orders_count}}
  last_order_at:  {{from: traits.last_order_at}}
segments:
  high-value-infrequent:
    name: High-value, infrequent
    when:
      all:
        - {{event: Order Completed, sum: {{of: total, ">": 2000}}}}
        - {{event: Order Completed, count: {{distinct: day, "<": 3}}, within: 365d}}
  viewed-not-bought:
    name: Viewed the down jacket, not buying
    when:
      all:
        - {{event: Product Viewed, where: {{product_id: "{hero}"}}, within: 48h}}
        - not: {{event: Order Completed, within: 30d}}
  abandoned-checkout:
    name: Abandoned checkout
    when: {{event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}}
  recent-buyers:
    name: Bought in the last 7 days
    when: {{event: Order Completed, within: 7d}}
  vip:
    name: VIP
    when: {{any: [{{trait: total_spent, ">=": 1000}}, {{trait: tags, contains: vip}}]}}
  lapsed-vip:
    name: Lapsed VIP
    when: {{all: [{{segment: vip}}, {{not: {{segment: recent-buyers}}}}]}}
"""


def _fakes(seed: int) -> tuple[FakeVendor, ...]:
    def options(number: int) -> dict[str, Any]:
        faults = Faults(latency=LATENCY, error_rate=ERROR_RATE, seed=seed + number)
        return {"seed": seed + number, "faults": faults}

    return (
        FakeKlaviyo(api_key=_KEYS["KLAVIYO_KEY"], **options(1)),
        FakeHubSpot(access_token=_KEYS["HUBSPOT_TOKEN"], **options(2)),
        FakeMailchimp(api_key=_KEYS["MAILCHIMP_KEY"], list_id=_LIST, **options(3)),
    )


@contextlib.contextmanager
def _claimed(data_dir: Path) -> Iterator[None]:
    """The directory, emptied, for one demo at a time. ConfigurationError when it is somebody else's."""
    marker = data_dir / MARKER
    if data_dir.exists() and not data_dir.is_dir():
        raise ConfigurationError(f"{data_dir} is not a directory")
    if data_dir.exists() and any(data_dir.iterdir()) and not marker.is_file():
        raise ConfigurationError(
            f"{data_dir} holds data that is not a demo's; name an empty or a new directory with --data"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    with marker.open("a", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(f"a demo is already running in {data_dir}") from None
        if held.tell() == 0:
            held.write("The data of `storecue demo`, thrown away by the next one.\n")
            held.flush()
        for entry in data_dir.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != marker:
                entry.unlink()
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that the connector's processes end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
