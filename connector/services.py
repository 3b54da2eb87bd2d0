"""Every object built once: the only place where the parts are put together."""

import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DatabaseError

from adapters import DESTINATIONS
from adapters.destination import Destination, SystemClock
from adapters.destination import Settings as AccountSettings
from connector import clock
from connector.clock import Millis
from connector.config import store as configuration_store
from connector.config.secrets import Vault
from connector.config.settings import Settings
from connector.domain import ADMIN_SECRETS, AdminConfig, Configuration, DestinationConfig, SourceConfig
from connector.errors import ConfigurationError
from connector.inbox import deliveries
from connector.inbox.runner import positions
from connector.inbox.sql import PAGE, SqlLog, unpack
from connector.ports import Api, Asked, EventLog, History, Rec, Remembers, Silent, Source
from connector.segments.evaluate import RuleSet
from connector.sources import SOURCES, configured
from connector.storage.database import Database
from connector.storage.in_use import share, share_database
from connector.storage.migrations import migrate
from connector.storage.tables import dead_letter, delivery
from connector.storage.turns import Turn, turns_of
from connector.streams import store as stream_store
from connector.streams.arrival import Arrival, arrival_of
from connector.streams.revival import revived
from connector.sync import store as sync_store
from connector.sync.under_way import UnderWay

log = structlog.get_logger("services")

_PIECE = 500  # deliveries put in line again in one append


def log_of(settings: Settings, state: Database, inbox: Database) -> EventLog:
    """The log that the settings choose: the only place that knows which it is."""
    if settings.kafka is not None:
        from connector.inbox.kafka.log import KafkaLog

        return KafkaLog(settings.kafka, state, lambda: positions(state), clock.now, settings.retention_days)
    return SqlLog(inbox, settings.partitions, lambda: positions(state))


