"""What follows for people: memberships, and for the destinations desired states and cues."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from connector.clock import SECOND, Millis
from connector.domain import Configuration
from connector.pipeline.batch import Batch
from connector.pipeline.timeline import change
from connector.profiles import consent, holds
from connector.profiles.store import Person
from connector.segments import membership
from connector.segments import store as segment_store
from connector.segments.evaluate import RuleSet
from connector.sync import desired, pace
from connector.sync import store as sync_store

_REPLAY_RESTS: Millis = 5 * SECOND  # without another delivery of it, a replay counts as worked off


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decides by one version of the configuration."""

    configuration: Configuration
    ruleset: RuleSet

    def decide(
        self, tx: Connection, persons: Mapping[int, Person], batch: Batch, filling: Mapping[str, int], now: Millis
    ) -> None:
        """Memberships, then desired states and cues, of these people. `filling` is that of `Pipeline`."""
        if not persons:
            return
        facts = segment_store.load_facts(tx, list(persons), self.ruleset, now)
        before = segment_store.load_memberships(tx, list(persons))
        moved, cues, segments = [], [], {}
        for id_, person in persons.items():
            with batch.stumbles.about(id_):
                verdicts = self.ruleset.evaluate(facts[id_], now)
                segments[id_] = [segment for segment, verdict in verdicts.items() if verdict.matched]
                told = id_ in batch.loud and person.email is not None
                unfilled = {segment for segment, last in filling.items() if id_ <= last}
                if told and (not person.reachable or id_ in batch.untold):
                    # A flow that waits for this segment could not start before there was an address.
                    known = before.get(id_, {}).items()
                    untold = (
                        batch.untold[id_] if person.reachable else {segment for segment, row in known if row.matched}
                    )
                    for segment in sorted((untold - batch.told[id_] - unfilled) & {*segments[id_]}):
                        cues += self._cues(id_, segment, True, now)
                for move in membership.changes(before.get(id_, {}), verdicts, now):
                    moved.append((id_, move))
                    if move.kind == "moved":
                        continue
                    entered = move.kind == "entered"
                    data = {"segment": move.segment, "in": entered, "because": verdicts[move.segment].because}
                    batch.changes.append(change(id_, "segment", data, now))
                    if person.email is not None and move.segment not in unfilled:
                        cues += self._cues(id_, move.segment, entered, now, afterwards=not told)
        batch.stumbles.settle()
        segment_store.save_memberships(tx, moved)
        self.want(tx, persons, segments, batch, now, bulk=batch.again - batch.news, settles_at=now + _REPLAY_RESTS)
        sync_store.add_cues(tx, cues)

    def tell_filled(
        self,
        tx: Connection,
        persons: Mapping[int, Person],
        inside: Mapping[int, Sequence[str]],
        segment: str,
        now: Millis,
    ) -> None:
        """Cues that start nothing, for these people whom the filling of a segment found in it or out of it."""
        if segment in self.configuration.segments:
            found = [(id_, segment in inside[id_]) for id_, person in persons.items() if person.email is not None]
            cues = (self._cues(id_, segment, entered, now, afterwards=True) for id_, entered in found)
            sync_store.add_cues(tx, [cue for some in cues for cue in some])

    def _cues(
        self, person: int, segment: str, entered: bool, now: Millis, *, afterwards: bool = False
    ) -> list[dict[str, Any]]:
        """What each destination is told; afterwards: it was found out by a fill or a replay, and may start no flow."""
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
                "backfill": int(afterwards),
                "due_at": now,
            }
            for destination in self.configuration.destinations.values()
            if destination.events
            and (destination.backfill or not afterwards)
            and (destination.segments is None or segment in destination.segments)
        ]

    def want(
        self,
        tx: Connection,
        persons: Mapping[int, Person],
        segments: Mapping[int, Sequence[str]],
        batch: Batch,
        now: Millis,
        *,
        bulk: Collection[int],
        settles_at: Millis = 0,
    ) -> None:
        """Desired states of those of these people who have an address, where they differ from what is known. `bulk` are
        those for whom a decision about many is the cause (see sync.guard), `settles_at` when no more will follow."""
        reachable = [person for person in persons.values() if person.email]
        destinations, fields = self.configuration.destinations.values(), self.configuration.fields.values()
        if not reachable or not destinations:
            return
        holds.contacts(tx, [person.id for person in reachable])
        known = sync_store.desired(tx, [person.id for person in reachable])
        shown = {one.name: [field.name for field in self.configuration.fields_of(one.name)] for one in destinations}
        rows = []
        for person in reachable:
            with batch.stumbles.about(person.id):
                states = consent.states(person.consent)
                values = desired.field_values(fields, person.traits, states)
                for destination in destinations:
                    want = desired.contact(
                        destination,
                        email=person.email or "",
                        traits=person.traits,
                        consent=states,
                        segments=segments[person.id],
                        fields={name: values[name] for name in shown[destination.name]},
                    )
                    had, pushed, pushed_at = known.get((destination.name, person.id), (None, None, 0))
                    if want != had:
                        rows.append(
                            {
                                "destination": destination.name,
                                "profile_id": person.id,
                                "desired": want,
                                "pending": int(want != pushed),
                                "due_at": pace.due(destination, want, pushed, pushed_at, now),
                                "changed_at": now,
                                "bulk": int(person.id in bulk),
                            }
                        )
        batch.stumbles.settle()
        sync_store.want(tx, rows, settles_at)
