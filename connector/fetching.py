"""Who asks the sources: one thread among all workers, beside the senders and beside whoever fetches the past."""

from collections.abc import Callable

from connector.background import STOP_WITHIN, Background
from connector.clock import Millis
from connector.fetch.work import Fetching
from connector.services import Services

_IDLE_WAIT = 0.5  # seconds between looks at what is due


class Errands:
    """Steps of `fetch.work` in a thread of their own, while it is our turn."""

    def __init__(self, services: Services, now: Callable[[], Millis]) -> None:
        self._services = services
        self._now = now
        self._turn = services.turns.of("fetch", "things")
        self._fetching = Fetching(self._turn.database, services.log, services.api)
        self._version = -1
        self._background = Background("fetch", self.step, _IDLE_WAIT)

    def step(self) -> bool:
        """Ask for what is due; False when nothing is, or when it is another worker's turn."""
        configuration = self._services.configuration()
        sources = {name: config for name, config in configuration.sources.items() if config.admin is not None}
        if not sources and configuration.version == self._version:
            return False
        if not self._turn.take():
            self._fetching.forget()
            return False
        self._version = configuration.version  # once without any source: what the last one left is forgotten
        return self._fetching.step(sources, configuration.version, self._now())

    def start(self) -> None:
        """Step in a thread of its own, until `close`."""
        self._background.start()

    def stop(self) -> None:
        self._background.stop()

    def close(self, within: float = STOP_WITHIN) -> None:
        self._background.close(within)
        self._fetching.close()
        self._turn.give_back()
