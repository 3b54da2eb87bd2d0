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
from connector.inbox.care import faults_of_ours
from connector.inbox.notes import KILLED, Note, Notes
from connector.ports import Rec
from connector.storage import counters
from connector.storage.database import Database
from connector.storage.tables import parked, parked_key

log = structlog.get_logger("worker")

Handle = Callable[[Connection, Sequence[Rec], Millis], Mapping[Rec, Exception]]
"""All effects of the records, but of those it gives back with what they raised: they have had none."""

_WAITS: Sequence[Millis] = (SECOND, 10 * SECOND, MINUTE, 10 * MINUTE)
"""Before the second and each further attempt: a fault that passes does so within minutes, or somebody must act."""

_MOST = 200  # deliveries of one customer that wait: a sender that does not stop must not fill the table
_DEATHS = 2  # of workers, over one delivery alone
_KEYS = 20  # customers in one transaction
_PIECE = 50  # deliveries of one of them in it

_KEY = parked_key.c.key == bindparam("key_")
_HELD = select(parked_key).where(parked_key.c.key.in_(bindparam("keys", expanding=True))).order_by(parked_key.c.key)
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
            return sum(self._try(tx, row, now) for row in due)

    def _try(self, tx: Connection, row: RowMapping, now: Millis) -> int:
        """Take a customer's deliveries in order until one fails that is worth another attempt."""
        key, attempts, deaths, message = row["key"], row["attempts"], row["deaths"], row["message"]
        settled, due_at = 0, now
        for id_, record in _records(tx, key, _PIECE):
            fault = self._fault(tx, record, deaths, now)
            if fault is None:
                attempts = 0
            else:
                attempts, message = attempts + 1, fault.message
                if attempts <= len(_WAITS) and fault.reason != KILLED:
                    due_at = now + _WAITS[attempts - 1]
                    break
                _bury(tx, record, fault, now)
            tx.execute(_GONE, {"id_": id_})
            settled, deaths = settled + 1, 0
        left = row["waiting"] - settled
        if left:
            news = {"waiting": left, "attempts": attempts, "due_at": due_at, "message": message, "deaths": deaths}
            tx.execute(update(parked_key).where(_KEY).values(news), {"key_": key})
        else:
            tx.execute(delete(parked_key).where(_KEY), {"key_": key})
        return settled + (due_at > now)

    def _fault(self, tx: Connection, record: Rec, deaths: int, now: Millis) -> UnprocessableEvent | None:
        """What a record does to us when it is tried alone; one that has killed two workers is not."""
        if deaths >= _DEATHS:
            return UnprocessableEvent(f"{deaths} workers came to grief over it alone", reason=KILLED)
        note = Note(0, record.pos, record.pos + 1, 1, record.source, record.delivery_id, parked=True, deaths=deaths)
        try:
            with self._notes.at(note), tx.begin_nested():
                for fault in self._handle(tx, [record], now).values():
                    return told(fault)
        except Exception as error:
            if faults_of_ours(error):
                raise
            return told(error)
        return None

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


def told(fault: Exception) -> UnprocessableEvent:
    """Why a record is, or may become, a dead letter."""
    if isinstance(fault, UnprocessableEvent):
        return fault
    return UnprocessableEvent(f"{type(fault).__name__}: {fault}", reason="failed")


def killed(tx: Connection, note: Note) -> None:
    """Remember that a worker died over a parked delivery."""
    same = (parked.c.source == note.source, parked.c.delivery_id == note.delivery, parked.c.pos == note.first)
    keys = select(parked.c.key).where(*same)
    tx.execute(update(parked_key).where(parked_key.c.key.in_(keys)).values(deaths=note.deaths + 1))


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
