"""What Prometheus reads: numbers that all processes share come from the database, one histogram from this process."""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from connector.clock import SECOND, Millis
from connector.inbox import parking
from connector.privacy.store import unfinished
from connector.quality.silence import silent
from connector.quality.store import FAULTS, heard
from connector.reporting import dead_letters, destinations, segments, streams, verifications
from connector.reporting.counts import counts
from connector.reporting.sources import ACCEPTED, REJECTED
from connector.storage import counters, server
from connector.storage.backup import files
from connector.streams import store as stream_store

if TYPE_CHECKING:
    from connector.services import Services

log = structlog.get_logger(__name__)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series per histogram that nobody reads

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_COUNT_MEMBERS_EVERY: Millis = 30 * SECOND  # it reads every membership: 0.06 s for a million of them
_WRITE_EVERY = 5.0  # seconds between two writes of this process's counts
_MOST_LABELS = 1000  # of a process between two flushes: senders of nonsense must not fill our memory

# counter -> (metric, help, names of the parts of its label)
_COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    ACCEPTED: ("storecue_deliveries_accepted", "Deliveries that were kept and acknowledged.", ("source",)),
    REJECTED: ("storecue_deliveries_rejected", "Requests refused at the door.", ("source", "reason")),
    "deliveries": ("storecue_deliveries_processed", "Deliveries worked off, each once.", ("source", "topic")),
    "skipped": ("storecue_deliveries_skipped", "Deliveries that mean nothing to us.", ("source", "reason")),
    "dead_letters": ("storecue_dead_letters", "Deliveries that went to dead letters.", ("reason",)),
    FAULTS: ("storecue_delivery_faults", "Noticed in deliveries that counted all the same.", ("source", "fault")),
    stream_store.READ: ("storecue_stream_read", "Records of topics, by what became of them.", ("stream", "outcome")),
    stream_store.PUBLISHED: ("storecue_stream_published", "Things published to topics.", ("stream", "outcome")),
    stream_store.ERRORS: ("storecue_stream_errors", "Rounds that a broker made fail.", ("stream", "reason")),
    "pushes": ("storecue_pushes", "Items sent to vendors.", ("destination", "status")),
}


_UNERASED = ("pending", "dead")


