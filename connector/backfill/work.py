"""The worker that fetches a source's past: each step is written down; after a crash the next one goes on from there.

wanted > bulk (the source prepares a file, which is loaded) > sort > append > done
wanted > pages (where the source takes nothing in bulk, or its file broke off) > done

The file is loaded to our disk as it comes and put in line from there, so that a crash, a slow line or the end of the
seven days for which a source keeps it lose nothing. Deliveries have ids that follow from the thing and its version: a
group that was in line before a crash, and comes again after it, is dropped by the line.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from adapters.errors import DeliveryError, Transient
from connector.backfill import store
from connector.backfill.result import Result
from connector.backfill.store import Row
from connector.clock import MINUTE, SECOND, Millis
from connector.domain import SourceConfig
from connector.errors import ConnectorError, NotDurable
from connector.ports import EventLog, History, Record
from connector.storage.database import Database

log = structlog.get_logger("backfill")

CROWD = 5_000
"""Deliveries that may wait in the log while more are put there: whoever buys now does not wait for the past."""

_LOOK_EVERY: Millis = 5 * SECOND  # at a bulk operation
_LONGEST_WAIT: Millis = 15 * MINUTE
_MOST_ATTEMPTS = 500  # in a row: some five days of waiting
APPEND_WITHIN = 60.0
"""Seconds for a group to be safely in the log."""

Connect = Callable[[SourceConfig], History]


class Histories:
    """The APIs of sources, each opened once for each configuration of it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._known: dict[str, tuple[SourceConfig, History]] = {}

    def of(self, config: SourceConfig) -> History:
        """The source's API. Raises ConfigurationError when its secrets cannot be read."""
        known = self._known.pop(config.name, None)
        if known is None or known[0] != config:
            if known is not None:
                known[1].close()
            known = (config, self._connect(config))
        self._known[config.name] = known
        return known[1]

    def close(self) -> None:
        for _, history in self._known.values():
            history.close()
        self._known.clear()


