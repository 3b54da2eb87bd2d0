"""The straight line, for a batch in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import Configuration
from connector.inbox import deliveries
from connector.pipeline.batch import Batch
from connector.pipeline.consent import apply_consent
from connector.pipeline.decisions import Decisions
from connector.pipeline.events import give_orders, place_waiting, store_events
from connector.pipeline.meaning import understand
from connector.pipeline.people import identify, load
from connector.pipeline.things import store_things
from connector.pipeline.traits import compute_traits
from connector.ports import Rec, Source
from connector.profiles import store
from connector.segments import store as segment_store
from connector.segments.evaluate import RuleSet
from connector.storage import counters
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
        self._sources = sources
        self._zone = ZoneInfo(configuration.store.timezone)
        self._decisions = Decisions(configuration, ruleset)

    def handle(self, tx: Connection, records: Sequence[Rec], now: Millis) -> None:
        """Work off records of the log: all effects, in the caller's transaction. A record that cannot be understood
        goes to dead letters; anything else that fails raises, and then nothing is written."""
        shop, batch = self.configuration.store, Batch()
        fresh = deliveries.fresh(tx, records, now)
        meant, letters, counts = understand(fresh, self.configuration, self._sources)
        people = identify(tx, meant, batch, now)
        persons = load(tx, people, batch, now)
        store_things(tx, meant, batch, shop)
        store_events(tx, meant, batch, self._zone)
        give_orders(tx, batch)
        place_waiting(tx, meant, self._zone, now)
        apply_consent(meant, persons, batch, now)
        compute_traits(tx, persons, batch, shop, now)
        store.save(tx, persons.values(), now)
        for winner, loser in batch.merged:
            sync_store.merge(tx, winner, loser, persons[winner].email, now)
        for email, giver, taker in batch.moved:
            sync_store.move_address(tx, giver, taker, email, now)
        self._decisions.decide(tx, persons, batch, self.filling, now)
        store.add_changes(tx, batch.changes)
        deliveries.add_dead_letters(tx, letters, now)
        counters.add(tx, counts, now)

    def tick(self, tx: Connection, people: Iterable[int], now: Millis) -> None:
        """Time as an event: decide anew for people whose windows have lapsed."""
        persons = store.load(tx, people)
        batch = Batch(loud=set(persons))
        self._decisions.decide(tx, persons, batch, self.filling, now)
        store.add_changes(tx, batch.changes)

    def resync(self, tx: Connection, people: Iterable[int], now: Millis) -> None:
        """Bring the desired states of these people up to date, after a rule or the configuration changed; no cues."""
        persons = store.load(tx, people)
        rows = segment_store.load_memberships(tx, list(persons))
        segments = {
            person: [segment for segment, row in rows.get(person, {}).items() if row.matched] for person in persons
        }
        self._decisions.want(tx, persons, segments, now)