class Services:
    """What web, worker and command line share. Create it after a fork; `close` it when done."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds customer data
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {settings.data_dir} cannot be made ({error.strerror}); give the user that runs "
                "StoreCue the right to, or name another with --data or STORECUE_DATA"
            ) from error
        with ExitStack() as held:
            held.callback(share(settings.data_dir).give_back)
            self.database = Database(settings.database_url)
            held.callback(self.database.close)
            # A SQLite file has one writer, whatever it is for; a server has one for each, who do not wait for others.
            same = settings.inbox_url == settings.database_url and self.database.dialect == "sqlite"
            self.inbox = self.database if same else Database(settings.inbox_url, one_writer=False, page=PAGE)
            held.callback(self.inbox.close)
            try:
                held.callback(share_database(self.database).give_back)
                migrate(self.database)
                self.log = log_of(settings, self.database, self.inbox)
                held.callback(self.log.close)
                self.log.create()
            except DatabaseError as error:
                raise ConfigurationError(
                    f"the database {self.database.place} cannot be opened: {error.orig}; `storecue doctor` says what "
                    "to do"
                ) from error
            self.turns = turns_of(self.database, settings.data_dir, settings.lease_seconds)
            held.callback(self.turns.close)
            self.vault: Vault = configuration_store.open_vault(self.database, settings)
            self._held = held.pop_all()
        self.source_kinds: Mapping[str, Source] = SOURCES
        self._lock = threading.Lock()
        self._configuration: Configuration | None = None
        self._rules: tuple[int, RuleSet] | None = None
        self._sources: tuple[int, dict[str, tuple[Source, tuple[str, ...]]]] | None = None

    def close(self) -> None:
        self._held.close()

    # --- configuration -----------------------------------------------------------------------------------------------

    def configuration(self) -> Configuration:
        """What is applied now: a read of one row, and a load of everything when its version has grown."""
        with self.database.read() as connection:
            version = configuration_store.version(connection)
            current = self._configuration
            if current is not None and current.version == version:
                return current
            with self._lock:
                self._configuration = current = configuration_store.load(connection)
                return current

    def ruleset(self) -> RuleSet:
        """The segments' rules as applied now, compiled once per version of the configuration."""
        configuration = self.configuration()
        known = self._rules
        if known is None or known[0] != configuration.version:
            known = (configuration.version, RuleSet(configuration.segments, configuration.store))
            self._rules = known
        return known[1]

    def sources(self) -> Mapping[str, tuple[Source, tuple[str, ...]]]:
        """Name -> the source and its secrets, opened. A source whose secrets cannot be read has none: nothing is
        accepted for it, and the log says why."""
        configuration = self.configuration()
        known = self._sources
        if known is None or known[0] != configuration.version or self._unopened(known[1]):
            found = {}
            for name, config in configuration.sources.items():
                try:
                    secrets = tuple(self.vault.resolve(secret) for secret in config.secrets)
                except ConfigurationError as error:
                    log.error("source.no_secret", source=name, hint=error.message)
                    secrets = ()
                found[name] = (configured(self.source_kinds[config.kind], config.options), secrets)
            known = (configuration.version, found)
            self._sources = known
        return known[1]

    def _unopened(self, found: Mapping[str, tuple[Source, tuple[str, ...]]]) -> bool:
        """Whether secrets that are configured could not be read."""
        return any(not held and not isinstance(source, Silent) for source, held in found.values())

    def connect(self, config: DestinationConfig, turn: Turn | None = None) -> Destination:
        """A client of a destination's account, its credentials opened, for who has the `turn` there. Raises
        ConfigurationError or Misconfigured."""
        account = AccountSettings(
            credentials=self.credentials(config),
            base_url=config.base_url,
            allow_insecure=config.allow_insecure,
            list_id=config.list_id,
            options=config.options,
            jobs=UnderWay(self.database if turn is None else turn.database, config.name),
        )
        if turn is not None:
            account = replace(account, left=turn.left, spent_until=turn.spent_until)
        return DESTINATIONS[config.kind](account, SystemClock())

    def history(self, config: SourceConfig) -> History:
        """The API of a source, its credentials opened. Raises ConfigurationError."""
        source = self.source_kinds[config.kind]
        if config.admin is None or not isinstance(source, Remembers):
            raise ConfigurationError(f"the source {config.name} has no `admin` in storecue.yaml: give it one")
        return source.history(config.name, self._opened(config.admin), SystemClock())

    def api(self, config: SourceConfig) -> Api | None:
        """The API of a source that has to be asked, its credentials opened. Raises ConfigurationError."""
        source = configured(self.source_kinds[config.kind], config.options)
        if config.admin is None or not isinstance(source, Asked):
            return None
        return source.api(config.name, self._opened(config.admin), SystemClock())

    def _opened(self, admin: AdminConfig) -> AdminConfig:
        kept: dict[str, Any] = {
            key: self.vault.resolve(secret) for key in ADMIN_SECRETS if (secret := getattr(admin, key))
        }
        return replace(admin, **kept)

    def credentials(self, config: DestinationConfig) -> dict[str, str]:
        """The credentials themselves, as their references stand at this moment. Raises ConfigurationError."""
        return {name: self.vault.resolve(secret) for name, secret in config.credentials.items()}

    # --- once more ---------------------------------------------------------------------------------------------------

    def replay_deliveries(
        self,
        *,
        source: str | None = None,
        topic: str | None = None,
        since: Millis | None = None,
        until: Millis | None = None,
        fire_triggers: bool = False,
        now: Millis,
    ) -> int:
        """The number of stored deliveries put in line again: received in [since, until), those that were replays
        themselves left out. They fire no triggers unless told to."""
        query = select(delivery).where(delivery.c.delivery_id.not_like("%#%")).order_by(delivery.c.id).limit(_PIECE)
        for column, value in ((delivery.c.source, source), (delivery.c.topic, topic)):
            if value is not None:
                query = query.where(column == value)
        if since is not None:
            query = query.where(delivery.c.received_at >= since)
        query = query.where(delivery.c.received_at < (now if until is None else min(until, now)))
        count, last = 0, 0
        while True:
            with self.inbox.read() as connection:
                rows = connection.execute(query.where(delivery.c.id > last)).mappings().all()
            if not rows:
                return count
            last = rows[-1]["id"]
            records = [
                Rec(**{name: row[name] for name in Rec._fields if name != "body"}, body=unpack(row["body"]))
                for row in rows
            ]
            self.log.append([deliveries.again(record, fire=fire_triggers, attempt=str(now)) for record in records])
            count += len(rows)

    def replay_dead_letters(self, ids: Iterable[int], *, fire_triggers: bool = True, now: Millis) -> int:
        """The number of open dead letters put in line again: deliveries into the log, contacts and cues to their
        sender. A crash in between may put a delivery in line twice, which is harmless."""
        query = dead_letter.select().where(dead_letter.c.state == "open", dead_letter.c.id.in_(sorted(ids)))
        with self.database.read() as connection:
            letters = connection.execute(query).mappings().all()
        again = []
        for letter in letters:
            if letter["kind"] == "delivery":
                record = Rec(
                    pos=0,
                    key=f"{letter['origin']}/{letter['reference']}",
                    source=letter["origin"],
                    delivery_id=letter["reference"],
                    topic=letter["topic"],
                    received_at=letter["at"] if letter["received_at"] is None else letter["received_at"],
                    headers=letter["headers"],
                    body=letter["body"],
                )
                again.append(deliveries.again(record, fire=fire_triggers, attempt=f"{letter['id']}-{now}"))
        revival = revived(letters, self.configuration().streams, self._arrival, now)
        if again or revival.deliveries:
            self.log.append([*again, *revival.deliveries])
        done = [letter["id"] for letter in letters if letter["id"] not in revival.dead]
        with self.database.tx() as tx:
            sync_store.retry_dead(tx, (letter for letter in letters if letter["kind"] in ("push", "cue")), now)
            stream_store.put(tx, revival.rows)
            tx.execute(dead_letter.update().where(dead_letter.c.id.in_(done)).values(state="replayed"))
        return len(done)

    def _arrival(self, source: str) -> Arrival:
        return arrival_of(self.configuration(), source, self.sources()[source][0], self.settings.max_body)
