"""Who is meant: the people of a batch, found by their identifiers or their orders, made, and united."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import Identifier
from connector.inbox import deliveries
from connector.pipeline.batch import Batch, Meant
from connector.pipeline.timeline import change
from connector.profiles import consent, holds, journal, store, traits
from connector.profiles.duplicates import store as duplicates
from connector.profiles.identity import Merge, People, Rules, Stored
from connector.profiles.store import Person
from connector.segments import store as segment_store
from connector.sync import store as sync_store

Pair = tuple[Merge, Person, Person]
"""A merge, and its winner and loser as they are stored."""


def identify(tx: Connection, meant: Sequence[Meant], batch: Batch, rules: Rules, now: Millis) -> People:
    """Say in each of `meant` which person it is about, and in `batch` whom it touches; tie new identifiers."""
    wanted = {one for m in meant for one in (*m.normalised.identifiers, *m.normalised.merged_from)}
    holds.orders(tx, _orders(meant))
    holds.identifiers(tx, wanted)
    held = store.holders(tx, wanted)
    known = {one: person for one, (person, _) in held.items()}
    holders = set(known.values())
    stored = _order_owners(tx, meant)
    holds.people(tx, holders | set(stored.values()))
    stored_people = Stored(
        known,
        store.held(tx, holders),
        store.identifier_counts(tx, holders),
        store.shared_devices(tx, known),
        journal.kept_apart(tx, holders),
        store.free_ids(tx),
        {one: owned_at for one, (_, owned_at) in held.items() if owned_at},
    )
    people = People(stored_people, rules)
    source_of: dict[Identifier, str] = {}
    by_order = dict(stored)
    by_contact = _contact_owners(tx, meant)
    for one in meant:
        normalised, source = one.normalised, one.delivery.source
        unknown = normalised.known_only and not any(known_as in known for known_as in normalised.identifiers)
        person = None
        with batch.stumbles.of(one.record):
            person = people.resolve(
                () if unknown else normalised.identifiers,
                owned_at=_as_of(one) if normalised.authoritative else None,
                unverified=normalised.unverified,
                merged_from=normalised.merged_from,
                told_by=(source, one.delivery.id),
            )
        if person is None and normalised.order_ref is not None:
            person = by_order.get((source, normalised.order_ref))
        if person is None and normalised.contact is not None:
            person = by_contact.get((one.account, normalised.contact))
        one.person = person
        for identifier in normalised.identifiers:
            source_of.setdefault(identifier, source)
        if person is not None:
            for entity in normalised.entities:
                if entity.kind == "order":
                    by_order[source, entity.id] = person
    batch.stumbles.settle()  # what is known of people is not to be trusted any more
    for one in meant:
        if one.person is None and one.normalised.order_ref is not None:
            # A refund may have come before its order and still be in the same batch.
            one.person = by_order.get((one.delivery.source, one.normalised.order_ref))
        if one.person is not None:
            one.person = people.find(one.person)
            concerned = {one.person} | _buyers(one, stored, people, batch)
            batch.touched |= concerned
            batch.stumbles.concern(concerned, [one.record])
            replayed = one.delivery.headers.get(deliveries.REPLAY)
            if replayed not in deliveries.QUIET:
                batch.loud |= concerned
            news = batch.news if replayed is None else batch.again
            news |= concerned
    batch.touched |= {people.find(person) for person in people.created}  # also whoever has but a shared device
    for identifier, giver in people.moved:
        ends = people.find(giver), people.find(people.tied[identifier])
        if ends[0] != ends[1]:
            batch.moved.append((identifier.value, *ends))
            batch.touched |= set(ends)
            batch.stumbles.concern(ends[:1], batch.stumbles.concerning(ends[1]))
    ties = {one: people.find(person) for one, person in people.tied.items()}
    store.tie(tx, ties, source_of, now, people.shared, people.owned_at, known)
    devices = [(people.find(one), ("device", of.value)) for of, both in people.shared.items() for one in both]
    duplicates.add_keys(tx, devices)
    return people


def _as_of(one: Meant) -> Millis:
    """The instant as of which a shop says whose an address is: that of the record it sent, whenever it came."""
    records = [entity.updated_at for entity in one.normalised.entities if entity.kind == "customer"]
    words = [consent.at for consent in one.normalised.consents]
    return max(records or words, default=one.delivery.received_at)


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


def _orders(meant: Sequence[Meant]) -> set[tuple[str, str]]:
    """The orders that these deliveries are about: source and id."""
    found = set()
    for one in meant:
        source, normalised = one.delivery.source, one.normalised
        if normalised.order_ref is not None:
            found.add((source, normalised.order_ref))
        for entity in normalised.entities:
            if entity.kind == "order":
                found.add((source, entity.id))
            elif entity.kind == "refund":
                found.add((source, entity.data["order_id"]))
    return found


def _order_owners(tx: Connection, meant: Sequence[Meant]) -> dict[tuple[str, str], int]:
    wanted: dict[str, set[str]] = defaultdict(set)
    for one in meant:
        if one.normalised.order_ref is not None:
            wanted[one.delivery.source].add(one.normalised.order_ref)
    return {
        (source, id_): person
        for source, ids in wanted.items()
        for id_, person in store.order_owners(tx, source, ids).items()
    }


def _contact_owners(tx: Connection, meant: Sequence[Meant]) -> dict[tuple[str | None, str], int]:
    """(destination, record id) -> whose contact that is."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for one in meant:
        if one.account is not None and one.normalised.contact is not None:
            wanted[one.account].add(one.normalised.contact)
    return {
        (destination, id_): person
        for destination, ids in wanted.items()
        for id_, person in sync_store.contact_owners(tx, destination, ids).items()
    }


