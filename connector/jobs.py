"""Background work after the configuration changed: refill changed segments, bring desired states up to date.

What was done is known by fingerprints in `meta`, so that a restart, or a second apply half way, goes on rightly. A
piece of work is one short transaction; deliveries and the clock are served in between.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict

import orjson
import structlog
from sqlalchemy import Connection, delete, func, select, update

from connector.clock import Millis
from connector.domain import Configuration, DestinationConfig
from connector.pipeline import Pipeline
from connector.segments import refill
from connector.storage.database import Database
from connector.storage.phrases import upsert
from connector.storage.tables import meta, profile
from connector.storage.tables import refill as refill_table
from connector.sync import store as sync_store

log = structlog.get_logger("jobs")

RESYNC = ""
"""The name under which the renewal of all desired states runs in the table `refill`."""

_FILLED = "filled:"
_SHOWN = "shown:"  # per destination: what decides which account and what it shows
_PEOPLE = 2_000  # in the first piece: with every one of them flipping, three destinations take about 0.3 s
_MOST_PEOPLE = 128_000
_MOST_FLIPPED = 4_000  # people of one piece whose desired states are renewed with it
_SHORT, _LONG = 0.1, 0.3  # seconds: a piece holds the write lock, and larger pieces cost less per person


class _TooManyError(Exception):
    """More people of a piece flipped than the write lock's time allows to renew."""


