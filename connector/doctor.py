"""`storecue doctor`: a line for each thing that must be right, with a fix where it is not. It leaves nothing behind."""

import http.client
import importlib.metadata
import json
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from adapters import DESTINATIONS
from adapters.destination import Destination, SystemClock
from adapters.destination import Settings as AccountSettings
from adapters.errors import DeliveryError, Misconfigured, Transient, Unauthorized
from connector.clock import DAY, MINUTE, Millis, isoformat, parse_instant
from connector.config import store
from connector.config.schema import configuration_from
from connector.config.sealing import secrets_of
from connector.config.secrets import Vault, check_key, is_reference, new_key, read_keys
from connector.config.settings import Settings
from connector.config.yaml_file import read
from connector.domain import Configuration, DestinationConfig, SourceConfig
from connector.errors import ConfigurationError, StreamUnavailable
from connector.old_events import MENDED_BY, lacking
from connector.reporting import sources as heard_of
from connector.segments.evaluate import RuleSet
from connector.services import log_of
from connector.sources.segment_api import SegmentApi
from connector.storage.database import Database
from connector.storage.server import setup_of, wrong
from connector.storage.tables import delivery
from connector.streams import BROKERS
from connector.streams.port import Account as StreamAccount

BUILT_AT = parse_instant("2026-11-01")
"""No clock that is right shows an earlier time than this code was written."""

ENOUGH_BYTES = 1024**3
_TOLERANCE = 2 * MINUTE
_ANSWER_S = 10.0
_SHORTEST = 4  # a shorter text is no secret, and striking it out would leave nothing readable

Connect = Callable[[DestinationConfig, Mapping[str, str]], Destination]
"""A client of an account, from its configuration and its credentials in the clear."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `fix` says what to do when it is not `ok`."""

    name: str
    ok: bool
    message: str
    fix: str = ""


