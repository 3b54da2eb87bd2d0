"""What a destination's account held before anything was pushed to it, taken over as pushed: so that the first push
tells real differences only."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

import orjson

from adapters.destination import Destination, Held, Wanted
from connector.clock import Millis
from connector.domain import DestinationConfig, Json
from connector.storage.database import Database
from connector.sync import store
from connector.sync.verify import Tell, ours, unheard


@dataclass(slots=True)
class Adoption:
    """What was found of the profiles of which nothing was pushed yet. `there`: those that the destination has;
    `settled`: those of them of whom nothing is left to push. `tags`: tag -> how often right, wrong and lacking;
    `fields`: field -> how often equal and different. `left`: profiles whose contact is that of another profile."""

    contacts: int = 0
    there: int = 0
    settled: int = 0
    tags: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    fields: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unsubscribed: int = 0
    left: list[int] = field(default_factory=list)


def taken_over(desired: str, held: Held, tags_of_ours: Set[str], *, lists: bool) -> str:
    """The pushed state (see sync.desired) of a contact that is at the vendor already, canonical JSON text. With `lists`
    the right tags are told again, because nobody knows who is on the vendor's lists."""
    want: Mapping[str, Json] = orjson.loads(desired)
    tags = set(held.tags) & tags_of_ours
    if lists:
        tags -= set(want["tags"])
    known = {
        "tags": sorted(tags),
        "fields": {name: held.fields.get(name) for name in want["fields"]},
        **{name: _name(want[name], getattr(held, name)) for name in ("first_name", "last_name")},
    }
    return orjson.dumps({**want, **known}, option=orjson.OPT_SORT_KEYS).decode()


def adopt(
    database: Database,
    adapter: Destination,
    config: DestinationConfig,
    segments: Collection[str],
    *,
    write: bool,
    now: Millis,
    tell: Tell,
) -> Adoption:
    """Read what the destination holds of everybody of whom nothing was pushed yet, by address and in pieces; with
    `write` it is taken over, a transaction for each piece, so that whoever is stopped goes on where they were. Raises
    DeliveryError when the account cannot be read; pieces before it are taken over by then."""
    found, tags, last = Adoption(), ours(config, segments), 0
    with database.read() as connection:
        taken = store.remote_ids(connection, config.name)
    while True:
        with database.read() as connection:
            piece = store.unpushed(connection, config.name, last, adapter.limits.batch)
        if not piece:
            return found
        last = max(piece)
        found.contacts += len(piece)
        there = [one for one in adapter.read(_wanted(piece)) if one.status != "missing"]
        rows, kept = [], []
        for held in there:
            person = int(held.key)
            if held.remote_id is not None and held.remote_id in taken:
                found.left.append(person)
                continue
            if held.remote_id is not None:
                taken.add(held.remote_id)
            kept.append(held)
            holds = taken_over(piece[person], held, tags, lists=config.lists)
            rows.append({"person": person, "seen": piece[person], "holds": holds, "remote": held.remote_id})
            _count(found, piece[person], held, tags)
            found.settled += holds == piece[person]
        found.there += len(there)
        told = {int(held.key): (str(orjson.loads(piece[int(held.key)])["email"]), held) for held in kept}
        words = unheard(database, config.name, told, now)
        found.unsubscribed += len(words)
        if write:
            if words:
                tell(list(words.values()))
            with database.tx() as tx:
                store.take_over(tx, config.name, rows)


def _count(found: Adoption, desired: str, held: Held, tags_of_ours: Set[str]) -> None:
    want: Mapping[str, Json] = orjson.loads(desired)
    wanted, has = set(want["tags"]), set(held.tags) & tags_of_ours
    for word, tags in (("right", wanted & has), ("wrong", has - wanted), ("lacking", wanted - has)):
        for tag in tags:
            found.tags[tag][word] += 1
    for name, value in want["fields"].items():
        if value is not None or held.fields.get(name) is not None:
            found.fields[name]["equal" if held.fields.get(name) == value else "different"] += 1


def _wanted(piece: Mapping[int, str]) -> list[Wanted]:
    states = {person: orjson.loads(desired) for person, desired in piece.items()}
    return [Wanted(str(person), state["email"], None, state["fields"]) for person, state in states.items()]


def _name(want: Json, held: str | None) -> Json:
    """The name as pushed: ours where the vendor has it or where we have none to tell, else what is there."""
    return want if not isinstance(want, str) or (held or "").strip() == want.strip() else held or None
