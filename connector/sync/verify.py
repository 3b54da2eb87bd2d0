"""What a destination's account holds, compared with what it accepted; and the difference put right by the next push."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from random import Random

import orjson

from adapters.destination import Destination, Held, Wanted
from connector.clock import Millis
from connector.domain import DestinationConfig, Json
from connector.ports import New
from connector.profiles.consent import says_no
from connector.sources import readback
from connector.storage.database import Database
from connector.sync import store
from connector.sync.store import Accepted


@dataclass(frozen=True, slots=True)
class Drift:
    """One contact that is not at the vendor as it was accepted.

    differs: what, in words, such as `field total_spent`, or `missing` and `merged` for the contact as a whole.
    holds: the pushed state (see sync.desired) that would be true, None when the vendor has no contact.
    remote_id: where the contact lies now.
    """

    profile_id: int
    accepted: str
    differs: tuple[str, ...]
    holds: str | None
    remote_id: str | None


@dataclass(slots=True)
class Verification:
    """What came of reading back. `profiles`: difference -> the profiles that show it; `left`: those that a repair
    leaves to a person: their contact was merged with the contact of another profile, has no address any more, or is
    missing and must not be made anew."""

    contacts: int
    checked: int = 0
    drifted: int = 0
    repaired: int = 0
    profiles: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    left: list[int] = field(default_factory=list)


Tell = Callable[[Sequence[New]], None]
"""Puts deliveries in line, durably; raises NotDurable."""


@dataclass(slots=True)
class Reading:
    """A read-back under way: who is still to be read, what was found, and what would put it right. `strayed` counts
    those that are not at the vendor as they were pushed, whatever they say of consent."""

    found: Verification
    waiting: list[int]
    fixes: list[store.Row] = field(default_factory=list)
    strayed: int = 0


def drift(accepted: Accepted, held: Held, tags_of_ours: Set[str]) -> Drift | None:
    """How a contact differs from what was accepted, None when it does not. `tags_of_ours` are those that we may set; a
    tag that was accepted is ours in any case, all others are somebody else's."""
    if held.status == "missing":
        return Drift(accepted.profile_id, accepted.pushed, ("missing",), None, None)
    state: dict[str, Json] = orjson.loads(accepted.pushed)
    had = set(state["tags"])
    open_ = set(state.get("unsure", {}).get("tags", ()))  # whether the vendor took these was never answered
    tags = set(held.tags) & (tags_of_ours - open_ | had)
    fields = {name: held.fields.get(name) for name in state["fields"]}
    moved = held.email != state["email"].lower()
    renamed = {
        name: held_name
        for name, held_name in (("first_name", held.first_name), ("last_name", held.last_name))
        if held_name is not None and isinstance(state.get(name), str) and held_name.strip() != state[name].strip()
    }
    differs = (
        *(("merged",) if held.status == "merged" else ()),
        *(("address" if held.email else "address empty",) if moved else ()),
        *(name.replace("_", " ") for name in renamed),
        *(f"tag {tag} lost" for tag in sorted(had - tags)),
        *(f"tag {tag} too many" for tag in sorted(tags - had)),
        *(f"field {name}" for name, value in state["fields"].items() if fields[name] != value),
    )
    if not differs:
        return None
    truth = {"tags": sorted(tags), "fields": fields, **renamed} | ({"email": held.email} if moved else {})
    holds = orjson.dumps(state | truth, option=orjson.OPT_SORT_KEYS).decode()
    return Drift(accepted.profile_id, accepted.pushed, differs, holds, held.remote_id or accepted.remote_id)


def sample(people: Sequence[int], size: int | None, seed: int) -> list[int]:
    """`size` of the people, the same ones for the same seed; all of them for None."""
    if size is None or size >= len(people):
        return list(people)
    return sorted(Random(seed).sample(people, size))  # noqa: S311  (a sample, no secret)


def ours(config: DestinationConfig, segments: Collection[str]) -> set[str]:
    """The tags that we may set at a destination; `segments` are all that are configured."""
    return {segment for segment in segments if config.segments is None or segment in config.segments}


def begin(database: Database, name: str, size: int | None, seed: int) -> Reading:
    """A read-back of `size` of the contacts that wait for nothing; None means all of them."""
    with database.read() as connection:
        people = store.settled(connection, name)
    return Reading(Verification(contacts=len(people)), sample(people, size, seed))


