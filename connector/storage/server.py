"""How a PostgreSQL server is set up, as far as StoreCue depends on it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

from connector.clock import SECOND, Millis, isoformat

_OLDEST = 130_000
_APART: Millis = 5 * SECOND
_FULL = 0.8  # of the connections


@dataclass(frozen=True, slots=True)
class Setup:
    """What the server says of itself. `at` is its clock; `connections` are all there are, of `allowed`."""

    number: int
    version: str
    encoding: str
    synchronous_commit: str
    fsync: str
    full_page_writes: str
    idle_timeout: str
    statement_timeout: str
    may_create: bool
    standby: bool
    at: Millis
    connections: int
    allowed: int


_ASKED = text("""
    SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,
    current_setting('server_encoding') AS encoding, current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    coalesce(current_setting('idle_session_timeout', true), '0') AS idle_timeout,
    current_setting('statement_timeout') AS statement_timeout,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, pg_is_in_recovery() AS standby,
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at,
    (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS connections,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0) AS allowed
""")


def size(connection: Connection) -> int:
    """Bytes of the database on the server's disk."""
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def setup_of(connection: Connection) -> Setup:
    return Setup(**connection.execute(_ASKED).mappings().one())


def wrong(found: Setup, now: Millis) -> Iterator[tuple[str, str]]:
    """What is wrong, each with what to do. `now` is this machine's clock."""
    for fails, message, fix in _RULES:
        if fails(found):
            yield message.format(found=found), fix.format(found=found)
    if abs(found.at - now) > _APART:
        yield (
            f"its clock shows {isoformat(found.at)}, {abs(found.at - now) / SECOND:,.0f} s away from this machine's",
            "keep both clocks right (`timedatectl set-ntp true`): who holds what is decided by the server's",
        )


_RULES: tuple[tuple[Callable[[Setup], bool], str, str], ...] = (
    (lambda f: f.number < _OLDEST, "it is PostgreSQL {found.version}", "use PostgreSQL 13 or newer"),
    (
        lambda f: f.encoding != "UTF8",
        "its encoding is {found.encoding}",
        "make the database anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
    ),
    (
        lambda f: f.standby,
        "it is a standby, which takes no writes",
        "let DATABASE_URL name the primary (target_session_attrs=read-write chooses it of several hosts)",
    ),
    (
        lambda f: not f.may_create,
        "its user may not create tables",
        "GRANT CREATE ON SCHEMA public TO the user of DATABASE_URL, or let it own the database",
    ),
    (
        lambda f: f.synchronous_commit == "off",
        "synchronous_commit is off: a delivery that was acknowledged may be lost when the server crashes",
        "ALTER DATABASE ... SET synchronous_commit = on, or take the setting away from the user or DATABASE_URL",
    ),
    (
        lambda f: f.fsync == "off" or f.full_page_writes == "off",
        "fsync is {found.fsync} and full_page_writes is {found.full_page_writes}: a power failure may destroy it all",
        "set both to on in postgresql.conf",
    ),
    (
        lambda f: f.idle_timeout not in ("0", "0ms"),
        "idle_session_timeout is {found.idle_timeout}: it ends connections that StoreCue holds on to",
        "ALTER ROLE ... SET idle_session_timeout = 0 for the user of DATABASE_URL",
    ),
    (
        lambda f: f.statement_timeout not in ("0", "0ms"),
        "statement_timeout is {found.statement_timeout}: a refill or a count may need longer",
        "ALTER ROLE ... SET statement_timeout = 0 for the user of DATABASE_URL",
    ),
    (
        lambda f: f.connections > _FULL * f.allowed,
        "{found.connections} of {found.allowed} connections are taken",
        "raise max_connections, or run fewer processes: `storecue up` takes about 10, and up to 20 for each of its two",
    ),
)
