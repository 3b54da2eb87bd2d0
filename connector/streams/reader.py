"""A topic read into a source: each record durable in the log before its position is."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.exc import OperationalError

from connector.clock import Millis
from connector.errors import NotDurable, RejectedDelivery, StreamUnavailable
from connector.ports import EventLog, New
from connector.storage.database import Database
from connector.streams import store
from connector.streams.arrival import Arrival
from connector.streams.port import Broker, Lag, Poison, Reading, Record

log = structlog.get_logger("streams")

_BATCH = 500  # records of one append
_DURABLE_WITHIN = 3.0  # seconds
_LONGEST_REST = 30.0


class Reader:
    """Reads one stream. `step` does one round; who runs it decides when to stop.

    A record whose append was refused is held, and the broker is asked for no more, until the log takes it. Whatever
    else fails is left to whoever opens the topic anew: what was not settled comes again, and is known by its id.
    """

    counter = store.READ

    def __init__(
        self,
        name: str,
        broker: Broker,
        arrival: Callable[[], Arrival],
        log_: EventLog,
        database: Database,
    ) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.resting = ""  # why nothing is read on
        self._broker = broker
        self._arrival = arrival
        self._log = log_
        self._database = database
        self._reading: Reading | None = None
        self._held: list[Record] = []
        self._buried: set[str] = set()  # of those held
        self._rests = 0
        self._again_at = 0.0

    def step(self, now: Millis, wait: float, stopped: Callable[[], bool] = lambda: False) -> int:
        """The number of records settled. Raises StreamUnavailable."""
        if self._reading is None:
            self._reading = self._broker.reading(self._database)
        reading = self._reading
        try:
            return self._round(reading, now, wait)
        except StreamUnavailable:
            raise
        except BaseException:
            self.close()
            raise

    def _round(self, reading: Reading, now: Millis, wait: float) -> int:
        if self._held:
            came = reading.rest(min(wait, max(0.005, self._again_at - time.monotonic())))
            self._held = [record for record in (*self._held, *came) if reading.is_ours(record)]
            if time.monotonic() < self._again_at:
                return 0
        else:
            self._held = reading.read(_BATCH, wait, now)
        if not self._held:
            self.resting = ""
            return 0
        records = self._held
        try:
            self._keep(reading, records, now)
            reading.settle(records)
        except (NotDurable, OperationalError) as fault:
            self._rest(fault)
            return 0
        self._held, self._rests, self.resting = [], 0, ""
        self._buried.clear()
        return len(records)

    def _keep(self, reading: Reading, records: Sequence[Record], now: Millis) -> None:
        """Everything durable: deliveries in the log, and what is none among the dead letters."""
        arrival = self._arrival()
        items: list[New] = []
        poison: list[Poison] = []
        empty = 0
        for record in records:
            try:
                found = arrival.deliveries(record, now)
            except RejectedDelivery as error:
                poison.append((record, error))
                continue
            items += found
            empty += not found
        if fresh := [one for one in poison if one[0].place not in self._buried]:
            if left := reading.bury(fresh):
                with self._database.tx() as tx:
                    store.bury_records(tx, self.name, left, now)
            self._buried |= {record.place for record, _ in fresh}
        if items:
            self._log.append(items, _DURABLE_WITHIN)
        self.counts["kept"] += len(records) - len(poison) - empty
        self.counts["empty"] += empty
        for record, refusal in poison:
            self.counts[refusal.reason] += 1
            log.warning("stream.refused", stream=self.name, place=record.place, reason=refusal.reason)

    def _rest(self, error: NotDurable | OperationalError) -> None:
        self._rests += 1
        wait = min(2.0**self._rests / 4, _LONGEST_REST)
        self._again_at = time.monotonic() + wait
        self.resting = error.message if isinstance(error, NotDurable) else "the database cannot be written"
        log.warning("stream.waits", stream=self.name, hint=self.resting, wait=wait)

    def lag(self) -> Lag:
        return self._reading.lag() if self._reading is not None else Lag()

    def close(self) -> None:
        """Leave the broker. What is held comes again."""
        reading, self._reading, self._held = self._reading, None, []
        self._buried.clear()
        if reading is not None:
            reading.close()
