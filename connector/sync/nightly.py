"""Reading a destination back in its sender's turn, a piece whenever nothing is to be pushed: a sample once in each of
the store's nights, and what somebody asked for."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from hashlib import blake2b
from zoneinfo import ZoneInfo

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError

from adapters.destination import Destination
from adapters.errors import DeliveryError
from connector.clock import DAY, HOUR, Millis
from connector.domain import Configuration, DestinationConfig
from connector.errors import ConnectorError, Fenced
from connector.storage.database import Database
from connector.sync import store
from connector.sync.guard import PERCENT, SMALL
from connector.sync.verify import Reading, Tell, Verification, begin, mend, ours, read_piece

log = structlog.get_logger("verify")

_BEGINS = time(1)  # on the store's clock
_SPREAD = 3 * 60 * 60  # seconds over which the destinations' nights begin
_LASTS: Millis = 6 * HOUR  # whoever could not be read by then waits for the next night
_RETRY: Millis = HOUR
_PIECE = 40  # contacts read in one go: at the slowest vendor a push waits a few seconds for it
_NAMED = 20  # profiles kept of each difference


def nightfall(at: Millis, zone: ZoneInfo, destination: str) -> Millis:
    """The latest instant, not after `at`, at which a destination's night begins: between 1 and 4 on the store's clock,
    each destination at an instant of its own. Each local date has one, when clocks are changed as well: an hour that
    is left out counts on past its beginning, of an hour that comes twice the first is meant."""
    today = datetime.fromtimestamp(at / 1000, zone).date()
    begins = (_begins(today - timedelta(days=days), zone, destination) for days in range(3))
    return next(instant for instant in begins if instant <= at)


def _begins(day: date, zone: ZoneInfo, destination: str) -> Millis:
    digest = int.from_bytes(blake2b(destination.encode(), digest_size=8).digest())
    wall = datetime.combine(day, _BEGINS) + timedelta(seconds=digest % _SPREAD)
    return int(wall.replace(tzinfo=zone).timestamp()) * 1000


@dataclass(slots=True)
class _Task:
    """A read-back under way: for a night, or the one that was asked for as `id_`."""

    id_: int | None
    night: Millis | None
    size: int
    repair: bool
    reading: Reading


class Nightly:
    """The read-backs of one destination. What is under way lives in memory: after a restart it begins anew."""

    def __init__(self, database: Database, config: DestinationConfig, configuration: Configuration, tell: Tell) -> None:
        self._database = database
        self._config = config
        self._name = config.name
        self._zone = ZoneInfo(configuration.store.timezone)
        self._tags = ours(config, configuration.segments)
        self._tell = tell
        self._task: _Task | None = None
        self._settled: Millis | None = None  # the night that is known to be done

    def step(self, adapter: Destination, now: Millis) -> None:
        """Read one piece when there is something to read. An account that cannot be read is tried again in an hour,
        and no fault of a read-back ever stops a push."""
        task = self._task = self._task or self._next(now)
        if task is None:
            return
        try:
            read_piece(
                self._database,
                adapter,
                self._name,
                self._tags,
                task.reading,
                _PIECE,
                now,
                recreate=False,
                tell=self._tell,
            )
        except (SQLAlchemyError, Fenced):
            raise  # the disk, or another process has the turn by now: it is nobody's read-back that failed
        except (DeliveryError, ConnectorError) as error:
            self._close(task, "failed", error.message, now)
        except Exception as error:
            log.exception("verify.failed", destination=self._name)
            self._close(task, "failed", f"a fault of ours, see the log: {type(error).__name__}", now)
        else:
            if not task.reading.waiting:
                self._close(task, "done", self._mended(task, now), now)

    def _next(self, now: Millis) -> _Task | None:
        night = self._due(now)
        with self._database.read() as connection:
            asked = store.wanted_verification(connection, self._name)
        if asked is not None:
            reading = begin(self._database, self._name, asked["sample"], asked["id"])
            return _Task(asked["id"], None, asked["sample"], bool(asked["repair"]), reading)
        how = self._config.verify
        if night is None or how is None:
            return None
        return _Task(None, night, how.sample, how.repair, begin(self._database, self._name, how.sample, night // DAY))

    def _due(self, now: Millis) -> Millis | None:
        """The night that is not read yet."""
        if self._config.verify is None:
            return None
        night = nightfall(now, self._zone, self._name)
        if now >= night + _LASTS or night == self._settled:
            return None
        with self._database.read() as connection:
            row = store.nights_verification(connection, self._name, night)
        if row is None or (row["state"] == "failed" and row["at"] + _RETRY <= now):
            return night
        if row["state"] == "done":
            self._settled = night
        return None

    def _mended(self, task: _Task, now: Millis) -> str:
        """Why what differs was not put right, though it should be; else the empty text."""
        found, strayed = task.reading.found, task.reading.strayed
        if not task.repair:
            return ""
        if found.checked >= SMALL and strayed * 100 > PERCENT * found.checked:
            # That is no drift but an accident, or what somebody meant.
            return (
                f"{strayed} of {found.checked} contacts are not as they were pushed: nothing was put right, because "
                f"somebody may have meant it; have a look, then run `storecue verify {self._name} --repair`"
            )
        mend(self._database, self._name, task.reading, now)
        return ""

    def _close(self, task: _Task, state: str, error: str, now: Millis) -> None:
        found = task.reading.found
        row = {
            "destination": self._name,
            "night": task.night,
            "state": state,
            "at": now,
            "sample": task.size,
            "repair": int(task.repair),
            "contacts": found.contacts,
            "checked": found.checked,
            "drifted": found.drifted,
            "repaired": found.repaired,
            "differences": _differences(found),
            "error": error,
        }
        with self._database.tx() as tx:
            store.record_verification(tx, task.id_, row)
        self._task = None
        say = log.warning if error or found.drifted else log.info
        counts = {name: row[name] for name in ("contacts", "checked", "drifted", "repaired")}
        say("verify.done", destination=self._name, state=state, **counts, hint=error)


def _differences(found: Verification) -> str:
    told = {
        difference: {"count": len(people), "profiles": people[:_NAMED]} for difference, people in found.profiles.items()
    }
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()