class Metrics:
    """The measurements of one process, and its view of those that all share.

    `accepted` and `rejected` only add to a number in memory; `flush` brings the sums to the database.
    """

    def __init__(self, services: "Services", now: Callable[[], Millis]) -> None:
        self._services = services
        self._now = now
        self._lock = threading.Lock()
        self._unwritten: Counter[tuple[str, str]] = Counter()
        self._writer: threading.Thread | None = None
        self._closed = threading.Event()
        self.registry = CollectorRegistry()
        self._acknowledged = Histogram(
            "storecue_acknowledgement_seconds",
            "From the last byte of a delivery to its acknowledgement, in this process.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_Shared(services, now))
        ProcessCollector(registry=self.registry)

    def accepted(self, source: str, seconds: float, count: int = 1) -> None:
        """A request of `count` deliveries was kept, and acknowledged after `seconds`."""
        self._acknowledged.observe(seconds)
        self._add(ACCEPTED, source, count)

    def rejected(self, source: str, reason: str) -> None:
        """A request was refused. `source` must be a configured one, or a constant such as `unknown`."""
        self._add(REJECTED, f"{source}/{reason}")

    def close(self) -> None:
        """Write what was counted, and stop writing."""
        self._closed.set()
        self.flush()

    def flush(self) -> None:
        """Write what was counted. A database that fails keeps the counts for the next time."""
        with self._lock:
            counted, self._unwritten = self._unwritten, Counter()
        if not counted:
            return
        try:
            with self._services.database.tx(beside=True) as tx:
                counters.add(tx, counted, self._now())
        except BaseException:
            with self._lock:
                self._unwritten.update(counted)
            raise

    def exposition(self) -> bytes:
        """The metrics as text, in Prometheus' format."""
        try:
            self.flush()
        except SQLAlchemyError as error:
            log.warning("metrics.not_written", error=type(error).__name__)
        return generate_latest(self.registry)

    def _add(self, name: str, label: str, count: int = 1) -> None:
        with self._lock:
            if len(self._unwritten) < _MOST_LABELS or (name, label) in self._unwritten:
                self._unwritten[name, label] += count
            if self._writer is None:  # here and not at the start, which may come before a fork
                self._writer = threading.Thread(target=self._write, name="metrics-writer", daemon=True)
                self._writer.start()

    def _write(self) -> None:
        while not self._closed.wait(_WRITE_EVERY):
            try:
                self.flush()
            except SQLAlchemyError as error:
                log.warning("metrics.not_written", error=type(error).__name__)


class _Shared:
    """A prometheus collector that reads the database at each scrape, so that several processes agree."""

    def __init__(self, services: "Services", now: Callable[[], Millis]) -> None:
        self._services = services
        self._now = now
        self._members: tuple[Millis, dict[str, int]] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: registration must not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of it, or no more than that the database cannot be asked: half of it would be mistaken for all."""
        disk = shutil.disk_usage(self._services.settings.data_dir).free
        yield _gauge("storecue_disk_free_bytes", "Free for the data directory.", (), [((), disk)])
        try:
            found = list(self._found())
        except SQLAlchemyError as error:
            log.warning("metrics.not_read", error=type(error).__name__)
            found = []
        known = [((), int(bool(found)))]
        yield _gauge("storecue_database_known", "1 while the database can be asked.", (), known)
        yield from found

    def _found(self) -> Iterator[Metric]:
        now = self._now()
        names = self._services.configuration()
        log = self._services.log.standing()
        oldest = self._services.log.oldest(log)
        with self._services.database.read() as state:
            counted = counts(state, *_COUNTERS)
            waiting, cues = destinations.pending(state), destinations.pending_cues(state)
            accounts = destinations.accounts(state)
            waits = {name: destinations.held(state, row, name) for name, row in accounts.items()}
            held = {name: row["contacts"] for name, row in waits.items() if row is not None}
            letters = dead_letters.by_reason(state)
            parked = parking.standing(state)
            verified = verifications.latest(state)
            members = self._count_members(state, now)
            erasures = {(row["destination"], row["state"]): row["contacts"] for row in unfinished(state)}
            good = heard(state)
            followed = streams.standings(state, names.streams)
            sizes = self._sizes(state)
        known = not log.trouble
        yield from _counter_families(counted)
        yield _gauge(
            "storecue_log_known",
            "1 while the log can be asked what waits in it.",
            ("log",),
            [((log.log,), int(known))],
        )
        lag = [((), log.lag)] if known else []
        yield _gauge("storecue_lag", "Deliveries that wait to be processed.", (), lag)
        yield _gauge(
            "storecue_partition_lag",
            "The same by partition of the log.",
            ("part",),
            [((str(part.part),), part.lag) for part in log.partitions],
        )
        age = 0.0 if oldest is None else max(0, now - oldest) / SECOND
        ages = [((), age)] if known and (oldest is not None or not log.lag) else []
        yield _gauge("storecue_lag_seconds", "How long the oldest delivery has been waiting.", (), ages)
        yield _gauge(
            "storecue_parked_customers",
            "Customers held up by a delivery that broke us.",
            (),
            [((), parked["customers"])],
        )
        alive = Counter(one.kind for one in self._services.turns.processes())
        kinds = [((kind,), alive[kind]) for kind in ("worker", "push")]
        yield _gauge("storecue_processes", "Processes that live and work.", ("kind",), kinds)
        since = {(one.work, one.name): one.since for one in self._services.turns.held()}
        single = [("push", name) for name in names.destinations] + [("stream", name) for name in names.streams]
        yield _gauge(
            "storecue_turn_held",
            "1 while a process does what only one may do at a time, 0 while none does.",
            ("work", "name"),
            [(turn, int(turn in since)) for turn in single],
        )
        yield _gauge(
            "storecue_turn_held_seconds",
            "For how long the same process has done it.",
            ("work", "name"),
            [(turn, max(0, now - since.get(turn, now)) / SECOND) for turn in single],
        )
        yield _gauge("storecue_parked", "Their deliveries that wait.", (), [((), parked["deliveries"])])
        age = 0.0 if parked["oldest_at"] is None else max(0, now - parked["oldest_at"]) / SECOND
        yield _gauge("storecue_parked_seconds", "How long the first of them has been held up.", (), [((), age)])
        yield _gauge(
            "storecue_erasures",
            "Contacts that the law wants erased: pending, or dead when the vendor refused.",
            ("destination", "state"),
            [((name, state), erasures.get((name, state), 0)) for name in names.destinations for state in _UNERASED],
        )
        yield _gauge(
            "storecue_dead_letters_open",
            "Dead letters that nobody has dealt with.",
            ("kind", "reason"),
            letters.items(),
        )
        yield _gauge(
            "storecue_source_last_good_seconds",
            "How long ago the last good delivery of a source was worked off.",
            ("source",),
            [((name,), max(0, now - good[name]) / SECOND) for name in names.sources if name in good],
        )
        yield _gauge(
            "storecue_source_silent",
            "1 when a source has been silent for longer than its silent_after.",
            ("source",),
            [((name,), int(silent(one, good.get(name), now))) for name, one in names.sources.items()],
        )
        yield _gauge(
            "storecue_destination_pending",
            "Contacts whose desired state is not pushed.",
            ("destination",),
            [((name,), waiting.get(name, (0, 0))[0]) for name in names.destinations],
        )
        yield _gauge(
            "storecue_destination_oldest_pending_seconds",
            "How long the oldest of them has been waiting.",
            ("destination",),
            [
                ((name,), max(0, now - waiting[name][1]) / SECOND if name in waiting else 0)
                for name in names.destinations
            ],
        )
        yield _gauge(
            "storecue_destination_pending_cues",
            "Trigger events that wait.",
            ("destination",),
            [((name,), cues.get(name, 0)) for name in names.destinations],
        )
        yield _gauge(
            "storecue_destination_active",
            "1 while a destination is pushed to, 0 while it is paused or locked out.",
            ("destination",),
            [((name,), int(accounts.get(name, {}).get("state", "active") == "active")) for name in names.destinations],
        )
        yield _gauge(
            "storecue_destination_held",
            "Contacts that wait until somebody approves a change to too many.",
            ("destination",),
            [((name,), held.get(name, 0)) for name in names.destinations],
        )
        yield _gauge(
            "storecue_destination_drifted",
            "Contacts of the last read-back that were not as they were pushed.",
            ("destination",),
            [((name,), row["drifted"]) for name, row in verified.items() if name in names.destinations],
        )
        yield _gauge(
            "storecue_destination_verified_timestamp_seconds",
            "When a destination was last read back, or could not be.",
            ("destination",),
            [((name,), row["at"] / SECOND) for name, row in verified.items() if name in names.destinations],
        )
        yield _gauge(
            "storecue_database_bytes",
            "How large each database is, with its write-ahead log.",
            ("database",),
            [((name,), size) for name, size in sizes.items()],
        )
        yield _gauge(
            "storecue_stream_lag",
            "Records of a topic that are still to be read, or things that are to be published.",
            ("stream",),
            [((one["name"],), one["lag"]) for one in followed if one["lag"] is not None],
        )
        yield _gauge(
            "storecue_stream_lag_seconds",
            "How far behind the end of a topic we are, where the broker tells that.",
            ("stream",),
            [((one["name"],), one["lag_ms"] / SECOND) for one in followed if one["lag_ms"] is not None],
        )
        yield _gauge(
            "storecue_stream_active",
            "1 while a stream is read or published to, 0 while that fails or waits.",
            ("stream",),
            [((one["name"],), int(one["state"] == "active")) for one in followed],
        )
        yield _gauge(
            "storecue_segment_members",
            "People in each segment.",
            ("segment",),
            [((name,), members.get(name, 0)) for name in names.segments],
        )

    def _sizes(self, state: Connection) -> dict[str, int]:
        settings = self._services.settings
        if self._services.database.dialect != "sqlite":
            return {"state": server.size(state)}
        return {name: _size(path) for name, path in files(settings.database_url, settings.inbox_url)._asdict().items()}

    def _count_members(self, state: Connection, now: Millis) -> dict[str, int]:
        if self._members is None or now - self._members[0] >= _COUNT_MEMBERS_EVERY:
            self._members = (now, segments.counts(state))
        return self._members[1]


def _counter_families(counted: dict[tuple[str, str], tuple[int, Millis]]) -> Iterator[Metric]:
    for counter, (metric, text, labels) in _COUNTERS.items():
        family = CounterMetricFamily(metric, text, labels=labels)
        for (name, label), (count, _) in sorted(counted.items()):
            if name == counter:
                parts = label.split("/", len(labels) - 1)
                family.add_metric([*parts, *[""] * (len(labels) - len(parts))], count)
        yield family


def _size(path: Path) -> int:
    """Bytes of a database that others may shrink meanwhile."""
    size = 0
    for file in (path, Path(f"{path}-wal")):
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for parts, value in values:
        family.add_metric(parts, value)
    return family
