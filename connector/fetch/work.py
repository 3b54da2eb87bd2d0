"""The worker that asks sources: for what they told to have changed, and in turn where they tell nothing.

Nothing is struck out, and no watermark moves, before what was found is durably in the log: a crash repeats a call, and
a repeat is the same delivery, which the line drops.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized
from connector.clock import HOUR, SECOND, Millis
from connector.domain import SourceConfig
from connector.errors import ConfigurationError, NotDurable
from connector.fetch import store
from connector.fetch.store import Row
from connector.ports import Api, EventLog, FetchesThings, New, TellsChanges
from connector.storage import counters
from connector.storage.database import Database

log = structlog.get_logger("fetch")

_GROUP = 20  # things of one source in one append
_LONGEST_WAIT: Millis = 6 * HOUR
_MOST_REFUSALS = 10  # of one thing, which the source will not show: it is given up
_STOPPED: Millis = HOUR  # until somebody whose credentials were refused is tried again by itself
_APPEND_WITHIN = 30.0
_REMEMBERED = 200_000  # of what was told last: overlaps tell it again

Connect = Callable[[SourceConfig], Api | None]


class _Open(NamedTuple):
    config: SourceConfig
    api: Api | None


class Fetching:
    """The asking of all sources, one after the other. Used by one thread."""

    def __init__(self, database: Database, log_: EventLog, connect: Connect) -> None:
        """`connect` gives a source's API with its credentials opened; None where there is nothing to ask."""
        self._database = database
        self._log = log_
        self._connect = connect
        self._opened: dict[str, _Open] = {}
        self._rests: dict[str, Millis] = {}  # source -> until when it has asked for peace
        self._cursors: dict[tuple[str, str], str] = {}
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._version = -1

    def step(self, sources: Mapping[str, SourceConfig], version: int, now: Millis) -> bool:
        """Ask each source for what is due; False when nothing was."""
        if version != self._version:
            with self._database.tx() as tx:
                store.leave(tx, sources)
            self._version = version
        with self._database.read() as connection:
            stopped = store.stopped(connection)
        busy = False
        for config in sources.values():
            halt = stopped.get(config.name)
            if halt is not None and halt["version"] == version and halt["until"] > now:
                continue
            if self._rests.get(config.name, 0) <= now:
                busy = self._asked(config, halt is not None, version, now) or busy
        return busy

    def close(self) -> None:
        for _, api in self._opened.values():
            if api is not None:
                api.close()
        self._opened.clear()

    def forget(self) -> None:
        """Nothing from before is gone on with: another process has asked meanwhile."""
        self.close()
        self._cursors.clear()

    # --- one source -------------------------------------------------------------------------------------------------

    def _asked(self, config: SourceConfig, halted: bool, version: int, now: Millis) -> bool:
        try:
            api = self._api(config)
            busy = False
            if isinstance(api, FetchesThings):
                busy = self._fetch(config.name, api, now)
            if isinstance(api, TellsChanges):
                for kind in api.kinds:
                    busy = self._poll(config.name, kind, api, now) or busy
        except (Unauthorized, Misconfigured, ConfigurationError) as error:
            self._stop(config.name, error, version, now)
            return False
        except Transient as error:
            self._rests[config.name] = now + max(int(error.retry_after * SECOND), SECOND)
            log.warning("fetch.waits", source=config.name, reason=error.reason, hint=error.message)
            return False
        except Rejected as error:  # of a poll: its row says so, and waits
            log.warning("fetch.refused", source=config.name, reason=error.reason, hint=error.message)
            return False
        except NotDurable as error:
            self._rests[config.name] = now + max(int(error.retry_after), SECOND)
            return False
        if halted and busy:
            with self._database.tx() as tx:
                store.go_on(tx, config.name)
        return busy

    def _fetch(self, source: str, api: FetchesThings, now: Millis) -> bool:
        """Fetch some of the things that are due. Raises what concerns the whole account; a thing that fails alone
        waits alone."""
        with self._database.read() as connection:
            rows = store.due(connection, source, now, _GROUP)
        found: list[tuple[Row, New]] = []
        try:
            for row in rows:
                try:
                    found.append((row, api.fetch(row["kind"], row["id"], row["asked_at"], quiet=bool(row["quiet"]))))
                except Rejected as error:
                    self._refused(row, error, now)
                except Transient as error:
                    if error.reason in ("rate_limited", "unreachable"):
                        raise  # the next one would fare no better
                    self._put_off(row, error, int(error.retry_after * SECOND), now)
        finally:
            if found:
                self._log.append([told for _, told in found], _APPEND_WITHIN)
                with self._database.tx() as tx:
                    store.settle(tx, [row for row, _ in found], now)
        return bool(rows)

    def _poll(self, source: str, kind: str, api: TellsChanges, now: Millis) -> bool:
        """Ask for the next page of what has changed, when it is time."""
        place = (source, kind)
        with self._database.tx() as tx:
            row = store.poll_of(tx, source, kind, now)
        if row["due_at"] > now:
            return False
        try:
            page = api.changes(kind, row["watermark"], self._cursors.get(place), row["begun_at"], now)
        except DeliveryError as error:
            self._cursors.pop(place, None)  # a cursor may have ended: the watermark finds the place again
            wait = max(_wait(row["attempts"]), api.every)
            with self._database.tx() as tx:
                store.set_poll(
                    tx, source, kind, due_at=now + wait, at=now, attempts=row["attempts"] + 1, message=error.message
                )
            raise
        news = [one for one in page.deliveries if (one.source, one.delivery_id) not in self._told]
        if news:
            self._log.append(news, _APPEND_WITHIN)
        self._remember(news)
        if page.next is None:
            self._cursors.pop(place, None)
        else:
            self._cursors[place] = page.next
        known = [one for one in (row["watermark"], page.until) if one is not None]
        with self._database.tx() as tx:
            store.set_poll(
                tx,
                source,
                kind,
                watermark=max(known) if known else None,
                due_at=now + api.every if page.next is None else now,
                at=now,
                attempts=0,
                message="",
            )
        return page.next is not None or bool(news)

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def _refused(self, row: Row, error: Rejected, now: Millis) -> None:
        if row["attempts"] + 1 < _MOST_REFUSALS:
            self._put_off(row, error, 0, now)
            return
        log.error("fetch.given_up", source=row["source"], kind=row["kind"], reason=error.reason, hint=error.message)
        with self._database.tx() as tx:
            store.drop(tx, row)
            counters.add(tx, {("skipped", f"{row['source']}/not_fetched"): 1}, now)

    def _put_off(self, row: Row, error: DeliveryError, wait: Millis, now: Millis) -> None:
        log.warning("fetch.postponed", source=row["source"], kind=row["kind"], reason=error.reason, hint=error.message)
        with self._database.tx() as tx:
            store.put_off(tx, row, now + max(wait, _wait(row["attempts"])), error.message)

    def _stop(self, source: str, error: DeliveryError | ConfigurationError, version: int, now: Millis) -> None:
        log.error("fetch.stopped", source=source, reason=error.reason, hint=error.message)
        if (known := self._opened.pop(source, None)) is not None and known.api is not None:
            known.api.close()
        with self._database.tx() as tx:
            store.stop(tx, source, error.message, version=version, until=now + _STOPPED, now=now)

    # --- what they share ----------------------------------------------------------------------------------------------

    def _api(self, config: SourceConfig) -> Api | None:
        known = self._opened.get(config.name)
        if known is None or known.config != config:
            if known is not None and known.api is not None:
                known.api.close()
            known = self._opened[config.name] = _Open(config, self._connect(config))
        return known.api

    def _remember(self, told: list[New]) -> None:
        for one in told:
            self._told[(one.source, one.delivery_id)] = None
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


def _wait(attempts: int) -> Millis:
    return min(SECOND << min(attempts, 20), _LONGEST_WAIT)
