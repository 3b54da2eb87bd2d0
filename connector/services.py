"""Every object built once: the only place where the parts are put together."""

import threading

from sqlalchemy.exc import DatabaseError

from connector.config import store as configuration_store
from connector.config.secrets import Vault
from connector.config.settings import Settings
from connector.domain import Configuration
from connector.errors import ConfigurationError
from connector.inbox.runner import positions
from connector.inbox.sql import SqlLog
from connector.segments.evaluate import RuleSet
from connector.storage.database import Database
from connector.storage.migrations import migrate


class Services:
    """What web, worker and command line share. Create it after a fork; `close` it when done."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.state_url)
        self.inbox = Database(settings.inbox_url)
        try:
            migrate(self.database)
            self.log = SqlLog(self.inbox, settings.partitions, lambda: positions(self.database))
            self.log.create()
        except DatabaseError as error:
            raise ConfigurationError(f"the database in {settings.data_dir} cannot be opened: {error.orig}") from error
        self.vault: Vault = settings.open_vault(self.database)
        self._lock = threading.Lock()
        self._configuration: Configuration | None = None
        self._rules: tuple[int, RuleSet] | None = None

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

    def close(self) -> None:
        self.log.close()
        self.inbox.close()
        self.database.close()
