"""Asking a destination's account what people did with its mails, where no webhook tells: a thread of its own beside the
sender, because an unsubscription must not wait until a first push of everybody is over."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from adapters.destination import Activity, Destination, TellsActivity
from adapters.errors import DeliveryError, Transient
from connector.clock import MINUTE, SECOND, Millis, parse_duration
from connector.domain import DestinationConfig
from connector.errors import ConnectorError, Fenced
from connector.ports import New
from connector.sources import engagement
from connector.storage.turns import Turn
from connector.sync import store

log = structlog.get_logger("poll")

_LOOK_EVERY = 5.0  # seconds between looks whether it is time
_RETRY: Millis = MINUTE  # after a fault, unless the account asked for more
_REMEMBERED = 100_000  # of what was told last: overlaps and retries tell it again


class Poller:
    """The asking of one destination. `step` asks when it is time; the worker calls it from a thread."""

    def __init__(
        self,
        config: DestinationConfig,
        connect: Callable[[DestinationConfig, Turn], Destination],
        turn: Turn,
        tell: Callable[[Sequence[New]], None],
    ) -> None:
        """`turn` is the sender's: both spend the same limits of the account, so that one process has both. `tell` puts
        deliveries in line; they are durable when it returns."""
        self.wake = threading.Event()
        self._database = turn.database
        self._config = config
        self._name = config.name
        self._every = parse_duration(config.engagement) if config.engagement else None
        self._connect = connect
        self._turn = turn
        self._tell = tell
        self._told: OrderedDict[str, None] = OrderedDict()
        self._stopping: Callable[[], bool] = lambda: False

    def run(self, stop: threading.Event, now: Callable[[], Millis]) -> None:
        """Ask whenever it is time until `stop` is set, while it is the turn of the sender beside us. A fault of ours is
        logged and tried again; it never ends the thread."""
        self._stopping = stop.is_set
        while not stop.is_set():
            try:
                if self._turn.left() > 0:
                    self.step(now())
            except Fenced as error:
                log.warning("poll.fenced", destination=self._name, hint=error.message)
            except Exception:
                log.exception("poll.failed", destination=self._name)
            self.wake.wait(_LOOK_EVERY)
            self.wake.clear()

    def step(self, now: Millis) -> int:
        """How much was told. The first look only notes the instant: what was before is nobody's news."""
        if self._every is None:
            return 0
        with self._database.read() as connection:
            row, account = store.poll_row(connection, self._name), store.account_row(connection, self._name)
        if row is None:
            self._note(watermark=now, due_at=now + self._every, at=now, error="")
            return 0
        if row["due_at"] > now or (account is not None and account["state"] != "active"):
            return 0
        try:
            count = self._ask(row["watermark"], now)
        except (SQLAlchemyError, Fenced):
            raise  # the disk, or another process asks by now: the account is not at fault
        except (DeliveryError, ConnectorError) as error:
            asked = int(error.retry_after * SECOND) if isinstance(error, Transient) else self._every
            log.warning("poll.postponed", destination=self._name, reason=error.reason, hint=error.message)
            self._note(due_at=now + max(asked, _RETRY), at=now, error=error.message)
            return 0
        self._note(due_at=now + self._every, at=now, error="")
        if count:
            log.info("poll.done", destination=self._name, told=count)
        return count

    def _ask(self, since: Millis, now: Millis) -> int:
        """Page by page: what was told is durable before the watermark passes it, so that a crash repeats and loses
        nothing, and a repeat is the same delivery."""
        adapter, count = self._connect(self._config, self._turn), 0
        try:
            if not isinstance(adapter, TellsActivity):
                return 0
            for page in adapter.activity(since):
                count += self._keep(page.activities, now)
                if page.until is not None:
                    since = max(since, page.until)
                    self._note(watermark=since)
                if self._stopping():
                    break
        finally:
            adapter.close()
        return count

    def _keep(self, activities: Sequence[Activity], now: Millis) -> int:
        news = [engagement.delivery(self._name, one, now) for one in activities if one.key not in self._told]
        if news:
            self._tell(news)
        for one in activities:
            self._told[one.key] = None
            self._told.move_to_end(one.key)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return len(news)

    def _note(self, **values: Any) -> None:
        with self._database.tx(beside=True) as tx:
            store.set_poll(tx, self._name, **values)
