"""Deliveries that broke us, and those of the same customers behind them: kept in order, tried again, never for ever."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from traceback import walk_tb
from typing import Any

import structlog
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update

from connector.clock import MINUTE, SECOND, Millis
from connector.errors import UnprocessableEvent
from connector.inbox import deliveries
from connector.inbox.care import faults_of_ours, with_later
from connector.inbox.notes import KILLED, Note, Notes
from connector.ports import Rec
from connector.storage import counters
from connector.storage.database import Database
from connector.storage.phrases import among
from connector.storage.tables import parked, parked_key

log = structlog.get_logger("worker")

Handle = Callable[[Connection, Sequence[Rec], Millis], Mapping[Rec, Exception]]
"""All effects of the records, but of those it gives back with what they raised: they have had none."""

_WAITS: Sequence[Millis] = (SECOND, 10 * SECOND, MINUTE, 10 * MINUTE)
"""Before the second and each further attempt: a fault that passes does so within minutes, or somebody must act."""

_MOST = 200  # deliveries of one customer that wait: a sender that does not stop must not fill the table
_DEATHS = 4  # of workers, over one delivery alone; who kills workers from outside may meet the same one twice
_CAREFUL = -1  # deaths of a customer over none of whose deliveries alone a worker has died, but over them among others
_KEYS = 50  # customers in one transaction
_PIECE = 20  # deliveries of one of them in it

_KEY = parked_key.c.key == bindparam("key_")
_HELD = select(parked_key).where(among(parked_key.c.key, "keys")).order_by(parked_key.c.key)
_DUE = select(parked_key).where(parked_key.c.due_at <= bindparam("now_")).order_by(parked_key.c.due_at).limit(_KEYS)
_RECORDS = (
    select(parked.c.id, *(parked.c[name] for name in Rec._fields))
    .where(parked.c.key == bindparam("key_"))
    .order_by(parked.c.id)
    .limit(bindparam("limit_"))
)
_GONE = delete(parked).where(parked.c.id == bindparam("id_"))


class Parking:
    """Works records off by `handle`; those that break us hold up nobody but their own customer."""

    def __init__(self, database: Database, handle: Handle, notes: Notes) -> None:
        self._database = database
        self._handle = handle
        self._notes = notes
        self._shown: set[tuple[str, int]] = set()

    def work_off(self, tx: Connection, records: Sequence[Rec], now: Millis) -> None:
        """All effects of the records but of those that have to wait, which are parked. Raises what `handle` raises."""
        free = _join(tx, records, now)
        if free:
            self._park(tx, self._handle(tx, free, now), now)

    def put_aside(self, tx: Connection, record: Rec, fault: Exception, now: Millis) -> None:
        """Park a record that is known to break us."""
        self._park(tx, dict.fromkeys(_join(tx, [record], now), fault), now)

    def step(self, now: Millis) -> int:
        """Try again what is due; the number of deliveries that are done with, or put off once more."""
        with self._database.read() as connection:
            if connection.execute(_DUE, {"now_": now}).first() is None:
                return 0
        with self._database.tx() as tx:
            # What another worker has under way is its own until it is done.
            due = tx.execute(_DUE.with_for_update(skip_locked=True), {"now_": now}).mappings().all()
            customers = [_Customer(row, _records(tx, row["key"], _PIECE)) for row in due]
            for one in customers:
                if one.deaths:
                    # One delivery and no more: what went through must stay so when the next one kills us.
                    self._try(tx, [one], now)
            while trying := [one for one in customers if not one.deaths and one.records and one.due_at <= now]:
                self._try(tx, trying, now)
            for one in customers:
                one.save(tx)
            return sum(one.settled + (one.due_at > now) for one in customers)

    def _try(self, tx: Connection, customers: Sequence["_Customer"], now: Millis) -> None:
        """Take the deliveries of these customers in order until, of each, one fails."""
        pieces = [(one, one.piece()) for one in customers]
        records = [record for _, piece in pieces for _, record in piece]
        faults = self._faults(tx, records, customers[0].deaths, now)
        for one, piece in pieces:
            for id_, record in piece:
                fault = faults.get(record)
                if not one.settle(None if fault is None else told(fault), now):
                    break
                if fault is not None:
                    _bury(tx, record, told(fault), now)
                tx.execute(_GONE, {"id_": id_})
                if fault is not None:
                    break  # those behind it have been given back with it

    def _faults(self, tx: Connection, records: Sequence[Rec], deaths: int, now: Millis) -> Mapping[Rec, Exception]:
        """What these do to us, and those behind each of them; the others are done. One over which so many workers have
        died is not tried."""
        first = records[0]
        if deaths >= _DEATHS:
            return {first: UnprocessableEvent(f"{deaths} workers came to grief over it alone", reason=KILLED)}
        count, at = len(records), (first.source, first.delivery_id)
        note = Note(0, first.pos, first.pos + 1, count, *at, parked=True, deaths=deaths)
        try:
            with self._notes.at(note), tx.begin_nested():
                return self._handle(tx, records, now)
        except Exception as error:
            if faults_of_ours(error):
                raise
            if count == 1:
                return {first: error}
        broken: dict[Rec, Exception] = {}
        for record in records:
            if record not in broken:
                broken = with_later(records, broken | dict(self._faults(tx, [record], deaths, now)))
        return broken

    def _park(self, tx: Connection, broken: Mapping[Rec, Exception], now: Millis) -> None:
        rows = []
        for key, some in _by_key(broken).items():
            first, fault = some[0], broken[some[0]]
            trace = fault if self._is_new(fault) else None
            log.warning("worker.record_parked", source=first.source, delivery=first.delivery_id, exc_info=trace)
            error = told(fault)
            row = {"key": key, "waiting": len(some), "attempts": 1, "due_at": now + _WAITS[0], "since": now}
            rows.append(row | {"message": error.message, "deaths": int(error.reason == KILLED)})
        if rows:
            _add(tx, broken)
            tx.execute(insert(parked_key), rows)

    def _is_new(self, fault: Exception) -> bool:
        """True for the first fault of its place in the code: one trace of it tells as much as thousands."""
        places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(fault.__traceback__)]
        new = bool(places) and places[-1] not in self._shown
        self._shown.update(places[-1:])
        return new


class _Customer:
    """A customer who is held up, and the first of the deliveries that wait."""

    def __init__(self, row: RowMapping, records: list[tuple[int, Rec]]) -> None:
        self.key, self.waiting, self.attempts = row["key"], row["waiting"], row["attempts"]
        self.deaths, self.message, self.due_at = row["deaths"], row["message"], row["due_at"]
        self.records = records
        self.settled = 0

    def piece(self) -> list[tuple[int, Rec]]:
        """What to try next: a single one, of which nobody knows whether it is to blame; after that all."""
        return self.records[:1] if self.deaths or self.attempts else list(self.records)

    def settle(self, fault: UnprocessableEvent | None, now: Millis) -> bool:
        """The first one raised this; True when it is done with, False when it is worth another attempt."""
        if fault is None:
            self.attempts = 0
        else:
            self.attempts, self.message = self.attempts + 1, fault.message
            if self.attempts <= len(_WAITS) and fault.reason != KILLED:
                self.due_at = now + _WAITS[self.attempts - 1]
                return False
        del self.records[0]
        self.settled += 1
        self.deaths = _CAREFUL if self.deaths else 0
        return True

    def save(self, tx: Connection) -> None:
        left = self.waiting - self.settled
        if left:
            news = {"waiting": left, "attempts": self.attempts, "due_at": self.due_at, "message": self.message}
            tx.execute(update(parked_key).where(_KEY).values(news | {"deaths": self.deaths}), {"key_": self.key})
        else:
            tx.execute(delete(parked_key).where(_KEY), {"key_": self.key})


def told(fault: Exception) -> UnprocessableEvent:
    """Why a record is, or may become, a dead letter."""
    if isinstance(fault, UnprocessableEvent):
        return fault
    return UnprocessableEvent(f"{type(fault).__name__}: {fault}", reason="failed")


def killed(tx: Connection, note: Note, now: Millis) -> None:
    """Remember that a worker died over a parked delivery, which waits as after a fault; or over several, each of which
    is to be tried alone then."""
    if note.records > 1:
        tx.execute(update(parked_key).where(parked_key.c.deaths == 0).values(deaths=_CAREFUL))
        return
    same = (parked.c.source == note.source, parked.c.delivery_id == note.delivery, parked.c.pos == note.first)
    keys = select(parked.c.key).where(*same)
    deaths = max(note.deaths, 0) + 1
    due_at = now + _WAITS[deaths - 1] if deaths < _DEATHS else now
    tx.execute(update(parked_key).where(parked_key.c.key.in_(keys)).values(deaths=deaths, due_at=due_at))


def standing(connection: Connection) -> dict[str, Any]:
    """{customers, deliveries, oldest_at}: what is parked, and since when the one that waits longest."""
    query = select(
        func.count().label("customers"),
        func.coalesce(func.sum(parked_key.c.waiting), 0).label("deliveries"),
        func.min(parked_key.c.since).label("oldest_at"),
    )
    row = connection.execute(query).mappings().one()
    return {**row, "deliveries": int(row["deliveries"])}


def forget(tx: Connection, names: Callable[[Rec], bool], until: Millis) -> int:
    """The number of parked deliveries that were received until then, name a person and are gone."""
    query = select(parked.c.id, *(parked.c[name] for name in Rec._fields)).where(parked.c.received_at <= until)
    gone = {row[0]: row.key for row in tx.execute(query) if names(Rec(*row[1:]))}
    keys = sorted(set(gone.values()))
    tx.execute(_HELD.with_for_update(), {"keys": keys}).all()
    count = tx.execute(delete(parked).where(parked.c.id.in_(gone))).rowcount
    left = select(func.count()).where(parked.c.key == parked_key.c.key).scalar_subquery()
    tx.execute(update(parked_key).where(parked_key.c.key.in_(keys)).values(waiting=left, message=""))
    tx.execute(delete(parked_key).where(parked_key.c.waiting == 0))
    return count


def _join(tx: Connection, records: Sequence[Rec], now: Millis) -> list[Rec]:
    """The records whose customers are not held up; the others are put behind those that wait already."""
    if tx.execute(select(parked_key.c.key).limit(1)).first() is None:
        return list(records)
    keys = sorted({record.key for record in records})
    # The lock makes us wait for a worker that has the customer under way, and then see whether any is left.
    held = {row["key"]: row for row in tx.execute(_HELD.with_for_update(), {"keys": keys}).mappings()}
    behind = [record for record in records if record.key in held]
    _add(tx, behind)
    for key, some in _by_key(behind).items():
        waiting = held[key]["waiting"] + len(some)
        if waiting <= _MOST:
            tx.execute(update(parked_key).where(_KEY).values(waiting=waiting), {"key_": key})
        else:
            _release(tx, waiting, key, now)
    return [record for record in records if record.key not in held]


def _release(tx: Connection, waiting: int, key: str, now: Millis) -> None:
    """Too many wait: all are tried at once. Who fails before another has gone through has had its last attempt."""
    news = {"waiting": waiting, "attempts": len(_WAITS), "due_at": now}
    tx.execute(update(parked_key).where(_KEY).values(news), {"key_": key})


def _add(tx: Connection, records: Sequence[Rec] | Mapping[Rec, Exception]) -> None:
    if records:
        tx.execute(insert(parked), [record._asdict() for record in records])


def _by_key(records: Sequence[Rec] | Mapping[Rec, Exception]) -> dict[str, list[Rec]]:
    found: dict[str, list[Rec]] = defaultdict(list)
    for record in records:
        found[record.key].append(record)
    return found


def _records(tx: Connection, key: str, limit: int) -> list[tuple[int, Rec]]:
    return [(row[0], Rec(*row[1:])) for row in tx.execute(_RECORDS, {"key_": key, "limit_": limit})]


def _bury(tx: Connection, record: Rec, error: UnprocessableEvent, now: Millis) -> None:
    """Put a record among the dead letters, once, and count it as worked on."""
    if deliveries.fresh(tx, [record], now):
        log.error("worker.record_failed", source=record.source, delivery=record.delivery_id, reason=error.reason)
        deliveries.add_dead_letters(tx, [(record, error)], now)
        counters.add(tx, {("dead_letters", error.reason): 1}, now)
