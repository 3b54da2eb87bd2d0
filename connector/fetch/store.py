"""What is to be fetched from sources, up to when they have been asked, and which of them let us in no more."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, case, delete, func, select, update

from connector.clock import Millis
from connector.storage.phrases import greatest, least, upsert
from connector.storage.tables import fetch, source_access, source_poll

Row = dict[str, Any]


class Wanted(NamedTuple):
    """A thing that a delivery has told of. `quiet`: what is found may fire nothing, as the delivery might not."""

    source: str
    kind: str
    id: str
    asked_at: Millis
    quiet: bool = False


# --- single things ----------------------------------------------------------------------------------------------------


def want(tx: Connection, wanted: Iterable[Wanted], now: Millis) -> None:
    """Note what is to be fetched. Ten deliveries about one thing are one fetch; `asked` tells the fetcher that another
    came while it was under way. What failed before keeps its wait."""
    rows: dict[tuple[str, str, str], Row] = {}
    for one in wanted:
        key = (one.source, one.kind, one.id)
        known = rows.get(key)
        row = {**one._asdict(), "quiet": int(one.quiet), "asked": 1, "due_at": now}
        if known is not None:
            row["asked_at"] = max(row["asked_at"], known["asked_at"])
            row["quiet"] = min(row["quiet"], known["quiet"])
        rows[key] = row
    if not rows:
        return
    new = upsert(fetch)
    tx.execute(
        new.on_conflict_do_update(
            index_elements=["source", "kind", "id"],
            set_={
                "asked": fetch.c.asked + 1,
                "asked_at": greatest(fetch.c.asked_at, new.excluded.asked_at),
                "quiet": least(fetch.c.quiet, new.excluded.quiet),
            },
        ),
        list(rows.values()),
    )


def due(connection: Connection, source: str, now: Millis, limit: int) -> list[Row]:
    """What to fetch from a source now, the longest due first."""
    query = (
        select(fetch).where(fetch.c.source == source, fetch.c.due_at <= now).order_by(fetch.c.due_at, fetch.c.id)
    ).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def settle(tx: Connection, rows: Sequence[Row], now: Millis) -> None:
    """Strike out what is in line. What was asked for again meanwhile stays, and is due at once."""
    for row in rows:
        tx.execute(delete(fetch).where(_is(row), fetch.c.asked == row["asked"]))
        tx.execute(update(fetch).where(_is(row)).values(due_at=now, attempts=0, message=""))


def put_off(tx: Connection, row: Row, due_at: Millis, message: str) -> None:
    """A try has failed."""
    tx.execute(update(fetch).where(_is(row)).values(due_at=due_at, attempts=row["attempts"] + 1, message=message))


def drop(tx: Connection, row: Row) -> None:
    """Give it up."""
    tx.execute(delete(fetch).where(_is(row)))


def leave(tx: Connection, sources: Iterable[str]) -> None:
    """Forget what belongs to sources that are configured no more."""
    names = list(sources)
    for table in (fetch, source_poll, source_access):
        tx.execute(delete(table).where(table.c.source.not_in(names)))


def _is(row: Row) -> Any:
    return and_(fetch.c.source == row["source"], fetch.c.kind == row["kind"], fetch.c.id == row["id"])


# --- what is asked for in turn ----------------------------------------------------------------------------------------


def poll_of(tx: Connection, source: str, kind: str, now: Millis) -> Row:
    """How far one kind of thing has come; it begins now if it has not."""
    begun = {"source": source, "kind": kind, "begun_at": now, "due_at": now, "at": now}
    tx.execute(upsert(source_poll).values(begun).on_conflict_do_nothing())
    here = (source_poll.c.source == source, source_poll.c.kind == kind)
    return dict(tx.execute(select(source_poll).where(*here)).mappings().one())


def set_poll(tx: Connection, source: str, kind: str, **values: Any) -> None:
    tx.execute(update(source_poll).where(source_poll.c.source == source, source_poll.c.kind == kind).values(**values))


# --- the access -------------------------------------------------------------------------------------------------------


def stopped(connection: Connection) -> dict[str, Row]:
    """Source -> why it is not asked, until when, and under which version of the configuration."""
    return {row["source"]: dict(row) for row in connection.execute(select(source_access)).mappings()}


def stop(tx: Connection, source: str, message: str, *, version: int, until: Millis, now: Millis) -> None:
    """Ask the source nothing until then, or until the configuration changes."""
    row = {"source": source, "message": message, "version": version, "until": until, "since": now}
    changes = {name: row[name] for name in ("message", "version", "until")}
    tx.execute(upsert(source_access).values(row).on_conflict_do_update(index_elements=["source"], set_=changes))


def go_on(tx: Connection, source: str) -> None:
    """The source has let us in again."""
    tx.execute(delete(source_access).where(source_access.c.source == source))


def standings(connection: Connection) -> dict[str, Row]:
    """Source -> {waiting, failing, message, stopped_since, asked_at} of those that are asked for anything."""
    found: dict[str, Row] = {}

    def of(source: str) -> Row:
        blank = {"waiting": 0, "failing": 0, "message": "", "stopped_since": None, "asked_at": None}
        return found.setdefault(source, blank)

    counted = select(
        fetch.c.source,
        func.count(),
        func.sum(case((fetch.c.attempts > 0, 1), else_=0)),
        func.max(fetch.c.message),
    ).group_by(fetch.c.source)
    for source, count, failing, message in connection.execute(counted):
        of(source).update(waiting=count, failing=failing, message=message)
    for poll in connection.execute(select(source_poll)).mappings():
        one = of(poll["source"])
        one["asked_at"] = max(one["asked_at"] or 0, poll["at"])
        one["failing"] += int(poll["attempts"] > 0)
        one["message"] = poll["message"] or one["message"]
    for source, row in stopped(connection).items():
        of(source).update(message=row["message"], stopped_since=row["since"])
    return found
