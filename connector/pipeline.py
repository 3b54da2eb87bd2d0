"""The straight line: normalise > identity > traits > membership > desired, for a batch in one transaction.

Everything is read with one statement per table for the whole batch and written with one per table: the cost of a
webhook is then mostly that of parsing it.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from random import randrange
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import structlog
from sqlalchemy import Connection

from connector.clock import DAY, Millis
from connector.domain import Configuration, Delivery, Entity, Event, Identifier, Json, Normalised
from connector.errors import UnprocessableEvent
from connector.inbox import deliveries
from connector.ports import Rec, Source
from connector.profiles import consent, customer, store, traits
from connector.profiles.identity import People
from connector.profiles.store import Person
from connector.segments import membership
from connector.segments import store as segment_store
from connector.segments.evaluate import RuleSet
from connector.storage import counters
from connector.sync import desired
from connector.sync import store as sync_store

log = structlog.get_logger("pipeline")

_SEQUENCE = itertools.count(randrange(2**30))  # noqa: S311  (tells apart two changes of one person in one ms)


@dataclass(slots=True)
class Meant:
    """A delivery and what it means."""

    delivery: Delivery
    normalised: Normalised
    person: int | None = None


@dataclass(slots=True)
class Batch:
    """What a batch touches and what must be recomputed."""

    touched: set[int] = field(default_factory=set)
    parts: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    loud: set[int] = field(default_factory=set)
    changes: list[dict[str, Any]] = field(default_factory=list)
    buyers: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    """Order (source, id) -> everybody who is or was said to have bought it: one, unless the shop gave it away."""
    merged: list[tuple[int, int]] = field(default_factory=list)
    """(winner, loser) of stored profiles."""
    moved: list[tuple[str, int, int]] = field(default_factory=list)
    """(e-mail, who had it, who has it now)"""
    told: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    untold: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of merged people: the segments that the part with an address was in, and those that only the other part was in"""


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
        self._fields = tuple(configuration.fields.values())
        self._destinations = tuple(configuration.destinations.values())

    # --- from the log ------------------------------------------------------------------------------------------------

    def handle(self, tx: Connection, records: Sequence[Rec], now: Millis) -> None:
        """Work off records of the log: all effects, in the caller's transaction. A record that cannot be understood
        goes to dead letters; anything else that fails raises, and then nothing is written."""
        fresh = deliveries.fresh(tx, records, now)
        meant, letters, counts = self._understand(fresh)
        for record in fresh:
            counts[("deliveries", f"{record.source}/{record.topic}")] += 1
        batch = Batch()
        people = self._identify(tx, meant, now, batch)
        persons = self._load(tx, people, batch, now)
        self._store_things(tx, meant, batch)
        self._store_events(tx, meant, batch)
        self._give_orders(tx, batch)
        self._place_waiting(tx, meant, now)
        self._apply_consent(meant, persons, batch, now)
        self._compute_traits(tx, persons, batch, now)
        store.save(tx, persons.values(), now)
        for winner, loser in batch.merged:
            sync_store.merge(tx, winner, loser, persons[winner].email, now)
        for email, giver, taker in batch.moved:
            sync_store.move_address(tx, giver, taker, email, now)
        self._decide(tx, persons, batch, now)
        store.add_changes(tx, batch.changes)
        deliveries.add_dead_letters(tx, letters, now)
        counters.add(tx, counts, now)

    def tick(self, tx: Connection, people: Iterable[int], now: Millis) -> None:
        """Time as an event: decide anew for people whose windows have lapsed."""
        persons = store.load(tx, people)
        batch = Batch(loud=set(persons))
        self._decide(tx, persons, batch, now)
        store.add_changes(tx, batch.changes)

    def resync(self, tx: Connection, people: Iterable[int], now: Millis) -> None:
        """Bring the desired states of these people up to date, after a rule or the configuration changed; no cues."""
        persons = store.load(tx, people)
        rows = segment_store.load_memberships(tx, list(persons))
        segments = {
            person: [segment for segment, row in rows.get(person, {}).items() if row.matched] for person in persons
        }
        self._want(tx, persons, segments, now)

    # --- what deliveries mean ----------------------------------------------------------------------------------------

    def _understand(
        self, records: Iterable[Rec]
    ) -> tuple[list[Meant], list[tuple[Rec, UnprocessableEvent]], Counter[tuple[str, str]]]:
        meant, letters, counts = [], [], Counter[tuple[str, str]]()
        for record in records:
            delivery = deliveries.delivery(record)
            try:
                config = self.configuration.sources.get(record.source)
                if config is None:
                    raise UnprocessableEvent(f"there is no source {record.source!r} any more", reason="no_source")
                normalised = self._sources[config.kind].normalise(delivery, self.configuration.store)
                if normalised.forget:
                    # Nobody may be made of it, and it may not be passed over: the law gives 30 days.
                    raise UnprocessableEvent(
                        "the shop asks to erase this person here and at every destination", reason="to_be_forgotten"
                    )
            except UnprocessableEvent as error:
                letters.append((record, error))
                counts[("dead_letters", error.reason)] += 1
                log.warning("delivery.unprocessable", delivery=delivery.id, topic=delivery.topic, reason=error.reason)
                continue
            if normalised.skipped:
                counts[("skipped", f"{record.source}/{normalised.skipped}")] += 1
            meant.append(Meant(delivery, normalised))
        return meant, letters, counts

    def _identify(self, tx: Connection, meant: Sequence[Meant], now: Millis, batch: Batch) -> People:
        wanted = {one for m in meant for one in (*m.normalised.identifiers, *m.normalised.merged_from)}
        known = store.holders(tx, wanted)
        people = People(known, store.held(tx, set(known.values())), store.next_id(tx))
        source_of: dict[Identifier, str] = {}
        stored = self._order_owners(tx, meant)
        by_order = dict(stored)
        for one in meant:
            normalised, source = one.normalised, one.delivery.source
            person = people.resolve(
                normalised.identifiers,
                authoritative=normalised.authoritative,
                merged_from=normalised.merged_from,
            )
            if person is None and normalised.order_ref is not None:
                person = by_order.get((source, normalised.order_ref))
            one.person = person
            for identifier in normalised.identifiers:
                source_of.setdefault(identifier, source)
            if person is not None:
                for entity in normalised.entities:
                    if entity.kind == "order":
                        by_order[source, entity.id] = person
        for one in meant:
            if one.person is None and one.normalised.order_ref is not None:
                # A refund may have come before its order and still be in the same batch.
                one.person = by_order.get((one.delivery.source, one.normalised.order_ref))
            if one.person is not None:
                one.person = people.find(one.person)
                concerned = {one.person} | self._buyers(one, stored, people, batch)
                batch.touched |= concerned
                if one.delivery.headers.get(deliveries.REPLAY) != "quiet":
                    batch.loud |= concerned
        for identifier, giver in people.moved:
            ends = people.find(giver), people.find(people.tied[identifier])
            if ends[0] != ends[1]:
                batch.moved.append((identifier.value, *ends))
                batch.touched |= set(ends)
        store.tie(tx, {one: people.find(person) for one, person in people.tied.items()}, source_of, now)
        return people

    @staticmethod
    def _buyers(one: Meant, stored: Mapping[tuple[str, str], int], people: People, batch: Batch) -> set[int]:
        """The buyers on record of the orders in a delivery, noted with the one whom it names."""
        found = set()
        for entity in one.normalised.entities:
            if entity.kind == "order" and one.person is not None:
                key = (one.delivery.source, entity.id)
                batch.buyers[key].add(one.person)
                if (before := stored.get(key)) is not None:
                    found.add(people.find(before))
                batch.buyers[key] |= found
        return found

    def _order_owners(self, tx: Connection, meant: Sequence[Meant]) -> dict[tuple[str, str], int]:
        wanted: dict[str, set[str]] = defaultdict(set)
        for one in meant:
            if one.normalised.order_ref is not None:
                wanted[one.delivery.source].add(one.normalised.order_ref)
        return {
            (source, id_): person
            for source, ids in wanted.items()
            for id_, person in store.order_owners(tx, source, ids).items()
        }

    def _load(self, tx: Connection, people: People, batch: Batch, now: Millis) -> dict[int, Person]:
        """The people of the batch as they stand, with new ones made and merged ones united."""
        created = {people.find(person) for person in people.created}
        losers = {merge.loser for merge in people.merges}
        persons = store.load(tx, batch.touched | losers | {merge.winner for merge in people.merges})
        for person in created:
            if person not in persons:
                persons[person] = Person(person, {}, {}, None, stored=False, changed=True)
        for merge in people.merges:
            winner, loser = people.find(merge.winner), persons.pop(merge.loser, None)
            if loser is None:
                continue  # made and merged within this batch: there is nothing of it to move
            united = persons[winner]
            self._note_told(tx, united, loser, batch)
            united.consent = consent.merge(united.consent, loser.consent)
            united.traits = loser.traits | united.traits
            united.changed = True
            store.merge(tx, winner, merge.loser, now)
            batch.merged.append((winner, merge.loser))
            for part in traits.COMPUTED:
                batch.parts[part].add(winner)
            batch.parts["customer"].add(winner)
            batch.touched.add(winner)
            batch.changes.append(self._change(winner, "merged", {"from": merge.loser, "because": merge.because}, now))
        batch.changes += [
            self._change(person.id, "created", {}, now) for person in persons.values() if not person.stored
        ]
        return {person: persons[person] for person in batch.touched if person in persons}

    @staticmethod
    def _note_told(tx: Connection, winner: Person, loser: Person, batch: Batch) -> None:
        """Note what of two people no destination has heard, because only one of them had an address."""
        if winner.reachable is loser.reachable:
            return
        rows = segment_store.load_memberships(tx, [winner.id, loser.id])
        inside = {id_: {segment for segment, row in rows[id_].items() if row.matched} for id_ in rows}
        known, silent = (winner, loser) if winner.reachable else (loser, winner)
        batch.told[winner.id] |= inside[known.id]
        batch.untold[winner.id] |= inside[silent.id]

    # --- things, events, consent -------------------------------------------------------------------------------------

    def _store_things(self, tx: Connection, meant: Sequence[Meant], batch: Batch) -> None:
        entities, orders, deleted, refunds = [], [], [], []
        settle: set[tuple[str, str]] = set()
        customers: list[tuple[Meant, Entity | None]] = []
        for one in meant:
            source = one.delivery.source
            for entity in one.normalised.entities:
                if entity.kind == "customer":
                    customers.append((one, entity))
                elif entity.kind == "refund":
                    refunds.append(self._refund_row(source, entity))
                    settle.add((source, entity.data["order_id"]))
                elif entity.kind != "order":
                    entities.append(_entity_row(source, entity, one.person))
                elif entity.deleted:
                    deleted.append({"source": source, "id": entity.id, "at": entity.updated_at})
                else:
                    orders.append(self._order_row(source, entity, one.person))
                    settle.add((source, entity.id))
                if one.person is not None and (part := _PARTS.get(entity.kind)):
                    for name in part:
                        batch.parts[name].add(one.person)
            if one.normalised.tag_changes:
                customers.append((one, None))
                if one.person is not None:
                    batch.parts["customer"].add(one.person)
        entities += self._customer_rows(tx, customers)
        store.put_entities(tx, entities)
        store.put_orders(tx, orders)
        store.delete_orders(tx, deleted)
        store.put_refunds(tx, refunds)
        store.settle_refunds(tx, store.with_refunds(tx, settle))

    def _customer_rows(self, tx: Connection, payloads: Sequence[tuple[Meant, Entity | None]]) -> list[dict[str, Any]]:
        wanted: dict[str, set[str]] = defaultdict(set)
        for one, entity in payloads:
            wanted[one.delivery.source].add(_customer_id(one, entity))
        known = {
            (source, id_): found
            for source, ids in wanted.items()
            for id_, found in store.customers(tx, source, ids).items()
        }
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for one, entity in payloads:
            key = (one.delivery.source, _customer_id(one, entity))
            record, at, deleted = known.get(key) or (customer.empty(), 0, False)
            if entity is not None:
                record = customer.update(record, entity.data, entity.updated_at)
                if entity.updated_at >= at:
                    at, deleted = entity.updated_at, entity.deleted
            record = customer.retag(record, one.normalised.tag_changes)
            known[key] = (record, at, deleted)
            rows[key] = {
                "source": key[0],
                "kind": "customer",
                "id": key[1],
                "profile_id": one.person,
                "updated_at": at,
                "deleted": int(deleted),
                "data": orjson.dumps(record).decode(),
            }
        return list(rows.values())

    def _order_row(self, source: str, entity: Entity, person: int | None) -> dict[str, Any]:
        data = entity.data
        counts = not data.get("test") and data.get("cancelled_at") is None
        return {
            "source": source,
            "id": entity.id,
            "profile_id": person,
            "updated_at": entity.updated_at,
            "placed_at": data["placed_at"],
            "total": traits.to_minor(data["total"], self.configuration.store),
            "counts": int(counts),
            "data": orjson.dumps(data).decode(),
        }

    def _refund_row(self, source: str, entity: Entity) -> dict[str, Any]:
        data = entity.data
        amount = traits.to_minor(data["amount"], self.configuration.store)
        return {"source": source, "id": entity.id, "order_id": data["order_id"], "amount": amount, "at": data["at"]}

    def _store_events(self, tx: Connection, meant: Sequence[Meant], batch: Batch) -> None:
        rows = []
        for one in meant:
            if one.person is None:
                continue
            for event in one.normalised.events:
                rows.append(self._event_row(one.person, one.delivery.source, event))
                if event.name == "Product Viewed":
                    batch.parts["views"].add(one.person)
                log.debug("event.stored", delivery=one.delivery.id, event_id=event.id, profile=one.person)
        store.add_events(tx, rows)

    def _give_orders(self, tx: Connection, batch: Batch) -> None:
        """What happened to an order goes with it when the shop gives it to another customer."""
        given = {key: people for key, people in batch.buyers.items() if len(people) > 1}
        for source, id_ in given:
            owner = store.order_owners(tx, source, [id_])[id_]
            for person in given[source, id_]:
                batch.parts["orders"].add(person)
                batch.parts["carts"].add(person)
                if person != owner:
                    store.give_events(tx, source, id_, person, owner)

    def _place_waiting(self, tx: Connection, meant: Sequence[Meant], now: Millis) -> None:
        """Events that had waited for an order which says only now whose it is: a refund or an edit names its order
        alone, and may come before it. Events that still have nobody are put among those that wait."""
        buyers: dict[str, dict[str, int]] = defaultdict(dict)
        nobodys: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for one in meant:
            if one.person is None and one.normalised.order_ref is not None:
                nobodys[one.delivery.source][one.normalised.order_ref] += map(asdict, one.normalised.events)
            elif one.person is not None:
                orders = (entity.id for entity in one.normalised.entities if entity.kind == "order")
                buyers[one.delivery.source].update(dict.fromkeys(orders, one.person))
        rows = []
        for source in buyers.keys() | nobodys.keys():
            known = store.waiting_events(tx, source, buyers[source].keys() | nobodys[source].keys())
            rows += [
                self._event_row(person, source, Event(**event))
                for order, person in buyers[source].items()
                for event in known.get(order, ())
            ]
            left: dict[str, list[dict[str, Any]]] = {order: [] for order in known.keys() & buyers[source].keys()}
            for order, events in nobodys[source].items():
                left[order] = list({event["id"]: event for event in (*events, *known.get(order, ()))}.values())
            if left:
                store.keep_waiting(tx, source, left, now)
        store.add_events(tx, rows)

    def _event_row(self, person: int, source: str, event: Event) -> dict[str, Any]:
        return {
            "profile_id": person,
            "at": event.at,
            "id": event.id,
            "name": event.name,
            "day": self._day(event.at),
            "properties": orjson.dumps(event.properties).decode(),
            "source": source,
        }

    def _apply_consent(self, meant: Sequence[Meant], persons: Mapping[int, Person], batch: Batch, now: Millis) -> None:
        for one in meant:
            if not one.normalised.consents or one.person is None:
                continue
            person = persons[one.person]
            after = consent.apply(person.consent, one.normalised.consents, one.delivery.source)
            for channel, word in after.items():
                before = person.consent.get(channel, {}).get("state", "unknown")
                if before != word["state"]:
                    data = {"channel": channel, "from": before, "to": word["state"], "source": word["source"]}
                    batch.changes.append(self._change(person.id, "consent", data, now))
            if after != person.consent:
                person.consent, person.changed = after, True

    # --- traits ------------------------------------------------------------------------------------------------------

    def _compute_traits(self, tx: Connection, persons: Mapping[int, Person], batch: Batch, now: Millis) -> None:
        """Recompute the parts of the traits whose things were touched, and the address to write to."""
        parts = {name: people & persons.keys() for name, people in batch.parts.items()}
        computed = self._computed(tx, parts)
        emails = store.emails(tx, persons)
        for id_, person in persons.items():
            gone = {name for part in parts if id_ in parts[part] for name in traits.COMPUTED.get(part, ())}
            if id_ in parts.get("customer", ()):
                gone |= person.traits.keys() - _COMPUTED
            after = {name: value for name, value in person.traits.items() if name not in gone} | computed[id_]
            if after != person.traits:
                batch.changes.append(self._change(id_, "traits", _difference(person.traits, after), now))
                person.traits, person.changed = after, True
            held = emails.get(id_, [])
            # An address that has moved to somebody else is theirs, whatever this person's record says still.
            email = said if (said := after.get("email")) in held else next(iter(held), None)
            if email != person.email:
                person.email, person.changed = email, True

    def _computed(self, tx: Connection, parts: Mapping[str, set[int]]) -> dict[int, dict[str, Json]]:
        """The touched parts of the traits, from what is stored."""
        computed: dict[int, dict[str, Json]] = defaultdict(dict)
        if people := parts.get("customer"):
            for id_, records in store.customer_records(tx, people).items():
                for record in records:
                    computed[id_] |= customer.traits(record)
        if people := parts.get("orders"):
            sums = store.order_sums(tx, people)
            for id_ in people:
                orders = sums.get(id_, traits.Orders(0, 0, None, None))
                computed[id_] |= traits.from_orders(orders, self.configuration.store)
        if people := parts.get("carts"):
            carts, tokens = store.carts(tx, people), store.ordered_tokens(tx, people)
            for id_ in people:
                computed[id_] |= traits.from_carts(carts.get(id_, ()), tokens.get(id_, set()))
        if people := parts.get("views"):
            for id_, views in store.views(tx, people).items():
                computed[id_] |= traits.from_views(views)
        return computed

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _decide(self, tx: Connection, persons: Mapping[int, Person], batch: Batch, now: Millis) -> None:
        """Memberships, then desired states and cues, of these people."""
        if not persons:
            return
        facts = segment_store.load_facts(tx, list(persons), self.ruleset, now)
        before = segment_store.load_memberships(tx, list(persons))
        moved, cues, segments = [], [], {}
        for id_, person in persons.items():
            verdicts = self.ruleset.evaluate(facts[id_], now)
            segments[id_] = [segment for segment, verdict in verdicts.items() if verdict.matched]
            told = id_ in batch.loud and person.email is not None
            filling = {segment for segment, last in self.filling.items() if id_ <= last}
            if told and (not person.reachable or id_ in batch.untold):
                # A flow that waits for this segment could not start before there was an address.
                known = before.get(id_, {}).items()
                untold = batch.untold[id_] if person.reachable else {segment for segment, row in known if row.matched}
                for segment in sorted((untold - batch.told[id_] - filling) & {*segments[id_]}):
                    cues += self._cues(id_, segment, True, now)
            for move in membership.changes(before.get(id_, {}), verdicts, now):
                moved.append((id_, move))
                if move.kind == "moved":
                    continue
                entered = move.kind == "entered"
                data = {"segment": move.segment, "in": entered, "because": verdicts[move.segment].because}
                batch.changes.append(self._change(id_, "segment", data, now))
                if told and move.segment not in filling:
                    cues += self._cues(id_, move.segment, entered, now)
        segment_store.save_memberships(tx, moved)
        self._want(tx, persons, segments, now)
        sync_store.add_cues(tx, cues)

    def _cues(self, person: int, segment: str, entered: bool, now: Millis) -> list[dict[str, Any]]:
        name, word = ("Segment Entered", "entered") if entered else ("Segment Left", "left")
        configured = self.configuration.segments[segment]
        properties = orjson.dumps({"segment": configured.id, "segment_name": configured.name}).decode()
        return [
            {
                "key": f"{segment}:{word}:{person}:{now}",
                "destination": destination.name,
                "profile_id": person,
                "name": name,
                "at": now,
                "properties": properties,
                "backfill": 0,
                "due_at": now,
            }
            for destination in self._destinations
            if destination.events and (destination.segments is None or segment in destination.segments)
        ]

    def _want(
        self, tx: Connection, persons: Mapping[int, Person], segments: Mapping[int, Sequence[str]], now: Millis
    ) -> None:
        reachable = [person for person in persons.values() if person.email]
        if not reachable or not self._destinations:
            return
        known = sync_store.desired(tx, [person.id for person in reachable])
        rows = []
        for person in reachable:
            states = consent.states(person.consent)
            values = desired.field_values(self._fields, person.traits, states)
            for destination in self._destinations:
                want = desired.contact(
                    destination,
                    email=person.email or "",
                    traits=person.traits,
                    consent=states,
                    segments=segments[person.id],
                    fields=values,
                )
                had, pushed = known.get((destination.name, person.id), (None, None))
                if want != had:
                    rows.append(
                        {
                            "destination": destination.name,
                            "profile_id": person.id,
                            "desired": want,
                            "pending": int(want != pushed),
                            "due_at": now,
                            "changed_at": now,
                        }
                    )
        sync_store.want(tx, rows)

    # --- small things ------------------------------------------------------------------------------------------------

    def _day(self, at: Millis) -> int:
        """Days since 1970-01-01 in the store's time zone."""
        offset = self._zone.utcoffset(datetime.fromtimestamp(at // 1000, UTC).astimezone(self._zone))
        shift = int(offset.total_seconds() * 1000) if offset is not None else 0
        return (at + shift) // DAY

    @staticmethod
    def _change(person: int, kind: str, data: Mapping[str, Json], now: Millis) -> dict[str, Any]:
        return {
            "profile_id": person,
            "at": now,
            "seq": next(_SEQUENCE) % 2**31,
            "kind": kind,
            "data": orjson.dumps(data).decode(),
        }


_PARTS = {
    "customer": ("customer",),
    "order": ("orders", "carts"),
    "refund": ("orders",),
    "cart": ("carts",),
    "checkout": ("carts",),
}
_COMPUTED = {name for names in traits.COMPUTED.values() for name in names}


def _customer_id(one: Meant, entity: Entity | None) -> str:
    """The shop's id of the customer a payload is about."""
    if entity is not None:
        return entity.id
    return next(i.value for i in one.normalised.identifiers if i.kind == "customer_id").partition(":")[2]


def _entity_row(source: str, entity: Entity, person: int | None) -> dict[str, Any]:
    return {
        "source": source,
        "kind": entity.kind,
        "id": entity.id,
        "profile_id": person,
        "updated_at": entity.updated_at,
        "deleted": int(entity.deleted),
        "data": orjson.dumps(entity.data).decode(),
    }


def _difference(before: Mapping[str, Json], after: Mapping[str, Json]) -> dict[str, list[Json]]:
    """Name -> [before, after] of the traits that differ."""
    names = sorted(before.keys() | after.keys())
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}
