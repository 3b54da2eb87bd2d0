"""Who asks the sources: one thread among all workers, beside the senders and beside whoever fetches the past."""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import OperationalError

from connector.clock import Millis
from connector.fetch.work import Fetching
from connector.services import Services
from connector.sync.turn import Turn

log = structlog.get_logger("fetch")

_IDLE_WAIT = 0.5  # seconds between looks at what is due
_STOP_WITHIN = 5.0  # seconds for a call under way


class Errands:
    """Steps of `fetch.work` in a thread of their own, while it is our turn."""

    def __init__(self, services: Services, now: Callable[[], Millis]) -> None:
        self._services = services
        self._now = now
        self._fetching = Fetching(services.database, services.log, services.api)
        self._version = -1
        self._turn = Turn(services.settings.data_dir, "things", "fetch")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self) -> bool:
        """Ask for what is due; False when nothing is, or when it is another worker's turn."""
        configuration = self._services.configuration()
        sources = {name: config for name, config in configuration.sources.items() if config.admin is not None}
        if (not sources and configuration.version == self._version) or not self._turn.take():
            return False
        self._version = configuration.version  # once without any source: what the last one left is forgotten
        return self._fetching.step(sources, configuration.version, self._now())

    def start(self) -> None:
        """Step in a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_WITHIN)
        self._fetching.close()
        self._turn.give_back()

    def _run(self) -> None:
        busy = False
        while not self._stopping.wait(0.0 if busy else _IDLE_WAIT):
            try:
                busy = self.step()
            except OperationalError as error:
                busy = False
                log.error("fetch.database_failed", hint=str(error.orig))
            except Exception:
                busy = False
                log.exception("fetch.failed")