class Jobs:
    """The background work of one worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._planned = False
        # Per piece of work: a rule that moves nobody goes through 100 people while one is moved.
        self._people: dict[str, int] = {}

    def plan(self, pipeline: Pipeline, now: Millis) -> None:
        """Note what the configuration of `pipeline` needs done, and tell the line which segments are not filled."""
        configuration = pipeline.configuration
        with self._database.tx() as tx:
            known = {
                name: value
                for name, value in tx.execute(
                    select(meta.c.name, meta.c.value).where(
                        meta.c.name.startswith(_FILLED, autoescape=True)
                        | meta.c.name.startswith(_SHOWN, autoescape=True)
                    )
                )
            }
            wanted = {_FILLED + segment: mark for segment, mark in _rule_marks(pipeline).items()}
            last = tx.execute(select(func.coalesce(func.max(profile.c.id), 0))).scalar_one()
            for name, mark in wanted.items():
                if known.get(name) != mark:
                    refill.start(tx, name.removeprefix(_FILLED), last, now)
            for name in known.keys() - wanted.keys():
                if name.startswith(_FILLED):
                    refill.start(tx, name.removeprefix(_FILLED), last, now)
            shown = self._plan_destinations(tx, configuration, known, now)
            fields = {_SHOWN + RESYNC: _mark([asdict(field) for field in configuration.fields.values()])}
            if any(known.get(name) != mark for name, mark in (shown | fields).items()):
                refill.start(tx, RESYNC, last, now)
            tx.execute(delete(meta).where(meta.c.name.in_(known.keys() - wanted.keys() - shown.keys())))
            _remember(tx, wanted | shown | fields)
            sync_store.end_refills(tx, configuration.version)
        pipeline.filling = self._unfinished()

    def _plan_destinations(
        self, tx: Connection, configuration: Configuration, known: Mapping[str, str], now: Millis
    ) -> dict[str, str]:
        """The marks of the destinations, after dropping what is known of removed or redirected ones."""
        marks = {}
        for destination in configuration.destinations.values():
            name = _SHOWN + destination.name
            marks[name] = "/".join((_account_mark(destination), _mark(_shown(destination)), _lists(destination)))
            before = known.get(name)
            if before is not None and before.partition("/")[0] != _account_mark(destination):
                sync_store.forget_account(tx, destination.name)
            if before != marks[name]:
                sync_store.reopen(tx, destination.name, now)
                if destination.lists and before is not None and not before.endswith(_lists(destination)):
                    sync_store.relist(tx, destination.name, now)
            elif not self._planned:
                # What a reference such as env:NAME stands for may have been put right before this start.
                sync_store.try_account(tx, destination.name, now)
        for name in known.keys() - marks.keys():
            if name.startswith(_SHOWN) and name != _SHOWN + RESYNC:
                sync_store.forget_account(tx, name.removeprefix(_SHOWN))
        self._planned = True
        return marks

    def step(self, pipeline: Pipeline, now: Millis) -> bool:
        """Do one piece; False when nothing is left to do."""
        if not pipeline.filling:
            return False
        removed = [segment for segment in pipeline.filling if segment not in pipeline.ruleset.conditions and segment]
        name = next(name for name in (*removed, *pipeline.ruleset.conditions, RESYNC) if name in pipeline.filling)
        people, started = self._people.get(name, _PEOPLE), time.perf_counter()
        try:
            with self._database.tx() as tx:
                if name == RESYNC:
                    done = self._resync(tx, pipeline, people, now)
                else:
                    progress = refill.step(tx, pipeline.ruleset, name, now, people)
                    if len(progress.flipped) > _MOST_FLIPPED and people > _PEOPLE:
                        raise _TooManyError
                    pipeline.resync(tx, progress.flipped, now, filled=name)
                    done = progress.done
                if done:
                    sync_store.end_refills(tx, pipeline.configuration.version)
        except _TooManyError:  # nothing was written: the same people come again in smaller pieces
            self._people[name] = max(people // 8, _PEOPLE)
            return True
        self._people[name] = _next_size(people, time.perf_counter() - started)
        if done:
            del self._people[name]
            log.info("refill.finished", segment=name or "(desired states)")
            pipeline.filling = {segment: last for segment, last in pipeline.filling.items() if segment != name}
        return True

    def _resync(self, tx: Connection, pipeline: Pipeline, people: int, now: Millis) -> bool:
        row = tx.execute(select(refill_table).where(refill_table.c.segment == RESYNC)).one()
        until = row.position + people
        piece = select(profile.c.id).where(
            profile.c.id > row.position, profile.c.id <= until, profile.c.merged_into.is_(None)
        )
        pipeline.resync(tx, tx.execute(piece).scalars().all(), now)
        done = bool(until >= row.last)
        tx.execute(
            update(refill_table)
            .where(refill_table.c.segment == RESYNC)
            .values(position=min(until, row.last), finished_at=now if done else None)
        )
        return done

    def _unfinished(self) -> dict[str, int]:
        with self._database.read() as connection:
            query = select(refill_table.c.segment, refill_table.c.last).where(refill_table.c.finished_at.is_(None))
            return {segment: last for segment, last in connection.execute(query)}


def _next_size(people: int, seconds: float) -> int:
    """How many people the next piece takes, after one of `people` took `seconds`."""
    if seconds < _SHORT:
        return min(people * 2, _MOST_PEOPLE)
    return max(people // 2, 500) if seconds > _LONG else people


def _rule_marks(pipeline: Pipeline) -> dict[str, str]:
    """A fingerprint of each segment's rule, with those of the segments it refers to: they decide who is in it."""
    store, marks = pipeline.configuration.store, dict[str, str]()
    for segment in pipeline.ruleset.conditions:
        rule = pipeline.configuration.segments[segment].when
        parts = [marks[other] for other in pipeline.ruleset.conditions[segment].segments()]
        marks[segment] = _mark([rule, store.timezone, store.currency, parts])
    return marks


def _account_mark(destination: DestinationConfig) -> str:
    """A fingerprint of which account a destination is: what was pushed to another one says nothing about it."""
    return _mark([destination.kind, destination.list_id, destination.base_url])


def _shown(destination: DestinationConfig) -> list[object]:
    """What else of a destination decides what is pushed, and whether it may be tried again."""
    return [
        destination.segments,
        destination.create_contacts,
        destination.dry_run,
        destination.lists,
        dict(destination.credentials),
        dict(destination.options),
    ]


def _lists(destination: DestinationConfig) -> str:
    return "lists" if destination.lists else "tags alone"


def _mark(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _remember(tx: Connection, marks: Mapping[str, str]) -> None:
    if marks:
        row = upsert(meta)
        tx.execute(
            row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}),
            [{"name": name, "value": mark} for name, mark in sorted(marks.items())],
        )