class Backfills:
    """The backfills of all sources: one step of one at a time."""

    def __init__(self, database: Database, log_: EventLog, folder: Path, histories: Histories) -> None:
        self._database = database
        self._log = log_
        self._folder = folder / "backfill"
        self._histories = histories

    def step(self, sources: Mapping[str, SourceConfig], now: Millis) -> bool:
        """Do the next step of one backfill; False when nothing is due, or when the line has to catch up first."""
        with self._database.read() as connection:
            rows = store.due(connection, now)
        return any(self._tried(row, sources, now) for row in rows)

    def _tried(self, row: Row, sources: Mapping[str, SourceConfig], now: Millis) -> bool:
        config = sources.get(row["source"])
        try:
            if config is None or config.admin is None:
                message = "the source has no `admin` any more: give it one, and start again"
                return self._end(row, now, "failed" if row["state"] != "cancelling" else "cancelled", message)
            return _STEPS[row["state"]](self, row, self._histories.of(config), now)
        except (Transient, NotDurable) as error:
            wait = error.retry_after * SECOND if isinstance(error, Transient) else error.retry_after
            self._put_off(row, error.message, int(wait), now)
        except OSError as error:
            self._put_off(row, f"the disk failed: {error.strerror}", MINUTE, now)
        except (DeliveryError, ConnectorError) as error:
            self._end(row, now, "failed" if row["state"] != "cancelling" else "cancelled", error.message)
        return True

    # --- the steps ----------------------------------------------------------------------------------------------------

    def _begin(self, row: Row, history: History, now: Millis) -> bool:
        """Ask for everything in bulk."""
        operation = history.begin(row["kind"], row["since"], row["started_at"])
        if operation is None:
            return self._by_pages(row, history, now)
        return self._go_on(row, now, state="bulk", operation=operation)

    def _bulk(self, row: Row, history: History, now: Millis) -> bool:
        """Look how the operation stands, and load its result when it has one."""
        found = history.look(row["operation"])
        if found.state == "running":
            return self._go_on(row, now, expected=found.objects or None, due_at=now + _LOOK_EVERY)
        if found.state == "failed" and found.url is None:
            return self._by_pages(row, history, now, message=found.message)
        known = {"size": found.size, "partial": int(found.partial), "message": found.message}
        if found.url is None:
            return self._end(row, now, "done")  # there was nothing to find
        result = self._result(row)
        begins, pieces = history.download(found.url, row["loaded"] if result.has(row["loaded"]) else 0)
        loaded = result.load(begins, pieces, lambda safe: self._go_on(row, now, loaded=safe, **known))
        if loaded is None:
            return True  # cancelled meanwhile
        if found.size is not None and loaded != found.size:
            self._go_on(row, now, loaded=loaded if loaded < found.size else 0)
            raise Transient(f"{loaded} of {found.size} bytes of the result came", retry_after=5.0, reason="broke_off")
        as_of = found.ended_at or now
        return self._go_on(row, now, state="sort", loaded=loaded, as_of=as_of, expected=found.found, **known)

    def _sort(self, row: Row, history: History, now: Millis) -> bool:
        """Find the parts that do not follow the thing they belong to."""
        if not self._result(row).has(row["loaded"]):
            return self._load_here(row, now)
        return self._go_on(row, now, state="append", expected=self._result(row).sort(history.owner))

    def _append(self, row: Row, history: History, now: Millis) -> bool:
        """Put the next group of the file in line."""
        if not self._result(row).has(row["loaded"]):
            return self._load_here(row, now)
        if self._crowded():
            return False
        group, position = self._result(row).group(row["position"], row["kind"], history)
        self._put_in_line(row, history, group, row["as_of"])
        fetched = row["fetched"] + len(group)
        if position is not None:
            return self._go_on(row, now, position=position, fetched=fetched)
        if row["partial"]:
            return self._by_pages(row, history, now, fetched=0, message=row["message"])
        return self._end(row, now, "done", fetched=fetched)

    def _load_here(self, row: Row, now: Millis) -> bool:
        """Load the file once more: it lies on another machine, which had the turn before. What is in line stays."""
        return self._go_on(row, now, state="bulk", loaded=0)

    def _pages(self, row: Row, history: History, now: Millis) -> bool:
        """Fetch the next page and put it in line."""
        if self._crowded():
            return False
        found = history.page(row["kind"], row["since"], row["cursor"])
        self._put_in_line(row, history, found.records, now)
        fetched = row["fetched"] + len(found.records)
        if found.next is not None:
            return self._go_on(row, now, cursor=found.next, fetched=fetched)
        return self._end(row, now, "done", fetched=fetched)

    def _stop(self, row: Row, history: History, now: Millis) -> bool:
        """Stop what runs at the source."""
        if row["operation"] is not None:
            history.cancel(row["operation"])
        return self._end(row, now, "cancelled")

    # --- what they share ----------------------------------------------------------------------------------------------

    def _by_pages(self, row: Row, history: History, now: Millis, **values: Any) -> bool:
        if message := values.get("message"):
            log.warning("backfill.by_pages", source=row["source"], kind=row["kind"], hint=message)
        return self._go_on(row, now, state="pages", expected=history.count(row["kind"], row["since"]), **values)

    def _put_in_line(self, row: Row, history: History, group: Sequence[Record], received_at: Millis) -> None:
        """All of it quiet: what was long ago starts nothing. As of when the source said it, so that somebody who was
        erased since stays erased."""
        if group:
            told = [history.delivery(row["kind"], one, received_at, quiet=True) for one in group]
            self._log.append(told, APPEND_WITHIN)

    def _go_on(self, row: Row, now: Millis, **values: Any) -> bool:
        with self._database.tx() as tx:
            return store.move(tx, row, **{"attempts": 0, "message": "", "due_at": now, **values})

    def _end(self, row: Row, now: Millis, state: str, message: str = "", **values: Any) -> bool:
        with self._database.tx() as tx:
            ended = store.move(tx, row, state=state, message=message, finished_at=now, operation=None, **values)
        if ended:
            self._result(row).remove()
            log.info(f"backfill.{state}", source=row["source"], kind=row["kind"], hint=message)
        return True

    def _put_off(self, row: Row, message: str, wait: Millis, now: Millis) -> None:
        attempts = row["attempts"] + 1
        if attempts > _MOST_ATTEMPTS:
            self._end(row, now, "failed", message)
            return
        wait = min(max(wait, SECOND * 2 ** min(attempts, 10)), _LONGEST_WAIT)
        log.warning("backfill.waits", source=row["source"], kind=row["kind"], hint=message, seconds=wait // SECOND)
        with self._database.tx() as tx:
            store.move(tx, row, attempts=attempts, message=message, due_at=now + wait)

    def _crowded(self) -> bool:
        return self._log.standing().lag > CROWD

    def _result(self, row: Row) -> Result:
        return Result(self._folder, row["source"], row["kind"], row["started_at"])


_STEPS: Mapping[str, Callable[[Backfills, Row, History, Millis], bool]] = {
    "wanted": Backfills._begin,
    "bulk": Backfills._bulk,
    "sort": Backfills._sort,
    "append": Backfills._append,
    "pages": Backfills._pages,
    "cancelling": Backfills._stop,
}
