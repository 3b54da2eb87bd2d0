"""Events past their age: thrown away where no rule reads as far back, and what a rule then lacks.

Numbers that are computed from stored orders (`orders_count`, `total_spent`) need no events, and stay as they are.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, and_, case, delete, func, literal, select

from connector.clock import DAY, Millis
from connector.segments.evaluate import RuleSet
from connector.storage.phrases import greatest, upsert
from connector.storage.tables import event, meta, profile, pruned_event

if TYPE_CHECKING:
    from connector.services import Services

log = structlog.get_logger("housekeeping")

_PIECE = 2_000  # events in one transaction, so that nobody waits for it
_PEOPLE = 500  # looked at in one statement
_LOOKS = 4  # statements in one step
_NEVER: Millis = -(1 << 62)
_DUE = "old_events_due"  # when a walk over all people is due again, in `meta`

MENDED_BY = "give the rule a shorter window, or fetch that time again (`storecue backfill start`) where the source can"

Reaches = Mapping[str, Millis | None]
"""How far back the rules read each event, None: all of them (`RuleSet.needs`)."""


def cuts(needs: Reaches, keep: Millis, now: Millis) -> tuple[Millis, dict[str, Millis]]:
    """Before when events may go: of the names that no rule reads, and of each other one."""
    old = now - keep
    return old, {name: _NEVER if reach is None else min(old, now - reach) for name, reach in needs.items()}


class OldEvents:
    """A walk over all people, once a day, a little at a time. Events are found by person: by age alone there is no
    index, because each would cost every event that comes."""

    def __init__(self, services: "Services") -> None:
        self._services = services
        self._next: Millis = 0
        self._profile = 0  # people up to this one are done
        self._gone = 0

    def step(self, now: Millis) -> None:
        """Look at some people when it is time."""
        days = self._services.settings.event_retention_days
        if not days or now < self._next:
            return
        if not self._profile and (due := self._due()) > now:
            self._next = due
            return
        old, by_name = cuts(self._services.ruleset().needs, days * DAY, now)
        with self._services.database.read() as connection:
            last = connection.execute(select(func.coalesce(func.max(profile.c.id), 0))).scalar_one()
            found: dict[str, str] = {}
            for _ in range(_LOOKS):
                found = _prunable(connection, self._profile, old, by_name)
                if found or self._profile >= last:
                    break
                self._profile += _PEOPLE
        if found:
            self._prune(found, old, by_name)
        elif self._profile >= last:
            self._done(now)

    def _prune(self, found: Mapping[str, str], old: Millis, by_name: Mapping[str, Millis]) -> None:
        with self._services.database.tx() as tx:
            self._gone += tx.execute(delete(event).where(event.c.id.in_(list(found)))).rowcount
            rows = [
                {"name": name, "before": by_name.get(name, old), "count": count}
                for name, count in Counter(found.values()).items()
            ]
            tx.execute(_NOTE, rows)

    def _due(self) -> Millis:
        with self._services.database.read() as connection:
            return int(connection.execute(select(meta.c.value).where(meta.c.name == _DUE)).scalar() or 0)

    def _done(self, now: Millis) -> None:
        if self._gone:
            log.info("housekeeping.events_pruned", count=self._gone)
        self._profile, self._gone, self._next = 0, 0, now + DAY
        row = upsert(meta).values(name=_DUE, value=str(self._next))
        with self._services.database.tx() as tx:
            tx.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))


_NOTE = upsert(pruned_event)
_NOTE = _NOTE.on_conflict_do_update(
    index_elements=["name"],
    set_={
        "before": greatest(pruned_event.c.before, _NOTE.excluded.before),
        "count": pruned_event.c.count + _NOTE.excluded.count,
    },
)


def _prunable(connection: Connection, after: int, old: Millis, by_name: Mapping[str, Millis]) -> dict[str, str]:
    """Id -> name of some events that may go, of the people after this one."""
    cut = case(dict(by_name), value=event.c.name, else_=old) if by_name else literal(old)
    of_them = and_(event.c.profile_id > after, event.c.profile_id <= after + _PEOPLE)
    query = select(event.c.id, event.c.name).where(of_them, event.c.at < old, event.c.at < cut).limit(_PIECE)
    return {id_: name for id_, name in connection.execute(query)}


def lacking(connection: Connection, rules: RuleSet, now: Millis) -> list[str]:
    """A sentence for each name of event of which a rule reads what was thrown away."""
    told = []
    for name, before, count in connection.execute(select(pruned_event).order_by(pruned_event.c.name)):
        segments = [
            id
            for id, condition in rules.conditions.items()
            if any(one.event == name and (one.reach is None or now - one.reach < before) for one in condition.needs())
        ]
        if segments:
            day = datetime.fromtimestamp(before / 1000, UTC).date()
            told.append(f"{', '.join(segments)} reads {name} of before {day}, and {count:,} of them were thrown away")
    return told
