"""Who fetches what was before and what was missed: one thread among all workers, beside the senders."""

from collections.abc import Callable, Mapping

from connector.backfill.reconcile import Reconciler
from connector.backfill.store import due
from connector.backfill.work import Backfills, Histories
from connector.background import STOP_WITHIN, Background
from connector.clock import Millis
from connector.domain import SourceConfig
from connector.ports import Remembers
from connector.services import Services

_IDLE_WAIT = 1.0  # seconds between looks at what is due


class Past:
    """Backfills and the hourly comparison, one step after the other."""

    def __init__(self, services: Services, now: Callable[[], Millis]) -> None:
        self._services = services
        self._now = now
        self._histories = Histories(services.history)
        self._turn = services.turns.of("fetch", "sources")
        common = (self._turn.database, services.log)
        self._backfills = Backfills(*common, services.settings.data_dir, self._histories)
        self._reconciler = Reconciler(*common, self._histories, services.settings.public_url)
        self._background = Background("past", self.step, _IDLE_WAIT)

    def step(self) -> bool:
        """Do what is due, a step; False when nothing is, or when it is another worker's turn."""
        return self.step_backfill() or self.step_reconcile()

    def step_backfill(self) -> bool:
        """The next step of a backfill."""
        sources = self._services.configuration().sources
        return self._mine(sources) and self._backfills.step(sources, self._now())

    def step_reconcile(self) -> bool:
        """The next step of the hourly look."""
        kinds = self._services.source_kinds
        configured = self._services.configuration().sources
        sources = {name: config for name, config in configured.items() if isinstance(kinds[config.kind], Remembers)}
        if not self._mine(sources):
            return False
        secrets = {name: held for name, (_, held) in self._services.sources().items()}
        return self._reconciler.step(sources, secrets, self._now())

    def _mine(self, sources: Mapping[str, SourceConfig]) -> bool:
        """Whether there is anything to ask, and no other worker does. A cancelled backfill has to be ended even when
        its source has no API any more."""
        asks = any(config.admin for config in sources.values())
        with self._services.database.read() as connection:
            asks = asks or bool(due(connection, self._now()))
        return asks and self._turn.take()

    def start(self) -> None:
        """Step in a thread of its own, until `close`."""
        self._background.start()

    def stop(self) -> None:
        self._background.stop()

    def close(self, within: float = STOP_WITHIN) -> None:
        self._background.close(within)
        self._histories.close()
        self._turn.give_back()
