"""What the source says it has, compared with what came, every hour: missing subscriptions are made, and what was
changed since the last look is fetched.

Senders give up on webhooks after some hours and then remove the subscription; nothing tells us. A page of changes is
one step, written down with where the next one begins, so that a crash goes on from there.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

import structlog

from adapters.address import is_public
from adapters.errors import DeliveryError, Misconfigured, Transient
from connector.backfill import store
from connector.backfill.work import APPEND_WITHIN, CROWD, Histories
from connector.clock import HOUR, MINUTE, Millis
from connector.domain import SourceConfig
from connector.errors import ConnectorError
from connector.ports import EventLog, History, New
from connector.quality.store import heard
from connector.storage.database import Database

log = structlog.get_logger("reconcile")

EVERY: Millis = HOUR
AGAIN: Millis = 10 * MINUTE
"""How long after a look that failed the next one is taken."""

OVERLAP: Millis = 10 * MINUTE
"""How much of what was looked at is looked at again: a source's search may lag behind what was changed."""

NEWS: Millis = 2 * HOUR
"""How old a change may be that still starts something."""

_NEVER_NEWS = frozenset({"checkouts"})
_ALL = ""  # the row that stands for the look as a whole


def is_news(kind: str, changed_at: Millis, now: Millis) -> bool:
    """Whether what was missed may start something, as its webhook would have.

    An hourly look finds what was missed within the last two hours, and a thank-you that is an hour late is welcome.
    Anything older means that we or the shop were out for longer, and a mail about it would come out of the blue: it
    corrects what is known and starts nothing. A checkout starts nothing however young it is. What it may start is up to
    the clock, half an hour after the checkout, say: when that is still to come it comes on time, and when it has passed
    the mail would be late, perhaps after the purchase.
    """
    return kind not in _NEVER_NEWS and now - changed_at <= NEWS


class Reconciler:
    """The comparison of all sources that have an API: a step of one at a time."""

    def __init__(self, database: Database, log_: EventLog, histories: Histories, public: str) -> None:
        self._database = database
        self._log = log_
        self._histories = histories
        self._public = public

    def step(self, sources: Mapping[str, SourceConfig], secrets: Mapping[str, tuple[str, ...]], now: Millis) -> bool:
        """Do the next step of one source that is due; False when none is. `secrets` by source are opened."""
        for name, config in sources.items():
            if config.admin is not None and self._due(name, now):
                try:
                    return self._look(config, secrets.get(name, ()), now)
                except (DeliveryError, ConnectorError) as error:
                    self._failed(name, error, now)
                    return True
        return False

    def _due(self, name: str, now: Millis) -> bool:
        with self._database.read() as connection:
            known = store.compared(connection, name).get(_ALL)
        return known is None or now >= known["at"] + (AGAIN if known["message"] else EVERY)

    def _look(self, config: SourceConfig, secrets: tuple[str, ...], now: Millis) -> bool:
        if self._log.standing().lag > CROWD:
            return False
        with self._database.read() as state:
            known = store.compared(state, config.name)
            began = known.get(_ALL, {}).get("began_at")
        history = self._histories.of(config)
        if began is None:
            self._subscribe(config, secrets, history)
            self._note(config.name, _ALL, began_at=now, at=known.get(_ALL, {}).get("at", 0))
            return True
        for kind in history.kinds:
            row = known.get(kind)
            if row is None or row["until"] < began:
                self._page(config.name, kind, row, history, began, now)
                return True
        self._note(config.name, _ALL, until=began, began_at=None, at=now, message="")
        return True

    def _page(self, name: str, kind: str, row: store.Row | None, history: History, began: Millis, now: Millis) -> None:
        until = row["until"] if row is not None and row["until"] else self._first(name, now)
        cursor = row["cursor"] if row is not None else None
        missed = row["missed"] if row is not None and cursor is not None else 0
        try:
            found = history.page(kind, until - OVERLAP, cursor)
        except Misconfigured:
            if cursor is None:
                raise
            found, missed = history.page(kind, until - OVERLAP, None), 0  # cursors do not last for ever
        ids = {record.id.rpartition("/")[2]: record for record in found.records}
        with self._database.read() as connection:
            here = store.versions(connection, name, kind, sorted(ids))
        wanted = [record for id_, record in ids.items() if here.get(id_, -1) < record.updated_at]
        told = [
            history.delivery(kind, record, now, quiet=not is_news(kind, record.updated_at, now)) for record in wanted
        ]
        self._put_in_line(told)
        missed += len(wanted) if kind in store.COMPARABLE else 0
        if found.next is None:
            self._note(name, kind, until=began, cursor=None, missed=missed, at=now)
            if missed:
                log.warning("reconcile.missed", source=name, kind=kind, count=missed)
        else:
            self._note(name, kind, until=until, cursor=found.next, missed=missed, at=now)

    def _first(self, name: str, now: Millis) -> Millis:
        """From when to look for the first time: since the source was last heard, but no further back than a day, which
        is what a backfill is for."""
        with self._database.read() as connection:
            return max(heard(connection).get(name, now), now - 24 * HOUR)

    def _put_in_line(self, told: list[New]) -> None:
        if told:
            self._log.append(told, APPEND_WITHIN)

    def _subscribe(self, config: SourceConfig, secrets: tuple[str, ...], history: History) -> None:
        address = webhook_address(self._public, config)
        if (why := cannot_subscribe(self._public, config, secrets, history.signs)) is not None:
            log.info("reconcile.no_subscriptions", source=config.name, hint=why)
            return
        missing = [topic for topic, there in history.subscriptions(address).items() if not there]
        if missing:
            refused = history.subscribe(missing, address)
            made = [topic for topic in missing if topic not in refused]
            log.warning("reconcile.subscribed", source=config.name, topics=made, refused=refused)

    def _failed(self, name: str, error: DeliveryError | ConnectorError, now: Millis) -> None:
        lasting = not isinstance(error, Transient)
        (log.error if lasting else log.warning)("reconcile.failed", source=name, hint=error.message)
        self._note(name, _ALL, at=now, message=error.message)

    def _note(self, source: str, kind: str, **values: object) -> None:
        with self._database.tx() as tx:
            store.note(tx, source, kind, **values)


def webhook_address(public: str, config: SourceConfig) -> str:
    """Where the source must send."""
    return f"{public}/webhooks/{config.kind}/{config.name}"


def cannot_subscribe(public: str, config: SourceConfig, secrets: tuple[str, ...], signs: str | None) -> str | None:
    """Why no subscriptions can be made for a source, in words that say who must act; None when they can. `signs` is the
    secret by which deliveries of such subscriptions are signed, where it is known."""
    parts = urlsplit(public)
    allowed = config.admin is not None and config.admin.allow_insecure
    if not allowed and (parts.scheme != "https" or not _reachable(parts.hostname or "")):
        return "STORECUE_PUBLIC_URL is not an https address that the shop can reach: set it, so that webhooks can come"
    if signs is not None and signs not in secrets:
        return (
            f"deliveries would be signed with admin.client_secret, which is not among the secrets of {config.name}: "
            "add it there"
        )
    return None


def _reachable(host: str) -> bool:
    try:
        return is_public(host)
    except ValueError:
        return host not in ("", "localhost") and not host.endswith((".localhost", ".local", ".internal"))
