"""The straight line, for a batch in one transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import Configuration
from connector.errors import CannotMerge
from connector.fetch import store as fetches
from connector.inbox import deliveries
from connector.inbox.care import with_later
from connector.pipeline.batch import Batch, Meant
from connector.pipeline.consent import apply_consent
from connector.pipeline.decisions import Decisions
from connector.pipeline.erased import without_erased
from connector.pipeline.events import event_rows, give_orders, place_waiting
from connector.pipeline.meaning import counted, understand
from connector.pipeline.people import identify, load, unite
from connector.pipeline.stumbles import Stumbled
from connector.pipeline.things import store_things, things_of
from connector.pipeline.traits import compute_traits
from connector.pipeline.unmerge import separate
from connector.ports import Rec, Source
from connector.privacy import requests as privacy
from connector.profiles import holds, store, traits
from connector.profiles.identity import Merge, Rules
from connector.profiles.store import Person
from connector.quality.drift import ShapeWatch
from connector.segments import store as segment_store
from connector.segments.evaluate import RuleSet
from connector.segments.refill import BECAUSE
from connector.sources import configured
from connector.storage import counters
from connector.storage.database import alone
from connector.streams.outbox import Outbox
from connector.sync import store as sync_store


class Pipeline:
    """The line for one version of the configuration; `now` is always an argument.

    `filling` names the segments whose members are not all known yet, with the last profile id to look at: up to that
    one they change, but fire no triggers. Whoever came later was never in one, and enters like anybody else.
    """

    def __init__(self, configuration: Configuration, ruleset: RuleSet, sources: Mapping[str, Source]) -> None:
        self.configuration = configuration
        self.ruleset = ruleset
        self.filling: Mapping[str, int] = {}
        self._sources = {
            name: configured(sources[config.kind], config.options) for name, config in configuration.sources.items()
        }
        self._zone = ZoneInfo(configuration.store.timezone)
        self._rules = Rules(configuration.identity)
        self._shapes = ShapeWatch()
        self._decisions = Decisions(configuration, ruleset)
        self._outbox = Outbox(configuration.streams)

    def handle(self, tx: Connection, records: Sequence[Rec], now: Millis) -> dict[Rec, Exception]:
        """Work off records of the log: all effects, in the caller's transaction. A record that cannot be understood
        goes to dead letters. Returned are those over which their source or the line stumbles, with later ones of the
        same customer: none of them has had an effect. What cannot be laid on a customer raises, and then nothing is
        written."""
        fresh = deliveries.fresh(tx, records, now)
        meant, letters, broken = understand(fresh, self.configuration, self._sources)
        done: list[Meant] = []
        for lawful, some in groupby(meant, lambda one: one.normalised.privacy is not None):
            free = without(some, broken)
            if lawful:
                if free:
                    alone(tx)  # what of a person is to go is spread too wide to be held
                for one in free:
                    privacy.take(tx, one.delivery, one.normalised, self.configuration.destinations, now)
            else:
                while raised := self._stumbled(tx, free, now):
                    broken = with_later(fresh, broken | raised)
                    free = without(free, broken)
            done += free
        deliveries.unseen(tx, list(broken))
        fetches.want(tx, self._named(done), now)
        letters = [(record, error) for record, error in letters if record not in broken]
        deliveries.add_dead_letters(tx, letters, now)
        # Last, because all batches meet in these rows: whoever has one is waited for until it commits.
        counts = {**counted(done, letters), **self._shapes.look(tx, (one.delivery for one in done), now)}
        counters.add(tx, counts, now)
        return broken

    def _stumbled(self, tx: Connection, meant: Sequence[Meant], now: Millis) -> dict[Rec, Exception]:
        """Those over which the line stumbles: then nothing of `meant` is written. None of them: all of it is."""
        try:
            with tx.begin_nested():
                self._work_off(tx, without_erased(tx, meant), now)
        except Stumbled as stumbled:
            return dict(stumbled.over)
        return {}

    def _named(self, meant: Sequence[Meant]) -> Iterator[fetches.Wanted]:
        """What the deliveries only name. Another shop of the same sender is none of ours."""
        for one in meant:
            for wanted in one.normalised.fetch:
                admin = self.configuration.sources[one.delivery.source].admin
                if admin is not None and wanted.shop in (None, admin.shop):
                    quiet = one.delivery.headers.get(deliveries.REPLAY) in deliveries.QUIET
                    yield fetches.Wanted(one.delivery.source, wanted.kind, wanted.id, one.delivery.received_at, quiet)

    def _work_off(self, tx: Connection, meant: Sequence[Meant], now: Millis) -> None:
        if not meant:
            return
        shop, batch = self.configuration.store, Batch()
        people = identify(tx, meant, batch, self._rules, now)
        persons = load(tx, people, batch, now)
        things, events = things_of(tx, meant, batch, shop), event_rows(meant, batch, self._zone)
        apply_consent(meant, persons, batch, now)
        batch.stumbles.settle()
        store_things(tx, things)
        self._add_events(tx, events, now)
        give_orders(tx, batch)
        self._add_events(tx, place_waiting(tx, meant, self._zone, now), now)
        compute_traits(tx, persons, batch, shop, now)
        store.save(tx, persons.values(), now)
        self._move_contacts(tx, persons, batch, now)
        for email, giver, taker in batch.moved:
            sync_store.move_address(tx, giver, taker, email, now)
        self._decisions.decide(tx, persons, batch, self.filling, now)
        self._add_changes(tx, batch, now)
        counters.add(tx, {("identity", reason): count for reason, count in people.refused.items()}, now)

    def tick(self, tx: Connection, people: Iterable[int], now: Millis) -> None:
        """Time as an event: decide anew for people whose windows have lapsed. Those whom another worker is deciding for
        at this moment are left to it."""
        persons = store.load(tx, holds.free_people(tx, people))
        batch = Batch(loud=set(persons))
        self._decisions.decide(tx, persons, batch, self.filling, now)
        self._add_changes(tx, batch, now)

    def recompute(self, tx: Connection, people: Iterable[int], now: Millis) -> None:
        """Compute and decide anew for people whose history was changed from outside the line; no cues."""
        persons, batch = store.load(tx, people), Batch()
        for part in traits.COMPUTED:
            batch.parts[part] |= persons.keys()
        batch.parts["customer"] |= persons.keys()
        compute_traits(tx, persons, batch, self.configuration.store, now)
        store.save(tx, persons.values(), now)
        self._decisions.decide(tx, persons, batch, self.filling, now)
        self._add_changes(tx, batch, now)

    def merge(self, tx: Connection, left: int, right: int, because: str, now: Millis) -> int:
        """The profile that is left of two whom somebody has said to be one; the younger becomes part of the older. No
        flow starts by it. Raises CannotMerge."""
        persons, batch = store.load(tx, [left, right]), Batch()
        if left == right or persons.keys() != {left, right}:
            raise CannotMerge(f"{left} and {right} are not two profiles")
        winner, loser = persons[min(left, right)], persons.pop(max(left, right))
        unite(tx, [(Merge(winner.id, loser.id, because, ("person", "")), winner, loser)], batch, now)
        compute_traits(tx, persons, batch, self.configuration.store, now)
        store.save(tx, persons.values(), now)
        self._move_contacts(tx, persons, batch, now)
        self._decisions.decide(tx, persons, batch, self.filling, now)
        self._add_changes(tx, batch, now)
        return winner.id

    def _add_events(self, tx: Connection, rows: Sequence[dict[str, Any]], now: Millis) -> None:
        self._outbox.events(tx, rows, now)
        store.add_events(tx, rows)

    def _add_changes(self, tx: Connection, batch: Batch, now: Millis) -> None:
        self._outbox.changes(tx, batch.changes, now)
        store.add_changes(tx, batch.changes)

    def _move_contacts(self, tx: Connection, persons: Mapping[int, Person], batch: Batch, now: Millis) -> None:
        """The contacts of those who have become part of another."""
        with_contacts = sync_store.give_cues(tx, batch.merged)
        uniting = {one.name for one in self.configuration.destinations.values() if one.duplicates == "merge"}
        for winner, loser in batch.merged:
            if loser in with_contacts:
                sync_store.merge(tx, winner, loser, persons[winner].email, now, uniting)

    def unmerge(self, tx: Connection, merge: int, now: Millis) -> tuple[int, int]:
        """The two profiles that a merge had made one, each themselves again. No flow starts by it. Raises
        CannotUnmerge."""
        people = separate(tx, merge, now)
        self.recompute(tx, people, now)
        return people

    def resync(self, tx: Connection, people: Iterable[int], now: Millis, *, filled: str = "") -> None:
        """Bring the desired states of these people up to date, after a rule or the configuration changed. No cue starts
        anything; who was moved by the filling of the segment `filled` is recorded where that is wanted."""
        persons = store.load(tx, people)
        rows = segment_store.load_memberships(tx, list(persons))
        segments = {
            person: [segment for segment, row in rows.get(person, {}).items() if row.matched] for person in persons
        }
        self._decisions.want(tx, persons, segments, Batch(), now, bulk=persons)
        self._decisions.tell_filled(tx, persons, segments, filled, now)
        if filled:
            inside = {person: filled in segments[person] for person in persons}
            self._outbox.filled(tx, filled, inside, BECAUSE, now)


def without(meant: Iterable[Meant], broken: Mapping[Rec, Exception]) -> list[Meant]:
    """Those of them that are not broken."""
    return [one for one in meant if one.record not in broken]
