"""The only loop, for every log: a batch of one partition is one transaction that moves the position."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from connector.errors import Fenced
from connector.inbox.care import Care
from connector.inbox.notes import Note
from connector.ports import EventLog, Rec
from connector.storage.database import Database
from connector.storage.phrases import upsert
from connector.storage.tables import log_position

Handle = Callable[[Connection, Sequence[Rec]], object]

_FEWER = 16  # 500 records, then 31, then each alone: three deaths find one, and a kill -9 costs sixteen transactions


_FIRST = upsert(log_position).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


class _NotOursError(Exception):
    """The partition's position could not be had."""


def positions(database: Database) -> dict[int, int]:
    """The next position of each partition, as committed with the effects."""
    with database.read() as connection:
        return {part: pos for part, pos in connection.execute(select(log_position.c.part, log_position.c.pos))}


def run_once(
    database: Database,
    log: EventLog,
    handle: Handle,
    *,
    limit: int = 500,
    wait: float = 0.1,
    care: Care | None = None,
) -> int:
    """Works off one batch and returns its number of records. Raises Fenced when another worker was faster: nothing was
    written then, and the log has been rewound. Any exception that `care` has no answer to leaves everything that is not
    done as it was."""
    if not log.fill(wait):
        return 0
    got = log.batch(limit)
    if got is None:
        return 0
    part, records = got
    done = 0
    while records:
        try:
            with database.tx(beside=True) as tx:
                row = _position(tx, part)
                if row is None:
                    raise _NotOursError
                records = [record for record in records if record.pos >= row.pos]
                if not records:
                    log.rewind(part, row.pos)
                    return done
                taken = records if care is None else care.take(part, records, row.risky_to, row.at_once)
                _advance(tx, part, expect=row.pos, to=taken[-1].pos + 1)
                handle(tx, taken)
                log.archive(tx, part, taken)
        except _NotOursError:
            log.rewind(part, records[0].pos)
            if done == 0 and _begin(database, part):
                return run_once(database, log, handle, limit=limit, wait=wait, care=care)
            log.leave(part, records[0].pos)
            return done
        except BaseException as error:
            if care is not None and care.failed(error):
                continue
            log.rewind(part, records[0].pos if records else 0)
            raise
        if care is not None:
            care.succeeded()
        log.done(part, taken[-1].pos + 1)
        records = records[len(taken) :]
        done += len(taken)
    return done


def suspect(tx: Connection, note: Note) -> None:
    """Let records over which a worker has died be taken a few at a time, unless they were worked off since; a record
    that was alone is not to be tried again where it holds up others."""
    tx.execute(upsert(log_position).values(part=note.part, pos=0).on_conflict_do_nothing())
    there = (log_position.c.part == note.part, log_position.c.pos < note.end)
    at_once = 0 if note.records == 1 else max(1, note.records // _FEWER)
    tx.execute(update(log_position).where(*there).values(risky_to=note.end, at_once=at_once))


def _position(tx: Connection, part: int) -> Row[Any, Any, Any] | None:
    """The next position of a partition, which is ours until the transaction ends; None when another worker has it, or
    when it has none yet."""
    columns = (log_position.c.pos, log_position.c.risky_to, log_position.c.at_once)
    there = select(*columns).where(log_position.c.part == part).with_for_update(skip_locked=True)
    return tx.execute(there).first()


def _begin(database: Database, part: int) -> bool:
    """True when the partition had no position, and has one from now on. In a transaction of its own: whoever met one
    that is made in a batch would wait for all of it."""
    with database.tx(beside=True) as tx:
        # Looked for first: PostgreSQL's ON CONFLICT DO NOTHING waits for whoever is moving the row.
        if tx.execute(select(log_position.c.part).where(log_position.c.part == part)).first() is not None:
            return False
        return tx.execute(_FIRST, {"part": part, "pos": 0}).rowcount == 1


def _advance(tx: Connection, part: int, *, expect: int, to: int) -> None:
    moved = tx.execute(
        update(log_position).where(log_position.c.part == part, log_position.c.pos == expect).values(pos=to)
    )
    if moved.rowcount != 1:
        raise Fenced(f"partition {part} was moved on by another worker")
