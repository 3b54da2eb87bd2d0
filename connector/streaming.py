"""The streams of one worker process: a thread for each, beside the senders."""

import threading
import time
from collections.abc import Callable
from functools import partial

from connector.clock import Millis
from connector.domain import Configuration, StreamConfig
from connector.services import Services
from connector.storage.database import Database
from connector.streams import BROKERS, store
from connector.streams.arrival import Arrival, arrival_of
from connector.streams.holder import Holder, Work
from connector.streams.port import Account
from connector.streams.reader import Reader
from connector.streams.writer import Writer

_STOP_WITHIN = 5.0  # seconds for what is under way at the brokers


class Streaming:
    """Starts and ends the threads. `threads` False: whoever tests runs the holders."""

    def __init__(self, services: Services, now: Callable[[], Millis], *, threads: bool = True) -> None:
        self._services = services
        self._now = now
        self._threads = threads
        self._running: list[tuple[Holder, threading.Event, threading.Thread]] = []

    def configure(self, configuration: Configuration) -> None:
        """End the threads of the configuration before, and start those of this one."""
        self.close()
        streams, services = configuration.streams, self._services
        with services.database.tx() as tx:
            store.forget_others(tx, streams, [one.name for one in streams.values() if one.publish])
        for config in streams.values() if self._threads else ():
            turn = services.turns.of("stream", config.name)
            holder = Holder(config.name, partial(work_on, services, config, turn.database), turn)
            stop = threading.Event()
            thread = threading.Thread(
                target=holder.run, args=(stop, self._now), name=f"stream-{config.name}", daemon=True
            )
            thread.start()
            self._running.append((holder, stop, thread))

    def close(self) -> None:
        """End the threads; what they had not settled is found again by the next."""
        for holder, stop, _ in self._running:
            stop.set()
            holder.wake.set()
        deadline = time.monotonic() + _STOP_WITHIN
        for _, _, thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._running.clear()


def work_on(services: Services, config: StreamConfig, database: Database) -> Work:
    """What there is to do for a stream. Raises ConfigurationError for a secret that cannot be read."""
    credentials = {name: services.vault.resolve(secret) for name, secret in config.credentials.items()}
    broker = BROKERS[config.kind](Account(config, credentials))
    if config.into is None:
        return Writer(config.name, broker, database)
    return Reader(config.name, broker, partial(_arrival, services, config.into), services.log, database)


def _arrival(services: Services, name: str) -> Arrival:
    """How records become deliveries, by the source as it is configured now."""
    return arrival_of(services.configuration(), name, services.sources()[name][0], services.settings.max_body)