def read_piece(
    database: Database,
    adapter: Destination,
    name: str,
    tags: Set[str],
    reading: Reading,
    count: int,
    now: Millis,
    *,
    recreate: bool = True,
    tell: Tell | None = None,
) -> None:
    """Read the next `count` contacts; what would put them right is added to `reading.fixes`. `tags` are ours.
    `recreate`: a contact that is missing may be made anew. What the vendor says of consent goes to `tell`. Raises
    DeliveryError when the account cannot be read; the contacts are still to be read then."""
    piece = reading.waiting[:count]
    read = _read_back(database, adapter, name, piece)
    drifts = [one for row, held in read if (one := drift(row, held, tags)) is not None]
    told = {row.profile_id: (str(orjson.loads(row.pushed)["email"]), held) for row, held in read}
    words = unheard(database, name, told, now)
    if tell is not None and words:
        tell(list(words.values()))
    del reading.waiting[:count]
    found, strayed = reading.found, {one.profile_id for one in drifts}
    found.checked += len(read)
    found.drifted += len(strayed | words.keys())
    reading.strayed += len(strayed)
    for one in drifts:
        for difference in one.differs:
            found.profiles[difference].append(one.profile_id)
    if words:
        found.profiles["consent"] += words
    if tell is not None:
        found.repaired += len(words.keys() - strayed)
    shared = _shared(database, name, drifts)
    for one in drifts:
        if one.profile_id in shared or "address empty" in one.differs or (one.holds is None and not recreate):
            found.left.append(one.profile_id)
        else:
            fix = {"seen": one.accepted, "holds": one.holds, "remote": one.remote_id}
            reading.fixes.append({"person": one.profile_id, **fix})


def mend(database: Database, name: str, reading: Reading, now: Millis) -> None:
    """Mark those that differ to be pushed again."""
    if reading.fixes:
        with database.tx() as tx:
            reading.found.repaired += store.correct(tx, name, reading.fixes, now)
        reading.fixes.clear()


def verify(
    database: Database,
    adapter: Destination,
    config: DestinationConfig,
    segments: Collection[str],
    *,
    size: int | None,
    seed: int,
    repair: bool,
    now: Millis,
    tell: Tell | None = None,
) -> Verification:
    """Read back a sample of the contacts that wait for nothing, in pieces of the adapter's batch; `size` None reads
    all. `segments` are all that are configured. With `repair` those that differ are marked to be pushed again. Raises
    DeliveryError when the account cannot be read; pieces before it are repaired by then."""
    tags, step = ours(config, segments), adapter.limits.batch
    reading = begin(database, config.name, size, seed)
    while reading.waiting:
        read_piece(database, adapter, config.name, tags, reading, step, now, tell=tell)
        if repair:
            mend(database, config.name, reading, now)
        reading.fixes.clear()
    return reading.found


def _read_back(
    database: Database, adapter: Destination, name: str, people: Sequence[int]
) -> list[tuple[Accepted, Held]]:
    """What was accepted of these people and what the vendor holds of them, without those who were pushed meanwhile:
    nobody can tell which state was read."""
    with database.read() as connection:
        before = store.accepted(connection, name, people)
    held = {one.key: one for one in adapter.read([_wanted(row) for row in before.values()])} if before else {}
    with database.read() as connection:
        after = store.accepted(connection, name, people)
    return [
        (row, held[str(person)]) for person, row in before.items() if str(person) in held and after.get(person) == row
    ]


def unheard(database: Database, name: str, told: Mapping[int, tuple[str, Held]], now: Millis) -> dict[int, New]:
    """Profile -> the vendor's word as a delivery, of those whom the vendor will not mail and who did not say so here.
    `told`: profile -> its address and what the vendor holds. A word that was given here after the read, at `now`,
    counts more; a vendor's `subscribed` never lifts ours."""
    refused = {person: one for person, one in told.items() if one[1].consent in ("unsubscribed", "suppressed")}
    if not refused:
        return {}
    with database.read() as connection:
        words = store.email_words(connection, refused)
    return {
        person: readback.delivery(name, email.lower(), str(held.consent), words[person], now)
        for person, (email, held) in refused.items()
        if person in words and not says_no(words[person]) and (words[person] or {}).get("at", now) <= now
    }


def _shared(database: Database, name: str, drifts: Sequence[Drift]) -> set[int]:
    """Profiles whose contact was merged into one that another profile has: if both wrote to it, each would undo the
    other for ever."""
    merged = {one.profile_id: one.remote_id for one in drifts if "merged" in one.differs and one.remote_id is not None}
    if not merged:
        return set()
    claims = Counter(merged.values())
    with database.read() as connection:
        taken = store.known_remote_ids(connection, name, claims)
    return {person for person, remote_id in merged.items() if remote_id in taken or claims[remote_id] > 1}


def _wanted(row: Accepted) -> Wanted:
    state: Mapping[str, Json] = orjson.loads(row.pushed)
    return Wanted(str(row.profile_id), state["email"], row.remote_id, state["fields"])
