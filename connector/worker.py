"""The worker: follows the log, minds the clock, refills changed rules, pushes. It asks the clock; all else is told."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from connector import clock
from connector.clock import Millis
from connector.domain import DestinationConfig
from connector.errors import ConnectorError, Fenced
from connector.fetching import Errands
from connector.housekeeping import Housekeeping
from connector.inbox import notes, parking
from connector.inbox.care import Care, faults_of_ours, stalled
from connector.inbox.notes import Note, Notes
from connector.inbox.parking import Parking
from connector.inbox.runner import run_once, suspect
from connector.jobs import Jobs
from connector.past import Past
from connector.pipeline import Pipeline
from connector.ports import Rec
from connector.privacy.contacts import Eraser
from connector.privacy.work import PrivacyWork
from connector.profiles.duplicates.search import DuplicateSearch
from connector.quality.silence import SilenceAlarm
from connector.segments import store as segment_store
from connector.services import Services
from connector.storage.turns import Turn
from connector.streaming import Streaming
from connector.sync.duplicates import Duplicates
from connector.sync.nightly import Nightly
from connector.sync.poll import Poller
from connector.sync.push import Pusher

log = structlog.get_logger("worker")

_DUE = 500  # people whose windows have lapsed, in one transaction
_IDLE_WAIT = 0.1  # seconds without news before the clock is looked at again
_LOOK_EVERY = 0.5  # seconds between looks for a newer configuration
_BROKEN_WAITS: Millis = clock.HOUR  # until a person whose evaluation raised is looked at again
_STOP_WITHIN = 5.0  # seconds for calls under way at the vendors: whoever stops us may kill after 10


class Worker:
    """One worker process. `run` returns after `stop`; everything it had not committed is found again by the next.

    `line`: follow the log and do what waits; `send`: speak to vendors, sources and brokers. `push` False: whoever tests
    runs the senders, by `push_once`.
    """

    def __init__(
        self,
        services: Services,
        now: Callable[[], Millis] = clock.now,
        *,
        push: bool = True,
        line: bool = True,
        send: bool = True,
    ) -> None:
        self.services = services
        self.now = now
        self.stopping = threading.Event()
        self._push = push
        self._follows, self._sends = line, send
        self._version = -1
        self._looked_at = float("-inf")
        self._pushers: dict[str, tuple[Pusher, threading.Event, threading.Thread | None]] = {}
        self._pollers: dict[str, tuple[Poller, threading.Event, threading.Thread | None]] = {}
        self._care = Care()
        self.notes = Notes(services.settings.data_dir)
        self.parking = Parking(services.database, self._line, self.notes)
        self.jobs = Jobs(services.database)
        self.housekeeping = Housekeeping(services)
        self.duplicates = DuplicateSearch(services.database)
        self.alarm = SilenceAlarm(services.database)
        self.privacy = PrivacyWork(services.database, services.inbox, services.log)
        self.past = Past(services, now)
        self.errands = Errands(services, now)
        self.streaming = Streaming(services, now, threads=push and send)
        self.pipeline: Pipeline

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `stop`. A fault outside a record is logged and tried again after a second."""
        self.services.turns.announce("worker" if self._follows else "push")
        self.notes.hangs_after = notes.HANGS_AFTER
        self.refresh()
        if self._sends:
            self.past.start()
            self.errands.start()
        log.info("worker.started")
        busy = False
        while not self.stopping.is_set():
            try:
                busy = self.step(wait=0.0 if busy else _IDLE_WAIT) > 0
            except Fenced:
                busy = True
            except OperationalError as error:  # the disk is full, or somebody holds the lock: one line says it all
                busy = False
                log.error("worker.database_failed", hint=str(error.orig))
                self.stopping.wait(1)
            except ConnectorError as error:  # it says itself who must act
                busy = False
                log.error("worker.waits", reason=error.reason, hint=error.message)
                self.stopping.wait(1)
            except Exception:
                busy = False
                log.exception("worker.failed")
                self.stopping.wait(1)
        self.close()
        log.info("worker.stopped")

    def step(self, wait: float = 0.0) -> int:
        """One round: a batch of the log, the people that are due, a piece of background work; how much was done."""
        self.refresh()
        if not self._follows:
            self.stopping.wait(wait)
            return 0
        done = self._watched(lambda: self._follow_log(wait))
        done += self._watched(lambda: self.parking.step(self.now()))
        done += self._mind_clock()
        if done:
            self._wake()
        if self.jobs.step(self.pipeline, self.now()):
            self._wake()
            done += 1
        if self.privacy.step(self.pipeline.configuration.destinations, self.pipeline.recompute, self.now()):
            self._wake()
            done += 1
        if not done and self.duplicates.step(self.now()):
            done += 1
        self.housekeeping.step(self.now())
        self.alarm.step(self.pipeline.configuration.sources, self.now())
        return done

    def stop(self) -> None:
        self.stopping.set()
        self._wake()

    def close(self) -> None:
        """Stop the senders and whoever fetches, and wait for their calls under way: for all of them together."""
        deadline = time.monotonic() + _STOP_WITHIN
        self.past.stop()
        self.errands.stop()
        self._stop_pushers()
        self.past.close(max(0.0, deadline - time.monotonic()))
        self.errands.close(max(0.0, deadline - time.monotonic()))
        self.streaming.close()
        self.notes.close()

    def _stop_pushers(self) -> None:
        threads: list[tuple[Pusher | Poller, threading.Event, threading.Thread | None]]
        threads = [*self._pollers.values(), *self._pushers.values()]
        for one, stop, _ in threads:
            stop.set()
            one.wake.set()
        deadline = time.monotonic() + _STOP_WITHIN
        for one, _, thread in threads:
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
            elif isinstance(one, Pusher):
                one.close()
        self._pushers.clear()
        self._pollers.clear()

    def _line(self, tx: Connection, records: Sequence[Rec], now: Millis) -> Mapping[Rec, Exception]:
        return self.pipeline.handle(tx, records, now)

    def _follow_log(self, wait: float) -> int:
        services = self.services
        self.notes.settle(lambda note: self._suspect("worker.died", note))
        return run_once(services.database, services.log, self._handle, wait=wait, care=self._care)

    def _handle(self, tx: Connection, records: Sequence[Rec]) -> None:
        care = self._care
        if care.fault is not None:
            self.parking.put_aside(tx, records[0], care.fault, self.now())
        else:
            first = records[0]
            note = Note(care.part, first.pos, records[-1].pos + 1, len(records), first.source, first.delivery_id)
            with self.notes.at(note):
                self.parking.work_off(tx, records, self.now())

    def _watched(self, work: Callable[[], int]) -> int:
        """How much was done. A record over which the database loses its patience with us is as one that kills."""
        try:
            return work()
        except Exception as error:
            if not stalled(error) or self.notes.last is None:
                raise
            self._suspect("worker.stalled", self.notes.last)
            return 1

    def _suspect(self, what: str, note: Note) -> None:
        """Remember what a worker was at when it came to grief."""
        log.error(what, **note._asdict())
        with self.services.database.tx() as tx:
            if note.parked:
                parking.killed(tx, note, self.now())
            else:
                suspect(tx, note)

    def _mind_clock(self) -> int:
        with self.services.database.read() as connection:
            due = segment_store.due(connection, self.now(), _DUE)
        if due:
            # The clock is asked again under the lock: another worker may have been a little later already, and an
            # earlier instant would bring back what has lapsed.
            try:
                with self.services.database.tx(beside=True) as tx:
                    self.pipeline.tick(tx, due, self.now())
            except Exception as error:
                if faults_of_ours(error):
                    raise
                self._mind_singly(due)
        return len(due)

    def _mind_singly(self, due: Sequence[int]) -> None:
        """Decide for one person after the other, because one of them breaks us: that one waits, and holds up nobody."""
        for person in due:
            try:
                with self.services.database.tx() as tx:
                    self.pipeline.tick(tx, [person], self.now())
            except Exception as error:
                if faults_of_ours(error):
                    raise
                log.exception("worker.profile_failed", profile=person)
                with self.services.database.tx() as tx:
                    now = self.now()
                    segment_store.postpone(tx, person, now, now + _BROKEN_WAITS)

    # --- configuration -----------------------------------------------------------------------------------------------

    def refresh(self, *, force: bool = False) -> None:
        """Take up the applied configuration when it has changed: the line, background work, senders."""
        moment = time.monotonic()
        if not force and moment - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = moment
        configuration = self.services.configuration()
        if configuration.version == self._version:
            return
        ruleset = self.services.ruleset()
        self.pipeline = Pipeline(configuration, ruleset, self.services.source_kinds)
        self.jobs.plan(self.pipeline, self.now())
        self._version = configuration.version
        self._start_pushers()
        self.streaming.configure(configuration)
        log.info("worker.configured", version=configuration.version, segments=len(configuration.segments))

    def _start_pushers(self) -> None:
        self._stop_pushers()
        configuration = self.pipeline.configuration
        for config in configuration.destinations.values() if self._sends else ():
            turn = self.services.turns.of("push", config.name)
            eraser = Eraser(turn.database, config.name)
            nightly = Nightly(turn.database, config, configuration, self.services.log.append)
            duplicates = Duplicates(turn.database, config.name, self.services.log.append)
            pusher = Pusher(
                config,
                configuration,
                self.services.connect,
                turn,
                first=eraser.step,
                then=duplicates.step,
                idle=nightly.step,
                credentials=self.services.credentials,
            )
            stop = threading.Event()
            thread = None
            if self._push:
                thread = threading.Thread(
                    target=pusher.run, args=(stop, self.now), name=f"push-{config.name}", daemon=True
                )
                thread.start()
            self._pushers[config.name] = (pusher, stop, thread)
            if config.engagement is not None:
                self._start_poller(config, turn)

    def _start_poller(self, config: DestinationConfig, turn: Turn) -> None:
        poller = Poller(config, self.services.connect, turn, self.services.log.append)
        stop, thread = threading.Event(), None
        if self._push:
            thread = threading.Thread(target=poller.run, args=(stop, self.now), name=f"poll-{config.name}", daemon=True)
            thread.start()
        self._pollers[config.name] = (poller, stop, thread)

    def poll_once(self) -> int:
        """One look of every poller in this thread, for tests that run without threads."""
        return sum(self._in_turn(name, poller.step) for name, (poller, _, _) in self._pollers.items())

    def push_once(self) -> int:
        """One round of every sender in this thread, for tests and benchmarks that run without threads."""
        return sum(self._in_turn(name, pusher.step) for name, (pusher, _, _) in self._pushers.items())

    def _in_turn(self, destination: str, step: Callable[[Millis], int]) -> int:
        turn = self._pushers[destination][0].turn
        if not turn.take():
            return 0
        try:
            return step(self.now())
        finally:
            turn.give_back()

    def _wake(self) -> None:
        for pusher, _, _ in self._pushers.values():
            pusher.wake.set()
