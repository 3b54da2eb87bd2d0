"""Who works on a stream: one thread among all processes, which tells how it stands."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog

from connector.clock import Millis
from connector.errors import ConnectorError, Fenced
from connector.storage import counters
from connector.storage.turns import Turn
from connector.streams import store
from connector.streams.port import Lag

log = structlog.get_logger("streams")

_WAIT = 0.25  # seconds for records: how long a stop may go unheard
_TELL_EVERY = 2.0
_LONGEST_REST = 30.0


class Work(Protocol):
    """Reading or publishing one stream."""

    name: str
    counter: str
    counts: Counter[str]
    resting: str

    def step(self, now: Millis, wait: float, stopped: Callable[[], bool]) -> int: ...

    def lag(self) -> Lag: ...

    def close(self) -> None: ...


class Holder:
    """Runs `open_()`'s work while it is our turn. A fault is told and tried again; it never ends the thread."""

    def __init__(self, name: str, open_: Callable[[], Work], turn: Turn) -> None:
        self.name = name
        self.wake = threading.Event()
        self._open = open_
        self._database = turn.database
        self._turn = turn
        self._work: Work | None = None
        self._told: tuple[str, str] | None = None
        self._tell_at = float("-inf")
        self._failures = 0

    def run(self, stop: threading.Event, now: Callable[[], Millis]) -> None:
        """Work until `stop` is set."""
        while not stop.is_set():
            if not self._turn.take():
                self._leave()
                stop.wait(1)
                continue
            if rest := self.step(now, stop.is_set):
                stop.wait(rest)
            elif not self._busy:
                self.wake.wait(_WAIT)
                self.wake.clear()
        self.close(now())

    _busy = False

    def step(self, now: Callable[[], Millis], stopped: Callable[[], bool] = lambda: False) -> float:
        """One round; gives how many seconds to rest after it."""
        self._busy = False
        try:
            if self._work is None:
                self._work = self._open()
            self._busy = self._work.step(now(), _WAIT, stopped) > 0
        except Fenced as error:
            log.warning("stream.fenced", stream=self.name, hint=error.message)
            return 0.0
        except ConnectorError as error:
            return self._failed(error.reason, error.message, now())
        except Exception as error:
            log.exception("stream.failed", stream=self.name)
            return self._failed("failed", f"a fault of StoreCue: {type(error).__name__}", now())
        self._failures = 0
        if self._work.resting:
            self._tell("waiting", self._work.resting, now())
        else:
            self._tell("active", "", now())
        return 0.0

    def _failed(self, reason: str, message: str, now: Millis) -> float:
        self._failures += 1
        if self._told is None or self._told[1] != message:
            log.error("stream.unavailable", stream=self.name, reason=reason, hint=message)
        self._tell("failing", message, now, {(store.ERRORS, f"{self.name}/{reason}"): 1})
        return min(2.0 ** (self._failures - 1) / 2, _LONGEST_REST)

    def _tell(self, state: str, message: str, now: Millis, counted: dict[tuple[str, str], int] | None = None) -> None:
        """Write down how it stands: at once when that is new, else now and then."""
        if self._told == (state, message) and not counted and time.monotonic() < self._tell_at:
            return
        work = self._work
        counts = {} if work is None else {(work.counter, f"{self.name}/{word}"): n for word, n in work.counts.items()}
        try:
            lag = Lag() if work is None else work.lag()
            with self._database.tx() as tx:
                store.tell(tx, self.name, state, message, lag, now)
                counters.add(tx, {key: count for key, count in {**counts, **(counted or {})}.items() if count}, now)
        except Fenced:
            return  # whoever has the stream tells how it stands
        except Exception:
            log.exception("stream.untold", stream=self.name)
            return
        if work is not None:
            work.counts.clear()
        self._told, self._tell_at = (state, message), time.monotonic() + _TELL_EVERY

    def close(self, now: Millis) -> None:
        """Leave the broker, tell what was counted, let another have the turn."""
        if self._work is not None:
            if self._told is not None:
                self._tell_at = float("-inf")
                self._tell(*self._told, now)
            self._leave()
        self._turn.give_back()

    def _leave(self) -> None:
        """What the work has in memory is gone; what it had not settled comes again."""
        work, self._work = self._work, None
        if work is None:
            return
        try:
            work.close()
        except Exception:
            log.exception("stream.failed", stream=self.name)