def checks(
    settings: Settings,
    *,
    now: Millis,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    connect: Connect | None = None,
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> Iterator[Check]:
    """Every check, as soon as it is known. `file`: the storecue.yaml to judge by in place of what is in force.

    No text of a check contains a secret. Never raises for what it finds.
    """
    scene = _Scene(settings, now, environ, connect or open_account, free_bytes)
    try:
        for check in scene.checks(file):
            yield replace(check, message=scene.redacted(check.message), fix=scene.redacted(check.fix))
    finally:
        scene.close()


def open_account(config: DestinationConfig, credentials: Mapping[str, str]) -> Destination:
    """A client that waits a few seconds for an answer, no longer."""
    account = AccountSettings(
        credentials=credentials,
        base_url=config.base_url,
        allow_insecure=config.allow_insecure,
        list_id=config.list_id,
        read_timeout=_ANSWER_S,
        options=config.options,
    )
    return DESTINATIONS[config.kind](account, SystemClock())


class _Scene:
    """What the checks find out for each other: the databases, the vault, the configuration, the secrets seen."""

    def __init__(
        self,
        settings: Settings,
        now: Millis,
        environ: Mapping[str, str] | None,
        connect: Connect,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self.settings = settings
        self.now = now
        self.environ = environ
        self.connect = connect
        self.free_bytes = free_bytes
        self.database = _existing(settings.database_url)
        self.inbox = _existing(settings.inbox_url)
        # References are resolved by any key; what is encrypted needs the right one, which `_key` looks for.
        self.vault = Vault([new_key()], environ=environ)
        self.configuration: Configuration | None = None
        self._seen = {secret for secret in (settings.api_token, *settings.secret_keys) if secret}

    def checks(self, file: Path | None) -> Iterator[Check]:
        yield self._data_directory()
        yield self._key()
        yield from self._configured(file)
        yield from self._secrets()
        yield self._clock()
        yield self._time_zones()
        yield from self._databases()
        yield from self._log()
        yield from self._old_events()
        yield self._disk()
        yield from self._destinations()
        yield from self._sources()
        yield from self._streams()
        yield self._port()

    def redacted(self, text: str) -> str:
        for secret in sorted(self._seen, key=len, reverse=True):
            text = text.replace(secret, "***") if len(secret) >= _SHORTEST else text
        return text

    def close(self) -> None:
        for database in (self.database, self.inbox):
            if database is not None:
                database.close()

    # --- what we stand on --------------------------------------------------------------------------------------------

    def _data_directory(self) -> Check:
        folder = self.settings.data_dir
        name = "data directory"
        if not folder.exists():
            return Check(name, True, f"{folder} is not there yet; `storecue up` makes it")
        probe = folder / ".doctor"
        try:
            probe.touch(0o600)
            probe.unlink()
        except OSError as error:
            fix = f"give the user that runs StoreCue the right to write to {folder}, or set STORECUE_DATA"
            return Check(name, False, f"{folder} cannot be written to ({error.strerror})", fix)
        return Check(name, True, f"{folder} can be written to")

    def _key(self) -> Check:
        name = "secret key"
        try:
            keys = read_keys(self.settings)
            token = None if self.database is None else _token(self.database)
            if not keys and token is not None:
                fix = "put back the key that this data was made with; without it, enter every kept secret anew"
                return Check(name, False, f"{self.settings.secret_key_file} is gone", fix)
            if not keys:
                return Check(name, True, "there is none yet; the first start makes one")
            self.vault = Vault(keys, environ=self.environ)
            if token is not None:
                check_key(self.vault, token)
        except ConfigurationError as error:
            fix = _KEY_FIXES.get(error.reason, "set STORECUE_SECRET_KEY to a key made with `storecue key new`")
            return Check(name, False, error.message, fix.format(path=self.settings.secret_key_file))
        return Check(name, True, "the key opens what is kept" if token else "the key can be read")

    def _configured(self, file: Path | None) -> Iterator[Check]:
        name = "configuration"
        try:
            if file is not None:
                self.configuration = configuration_from(read(file))
            elif self.database is not None:
                with self.database.read() as connection:
                    self.configuration = store.load(connection)
        except _UNREADABLE as error:
            yield Check(
                name, False, f"cannot be read from the database ({_cause(error)})", "see the line about it below"
            )
            return
        except ConfigurationError as error:
            for line in error.message.split("\n"):
                yield Check(name, False, line, f"correct it in {file}" if file else "apply storecue.yaml again")
            return
        configuration = self.configuration
        if configuration is None or (file is None and configuration.version == 0):
            yield Check(name, False, "nothing is configured yet", "write storecue.yaml and run `storecue apply`")
            return
        parts = {
            "source": configuration.sources,
            "destination": configuration.destinations,
            **({"stream": configuration.streams} if configuration.streams else {}),
            "field": configuration.fields,
            "segment": configuration.segments,
        }
        counts = ", ".join(f"{len(found)} {kind}{'' if len(found) == 1 else 's'}" for kind, found in parts.items())
        origin = f"{file} is valid" if file else f"version {configuration.version} is in force"
        yield Check(name, True, f"{origin}: {counts}")

    def _secrets(self) -> Iterator[Check]:
        if self.configuration is None:
            return
        count = 0
        for place, secret in secrets_of(self.configuration):
            try:
                self._seen.add(self.vault.resolve(secret))
                count += 1
            except ConfigurationError as error:
                fix = "set it where StoreCue is started, then restart" if is_reference(secret) else "enter it anew"
                yield Check("secrets", False, f"{place}: {error.message}", fix)
        if count:
            yield Check("secrets", True, f"{count} can be read")

    # --- time --------------------------------------------------------------------------------------------------------

    def _clock(self) -> Check:
        shown = isoformat(self.now)
        fix = "set this machine's clock (and keep it set: `timedatectl set-ntp true`), then restart StoreCue"
        if self.now < BUILT_AT:
            return Check("clock", False, f"shows {shown}, a time before StoreCue was written", fix)
        newest = max((at for at in (*self._written(), self._last_delivery()) if at is not None), default=0)
        if self.now + _TOLERANCE < newest:
            behind = f"{isoformat(newest)}, when something was last written here"
            return Check("clock", False, f"shows {shown}, which is before {behind}", fix)
        return Check("clock", True, f"shows {shown}")

    def _time_zones(self) -> Check:
        name = "time zones"
        zone = self.configuration.store.timezone if self.configuration else "UTC"
        try:
            version = importlib.metadata.version("tzdata")
            ZoneInfo(zone)
        except (importlib.metadata.PackageNotFoundError, KeyError, ValueError, OSError):
            return Check(name, False, f"there is no data for {zone}", "run `pip install --upgrade tzdata`")
        return Check(name, True, f"data of {version}, the store is in {zone}")

    def _written(self) -> list[Millis]:
        paths = [_path(url) for url in (self.settings.database_url, self.settings.inbox_url)]
        return [round(path.stat().st_mtime * 1000) for path in paths if path is not None and path.exists()]

    def _last_delivery(self) -> Millis | None:
        if self.inbox is None:
            return None
        try:
            with self.inbox.read() as connection:
                newest = select(func.max(delivery.c.id)).scalar_subquery()
                at: Millis | None = connection.execute(
                    select(delivery.c.received_at).where(delivery.c.id == newest)
                ).scalar()
                return at
        except _UNREADABLE:
            return None  # the check of the databases tells why

    # --- storage -----------------------------------------------------------------------------------------------------

    def _databases(self) -> Iterator[Check]:
        for name, url, database in (
            ("database", self.settings.database_url, self.database),
            ("delivery log", self.settings.inbox_url, self.inbox),
        ):
            if name != "database" and url == self.settings.database_url:
                continue
            path = _path(url)
            if path is None and database is None:
                fix = "unset DATABASE_URL for SQLite, or set it to a URL that begins with postgresql://"
                yield Check(name, False, "DATABASE_URL names a kind of database that is not supported", fix)
            elif path is None and database is not None and name == "database":  # on a server the log is in it
                yield from _served(name, database, self.now)
            elif path is not None and database is None:
                yield Check(name, True, f"{path} is not there yet; `storecue up` makes it")
            elif path is not None and database is not None:
                yield _sound(name, path, database)

    def _log(self) -> Iterator[Check]:
        if self.database is None or self.inbox is None:
            return  # the databases are made at the first start
        log = log_of(self.settings, self.database, self.inbox)
        try:
            standing = log.standing()
        except _UNREADABLE:
            return  # the check of the databases tells why
        except ConfigurationError as error:
            yield Check("log", False, error.message, "see docs/kafka.md")
            return
        finally:
            log.close()
        message, _, fix = standing.trouble.partition(": ")
        if standing.trouble:
            yield Check("log", False, f"{standing.log}: {message}", fix or "see docs/kafka.md")
        else:
            parts, note = len(standing.partitions), f"; {standing.note}" if standing.note else ""
            yield Check("log", True, f"{standing.log}, {parts} partitions, {standing.lag:,} deliveries wait{note}")

    def _old_events(self) -> Iterator[Check]:
        """Told, and no fault: what a rule reads may have been fetched again since."""
        if self.configuration is None or self.database is None:
            return
        try:
            with self.database.read() as connection:
                told = lacking(connection, RuleSet(self.configuration.segments, self.configuration.store), self.now)
        except _UNREADABLE:
            return  # the check of the databases tells why
        for line in told:
            yield Check("events", True, f"{line}; {MENDED_BY}")

    def _disk(self) -> Check:
        folder = self.settings.data_dir.absolute()
        while not folder.exists():
            folder = folder.parent
        free = self.free_bytes(folder)
        message = f"{free / 1024**3:.1f} GiB free for {self.settings.data_dir}"
        fix = "make room on that disk, or lower STORECUE_RETENTION_DAYS: without room no delivery can be kept"
        return Check("disk", True, message) if free >= ENOUGH_BYTES else Check("disk", False, message, fix)

    # --- the world outside -------------------------------------------------------------------------------------------

    def _destinations(self) -> Iterator[Check]:
        for config in self.configuration.destinations.values() if self.configuration else ():
            yield self._destination(config)

    def _destination(self, config: DestinationConfig) -> Check:
        name = f"destination {config.name}"
        try:
            credentials = {key: self.vault.resolve(secret) for key, secret in config.credentials.items()}
        except ConfigurationError:
            return Check(name, False, "not tried: its credentials cannot be read", "see the lines on secrets above")
        try:
            account = self.connect(config, credentials)
            try:
                login = account.check_login()
            finally:
                account.close()
        except DeliveryError as error:
            references = ", ".join(secret for secret in config.credentials.values() if is_reference(secret))
            fix = next(text for kind, text in _FIXES if isinstance(error, kind))
            return Check(
                name, False, error.message, fix.format(reference=references or "its credentials", name=config.name)
            )
        except Exception as error:
            fix = f"this is a fault of StoreCue's {config.kind} adapter: please report it with the version of StoreCue"
            return Check(name, False, f"the answer was not understood ({type(error).__name__})", fix)
        dry = "; dry run, nothing is sent" if config.dry_run else ""
        notes = "".join(f"; {note}" for note in login.notes)
        return Check(name, True, f"logged in as {login.name} ({login.id}){dry}{notes}")

    def _sources(self) -> Iterator[Check]:
        if self.configuration is None or not self.configuration.sources:
            return
        heard = {}
        if self.database is not None:
            try:
                with self.database.read() as connection:
                    heard = heard_of.standing(connection)
            except _UNREADABLE:
                return  # the check of the databases tells why
        for source in self.configuration.sources.values():
            row = heard.get(source.name, heard_of.unheard())
            name, at = f"source {source.name}", row["last_at"]
            address = f"{self.settings.public_url}{_where(source)}"
            refused = sum(row["rejected"].values())
            if at is not None:
                old = f", {(self.now - at) // DAY} days ago" if self.now - at >= DAY else ""
                yield Check(name, True, f"last delivery {isoformat(at)}{old}")
            elif refused:
                reasons = ", ".join(sorted(row["rejected"]))
                fix = f"compare the secret of {source.name} with the sender's own; the address for it is {address}"
                yield Check(name, False, f"nothing accepted yet, {refused} deliveries refused ({reasons})", fix)
            else:
                outside = (
                    "" if address.startswith("https:") else "set STORECUE_PUBLIC_URL to your proxy's address, and "
                )
                yield Check(name, False, "nothing received yet", f"{outside}tell the sender to deliver to {address}")

    def _streams(self) -> Iterator[Check]:
        for config in self.configuration.streams.values() if self.configuration else ():
            name = f"stream {config.name}"
            try:
                credentials = {key: self.vault.resolve(secret) for key, secret in config.credentials.items()}
            except ConfigurationError:
                yield Check(name, False, "not tried: its credentials cannot be read", "see the lines on secrets above")
                continue
            try:
                yield Check(name, True, BROKERS[config.kind](StreamAccount(config, credentials)).check(_ANSWER_S / 2))
            except (ConfigurationError, StreamUnavailable) as error:
                message, _, fix = error.message.partition(": ")
                yield Check(name, False, message, fix or f"see what the broker says, and correct stream {config.name}")

    def _port(self) -> Check:
        host, port = self.settings.host, self.settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one leaves traces
                probe.bind((host, port))
        except OSError as error:
            if _answers(host, port):
                return Check("port", True, f"StoreCue answers on {host}:{port}")
            fix = "choose another with STORECUE_HOST and STORECUE_PORT, or stop the program that has it"
            return Check("port", False, f"{host}:{port} cannot be used ({error.strerror})", fix)
        return Check("port", True, f"{host}:{port} is free")


_UNREADABLE = (SQLAlchemyError, sqlite3.Error)
"""What a broken database raises: SQLAlchemy wraps the driver's errors, but not those of setting up a connection."""

_KEY_FIXES = {
    "key_permissions": "chmod 600 {path}",
    "wrong_key": "put the former key back; it may stand behind the new one in STORECUE_SECRET_KEY",
}

_FIXES: tuple[tuple[type[DeliveryError], str], ...] = (
    (Unauthorized, "make a new key at the vendor, with the rights StoreCue needs, and put it where {reference} says"),
    (Misconfigured, "correct it under destinations, {name}, and apply again"),
    (Transient, "see that this machine reaches the vendor (DNS, firewall, the vendor's status page) and try again"),
    (DeliveryError, "see what the vendor says, correct destination {name}, and try again"),
)


def _where(source: SourceConfig) -> str:
    """The path that a source delivers to: clients of the tracking API know the rest, and the key says which source."""
    return "/v1" if source.kind == SegmentApi.kind else f"/webhooks/{source.kind}/{source.name}"


def _existing(url: str) -> Database | None:
    """The database at a URL, or None while its file is not there: looking must not make one."""
    path = _path(url)
    if path is not None and not path.exists():
        return None
    try:
        return Database(url)
    except ConfigurationError:
        return None


def _path(url: str) -> Path | None:
    """The file of a SQLite URL."""
    scheme, _, path = url.partition(":///")
    return Path(path) if scheme.startswith("sqlite") and path else None


def _token(database: Database) -> str | None:
    try:
        with database.read() as connection:
            return store.key_token(connection)
    except _UNREADABLE:
        return None  # the check of the databases tells why


def _sound(name: str, path: Path, database: Database) -> Check:
    fix = f"stop StoreCue, keep a copy of {path}, and restore your last backup of it"
    try:
        with database.read() as connection:
            faults = _pragma(connection, "quick_check(3)")
            mode = _pragma(connection, "journal_mode")
    except _UNREADABLE as error:
        cause = _cause(error)
        if "readonly" in cause or "unable to open" in cause:  # a right that is missing, not a damage
            fix = f"give the user that runs StoreCue the right to write to {path} and to the folder it is in"
        return Check(name, False, f"{path} cannot be read ({cause})", fix)
    if faults != ["ok"]:
        return Check(name, False, f"{path} is damaged: {'; '.join(faults)}", fix)
    if mode != ["wal"]:
        disk = "put STORECUE_DATA on a local disk: network file systems cannot keep a write-ahead log"
        return Check(name, False, f"{path} has no write-ahead log (journal mode {mode[0]})", disk)
    return Check(name, True, f"{path} is sound, {path.stat().st_size / 1024**2:.1f} MiB")


def _served(name: str, database: Database, now: Millis) -> Iterator[Check]:
    """A line on a server, and one for each thing that is not as it must be there."""
    try:
        with database.read() as connection:
            found = setup_of(connection)
    except _UNREADABLE as error:
        fix = "see that the server runs, that this machine reaches it, and that host, user and password are right"
        yield Check(name, False, f"{database.place} cannot be reached ({_cause(error)})", fix)
        return
    faults = list(wrong(found, now))
    for message, fix in faults:
        yield Check(name, False, f"{database.place}: {message}", fix)
    if not faults:
        taken = f"{found.connections} of {found.allowed} connections are taken"
        yield Check(name, True, f"{database.place} is PostgreSQL {found.version}; {taken}")


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error).partition("\n")[0]


def _pragma(connection: Connection, name: str) -> list[str]:
    return [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA {name}")]


def _answers(host: str, port: int) -> bool:
    """True when a StoreCue answers there."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    connection = http.client.HTTPConnection(here, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return bool(json.loads(connection.getresponse().read(1000)) == {"status": "ok"})
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