def load(tx: Connection, people: People, batch: Batch, now: Millis) -> dict[int, Person]:
    """The people of the batch as they stand, with new ones made and merged ones united."""
    created = {people.find(person) for person in people.created}
    losers = {merge.loser for merge in people.merges}
    wanted = batch.touched | losers | {merge.winner for merge in people.merges}
    holds.people(tx, wanted)
    persons = store.load(tx, wanted)
    for person in created:
        if person not in persons:
            persons[person] = Person(person, {}, {}, None, stored=False, changed=True)
    found = []
    for merge in people.merges:
        winner, loser = people.find(merge.winner), persons.pop(merge.loser, None)
        if loser is not None:  # else it was made within this batch: there is nothing of it to move
            found.append((replace(merge, winner=winner), persons[winner], loser))
    unite(tx, found, batch, now)
    batch.changes += [change(person.id, "created", {}, now) for person in persons.values() if not person.stored]
    return {person: persons[person] for person in batch.touched if person in persons}


def unite(tx: Connection, found: Sequence[Pair], batch: Batch, now: Millis) -> None:
    """Make one stored person of each two, and note in `batch` what is to be computed anew. All of them at once: a
    visitor who turns out to be somebody is the most frequent merge, and each has its dozen statements."""
    if not found:
        return
    _note_told(tx, found, batch)
    moved = journal.moved_by(tx, [loser.id for _, _, loser in found])
    notes = []
    for merge, winner, loser in found:
        notes.append(journal.note(merge, winner, loser, moved[loser.id], now))
        winner.consent = consent.merge(winner.consent, loser.consent)
        winner.traits = loser.traits | winner.traits
        winner.changed = True
        batch.merged.append((winner.id, loser.id))
        for part in traits.COMPUTED:
            batch.parts[part].add(winner.id)
        batch.parts["customer"].add(winner.id)
        batch.touched.add(winner.id)
        batch.changes.append(change(winner.id, "merged", {"from": loser.id, "because": merge.because}, now))
        batch.changes.append(change(loser.id, "merged", {"into": winner.id, "because": merge.because}, now))
    journal.write(tx, notes)
    store.merge(tx, [(winner.id, loser.id) for _, winner, loser in found], now)
    duplicates.forget(tx, [loser.id for _, _, loser in found])


def _note_told(tx: Connection, found: Sequence[Pair], batch: Batch) -> None:
    """Note what of two people no destination has heard, because only one of them had an address."""
    pairs = [(winner, loser) for _, winner, loser in found if winner.reachable is not loser.reachable]
    rows = segment_store.load_memberships(tx, [person.id for pair in pairs for person in pair]) if pairs else {}
    for winner, loser in pairs:
        known, silent = (winner, loser) if winner.reachable else (loser, winner)
        for about, person in ((batch.told, known), (batch.untold, silent)):
            about[winner.id] |= {segment for segment, row in rows.get(person.id, {}).items() if row.matched}
