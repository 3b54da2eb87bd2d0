"""The process settings: what one `storecue` process reads from its environment, before any storecue.yaml."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from environs import Env, EnvError

from connector.errors import ConfigurationError
from connector.inbox.kafka.client import MECHANISMS, SECURITY
from connector.inbox.kafka.cluster import Cluster
from connector.storage.database import sqlite_url

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("console", "json")

_RANGES = {
    "port": ("STORECUE_PORT", 1, 65_535),
    "partitions": ("STORECUE_PARTITIONS", 1, 1024),
    "max_body": ("STORECUE_MAX_BODY", 1024, 100 * 1024 * 1024),
    "retention_days": ("STORECUE_RETENTION_DAYS", 1, 3650),
    "lease_seconds": ("STORECUE_LEASE_SECONDS", 3, 300),
    "event_retention_days": ("STORECUE_EVENT_RETENTION_DAYS", 0, 36_500),
}
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SHORTEST_SESSION, _LONGEST_SESSION = 2, 300
_SMALLEST_RECORD, _LARGEST_RECORD = 100_000, 100 * 1024 * 1024
_CHOICES = {
    "log_level": ("STORECUE_LOG_LEVEL", LOG_LEVELS),
    "log_format": ("STORECUE_LOG_FORMAT", LOG_FORMATS),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where this process keeps its data, where it listens, and its keys. `repr` shows no secret.

    `secret_keys` are Fernet keys, newest first, empty when they are to be read from `secret_key_file`.
    `max_body` in bytes; `retention_days` is how long raw deliveries are kept, `event_retention_days` how long events
    that no rule reads, 0: for ever. `lease_seconds`: how long a process may be silent until others do what it does.
    `kafka`: where the log is, or None.
    """

    data_dir: Path
    database_url: str = field(repr=False)  # may carry a password
    inbox_url: str = field(repr=False)
    host: str
    port: int
    public_url: str
    api_token: str | None = field(repr=False)
    secret_keys: tuple[str, ...] = field(repr=False)
    secret_key_file: Path
    log_level: str
    log_format: str
    partitions: int
    max_body: int
    retention_days: int
    event_retention_days: int = 0
    lease_seconds: int = 10
    kafka: Cluster | None = None

    def __post_init__(self) -> None:
        for name, (variable, low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{variable} is {value}; it must be from {low} to {high}")
        for name, (variable, choices) in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigurationError(f"{variable} is {value!r}; use one of {', '.join(choices)}")
        if urlsplit(self.public_url).scheme not in ("http", "https") or not urlsplit(self.public_url).netloc:
            raise ConfigurationError(
                f"STORECUE_PUBLIC_URL is {self.public_url!r}; it must be a URL such as https://cues.example.com"
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings from `environ` (the process's own by default), then from `overrides` that are not None.

        A variable set to nothing counts as unset. Raises ConfigurationError that names the variable.
        """
        env = _Environment(os.environ if environ is None else environ)
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            data_dir = Path(given.pop("data_dir", env.str("STORECUE_DATA", "./storecue-data"))).expanduser()
            database_url = env.str("DATABASE_URL", "") or sqlite_url(data_dir / "storecue.db")
            host = given.pop("host", env.str("STORECUE_HOST", "127.0.0.1"))
            port = given.pop("port", env.int("STORECUE_PORT", 8080))
            key_file = env.str("STORECUE_SECRET_KEY_FILE", "") or data_dir / "secret.key"
            kafka = _cluster(env)
            # On SQLite the log is a file of its own; on a server it lives in the same database. What Kafka cannot do,
            # the state's database does in the effects' transaction.
            apart = kafka is None and database_url.startswith("sqlite")
            values: dict[str, Any] = {
                "data_dir": data_dir,
                "database_url": database_url,
                "inbox_url": sqlite_url(data_dir / "inbox.db") if apart else database_url,
                "host": host,
                "port": port,
                "public_url": env.str("STORECUE_PUBLIC_URL", f"http://{_bracketed(host)}:{port}").rstrip("/"),
                "api_token": env.str("STORECUE_API_TOKEN", "") or None,
                "secret_keys": split_keys(env.str("STORECUE_SECRET_KEY", "")),
                "secret_key_file": Path(key_file),
                "log_level": env.str("STORECUE_LOG_LEVEL", "info").lower(),
                "log_format": env.str("STORECUE_LOG_FORMAT", "console").lower(),
                "partitions": env.int("STORECUE_PARTITIONS", 16),
                "max_body": env.int("STORECUE_MAX_BODY", 5 * 1024 * 1024),
                "retention_days": env.int("STORECUE_RETENTION_DAYS", 7),
                "event_retention_days": env.int("STORECUE_EVENT_RETENTION_DAYS", 0),
                "lease_seconds": env.int("STORECUE_LEASE_SECONDS", 10),
                "kafka": kafka,
            }
        except EnvError as error:
            raise ConfigurationError(f"{error}") from None
        return cls(**{**values, **given})


def _cluster(env: Env) -> Cluster | None:
    """The Kafka of the log; None when KAFKA_BOOTSTRAP names none."""
    if not (bootstrap := env.str("KAFKA_BOOTSTRAP", "")):
        return None
    told: dict[str, Any] = {
        "topic": env.str("KAFKA_TOPIC", ""),
        "group": env.str("KAFKA_GROUP", ""),
        "security": env.str("KAFKA_SECURITY", "").lower(),
        "mechanism": env.str("KAFKA_MECHANISM", "").upper(),
        "username": env.str("KAFKA_USERNAME", ""),
        "password": env.str("KAFKA_PASSWORD", ""),
        "ca_file": env.str("KAFKA_CA_FILE", ""),
        "certificate_file": env.str("KAFKA_CERTIFICATE_FILE", ""),
        "key_file": env.str("KAFKA_KEY_FILE", ""),
        "key_password": env.str("KAFKA_KEY_PASSWORD", ""),
        "record_limit": env.int("KAFKA_RECORD_LIMIT", 0),
    }
    if session := env.int("KAFKA_SESSION", 0):
        told |= {"session": session, "heartbeat": session * 0.3}
    cluster = Cluster(bootstrap, **{name: value for name, value in told.items() if value})
    for name, value, choices in (
        ("SECURITY", cluster.security, tuple(SECURITY)),
        ("MECHANISM", cluster.mechanism, MECHANISMS),
    ):
        if value not in choices:
            raise ConfigurationError(f"KAFKA_{name} is {value!r}; use one of {', '.join(choices)}")
    if not _TOPIC.fullmatch(cluster.topic):
        raise ConfigurationError(f"KAFKA_TOPIC is {cluster.topic!r}; it may have letters, digits, dots, _ and -")
    if not _SMALLEST_RECORD <= cluster.record_limit <= _LARGEST_RECORD:
        raise ConfigurationError(
            f"KAFKA_RECORD_LIMIT is {cluster.record_limit}; it must be from {_SMALLEST_RECORD} to {_LARGEST_RECORD}"
        )
    if not _SHORTEST_SESSION <= cluster.session <= _LONGEST_SESSION:
        raise ConfigurationError(
            f"KAFKA_SESSION is {cluster.session:g}; it must be from {_SHORTEST_SESSION} to {_LONGEST_SESSION}"
        )
    by_login = cluster.security.startswith("sasl")
    if by_login != bool(cluster.username and cluster.password):
        raise ConfigurationError(
            f"KAFKA_SECURITY is {cluster.security}: "
            + ("give KAFKA_USERNAME and KAFKA_PASSWORD" if by_login else "for a login it must be sasl_ssl")
        )
    return cluster


def split_keys(text: str) -> tuple[str, ...]:
    """The keys in a text where they are separated by commas, spaces or lines, in their order."""
    return tuple(text.replace(",", " ").split())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Environment(Env):
    """environs over a given mapping instead of the process's environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._given = environ

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._given.get(env_key) or default
