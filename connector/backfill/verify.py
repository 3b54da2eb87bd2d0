"""What is missing of a source, and why: its access, its subscriptions, and its orders there and here, day by day."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from adapters.errors import DeliveryError
from connector.backfill import store
from connector.backfill.reconcile import cannot_subscribe, webhook_address
from connector.clock import Millis, isoformat
from connector.domain import SourceConfig
from connector.ports import Finding, History
from connector.quality.store import heard
from connector.storage.database import Database
from connector.storage.tables import counter

DAYS = 7
"""How many days are compared, today included."""

_REJECTED = "rejected"
_BAD_SIGNATURE = "bad_signature"


@dataclass(frozen=True, slots=True)
class Day:
    """The orders placed on one of the store's local days: at the source, and here."""

    day: str
    there: int
    here: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of a source. `good` when nothing is missing."""

    source: str
    findings: tuple[Finding, ...]
    days: tuple[Day, ...]

    @property
    def good(self) -> bool:
        return all(one.good for one in self.findings)


def verify(
    database: Database,
    config: SourceConfig,
    history: History,
    *,
    public: str,
    secrets: tuple[str, ...],
    timezone: str,
    now: Millis,
) -> Report:
    """Ask the source, and compare. Changes nothing."""
    findings = history.findings(now)
    days: tuple[Day, ...] = ()
    if findings[0].good:
        findings.append(_subscribed(config, history, public, secrets))
        try:
            days = _days(database, config.name, history, timezone, now)
            findings.append(_compared(days))
        except DeliveryError as error:
            findings.append(Finding("orders", False, error.message))
    with database.read() as connection:
        findings += [_heard(connection, config.name), _signatures(connection, config.name)]
        findings += _reconciled(connection, config.name)
    return Report(config.name, tuple(findings), days)


def _subscribed(config: SourceConfig, history: History, public: str, secrets: tuple[str, ...]) -> Finding:
    name = "subscriptions"
    try:
        held = history.subscriptions(webhook_address(public, config))
    except DeliveryError as error:
        return Finding(name, False, error.message)
    missing = sorted(topic for topic, there in held.items() if not there)
    if not missing:
        return Finding(name, True, f"all {len(held)} topics that we use are sent here")
    why = cannot_subscribe(public, config, secrets, history.signs) or "the worker makes them within the hour"
    return Finding(name, False, f"{len(missing)} of {len(held)} are not made by the app: {', '.join(missing)}; {why}")


def _days(database: Database, name: str, history: History, timezone: str, now: Millis) -> tuple[Day, ...]:
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone).date()
    dates = [today - timedelta(days=back) for back in reversed(range(DAYS))]

    def begins(date: object) -> Millis:
        midnight = datetime.fromisoformat(f"{date}T00:00:00").replace(tzinfo=zone)
        return int(midnight.timestamp() * 1000)

    spans = [(begins(date), min(begins(date + timedelta(days=1)), now)) for date in dates]
    there = history.days(spans)
    with database.read() as connection:
        here = [store.orders_placed(connection, name, first, last) for first, last in spans]
    return tuple(Day(str(date), *both) for date, *both in zip(dates, there, here, strict=True))


def _compared(days: tuple[Day, ...]) -> Finding:
    fewer = [f"{one.day}: {one.here} of {one.there}" for one in days if one.here < one.there]
    if fewer:
        return Finding("orders", False, f"fewer here than at the source ({'; '.join(fewer)}): start a backfill")
    return Finding("orders", True, f"{sum(one.there for one in days)} in {DAYS} days, all here")


def _heard(connection: Connection, name: str) -> Finding:
    last = heard(connection).get(name)
    words = (
        "none has come yet: when topics are subscribed, the shop's next change sends one"
        if last is None
        else f"the last one came at {isoformat(last)}"
    )
    return Finding("deliveries", last is not None, words)


def _signatures(connection: Connection, name: str) -> Finding:
    wanted = counter.c.label == f"{name}/{_BAD_SIGNATURE}"
    row = connection.execute(
        select(counter.c.count, counter.c.last_at).where(counter.c.name == _REJECTED, wanted)
    ).first()
    if row is None:
        return Finding("signatures", True, "none was refused")
    count, last = row
    newer = heard(connection).get(name, 0) > last
    words = f"{count} refused, the last one at {isoformat(last)}"
    hint = "" if newer else ": `secrets` of the source lacks the secret that they are signed with"
    return Finding("signatures", newer, f"{words}{hint}")


def _reconciled(connection: Connection, name: str) -> list[Finding]:
    rows = store.compared(connection, name)
    whole = rows.pop("", None)
    if whole is None:
        return [Finding("hourly look", True, "has not been taken yet")]
    ended = (
        f"the last one was complete up to {isoformat(whole['until'])}" if whole["until"] else "the first is under way"
    )
    words = whole["message"] or ended
    told = [Finding("hourly look", not whole["message"], words)]
    told += [
        Finding(f"missed {kind}", True, f"{row['missed']} were fetched by the last look, because no webhook had told")
        for kind, row in sorted(rows.items())
        if row["missed"]
    ]
    return told
