"""What a destination's account holds, compared with what it accepted; and the difference put right by the next push."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from random import Random

import orjson

from adapters.destination import Destination, Held, Wanted
from connector.clock import Millis
from connector.domain import DestinationConfig, Json
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
    leaves to a person: their contact was merged with the contact of another profile, or has no address any more."""

    contacts: int
    checked: int = 0
    drifted: int = 0
    repaired: int = 0
    profiles: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    left: list[int] = field(default_factory=list)


def drift(accepted: Accepted, held: Held, ours: Set[str]) -> Drift | None:
    """How a contact differs from what was accepted, None when it does not. `ours` are the tags that we may set; a tag
    that was accepted is ours in any case, all others are somebody else's."""
    if held.status == "missing":
        return Drift(accepted.profile_id, accepted.pushed, ("missing",), None, None)
    state: dict[str, Json] = orjson.loads(accepted.pushed)
    had = set(state["tags"])
    open_ = set(state.get("unsure", {}).get("tags", ()))  # whether the vendor took these was never answered
    tags = set(held.tags) & (ours - open_ | had)
    fields = {name: held.fields.get(name) for name in state["fields"]}
    moved = held.email != state["email"].lower()
    differs = (
        *(("merged",) if held.status == "merged" else ()),
        *(("address" if held.email else "address empty",) if moved else ()),
        *(f"tag {tag} lost" for tag in sorted(had - tags)),
        *(f"tag {tag} too many" for tag in sorted(tags - had)),
        *(f"field {name}" for name, value in state["fields"].items() if fields[name] != value),
    )
    if not differs:
        return None
    truth = {"tags": sorted(tags), "fields": fields} | ({"email": held.email} if moved else {})
    holds = orjson.dumps(state | truth, option=orjson.OPT_SORT_KEYS).decode()
    return Drift(accepted.profile_id, accepted.pushed, differs, holds, held.remote_id or accepted.remote_id)


def sample(people: Sequence[int], size: int | None, seed: int) -> list[int]:
    """`size` of the people, the same ones for the same seed; all of them for None."""
    if size is None or size >= len(people):
        return list(people)
    return sorted(Random(seed).sample(people, size))  # noqa: S311  (a sample, no secret)


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
) -> Verification:
    """Read back a sample of the contacts that wait for nothing, in pieces of the adapter's batch; `size` None reads
    all. `segments` are all that are configured. With `repair` those that differ are marked to be pushed again. Raises
    DeliveryError when the account cannot be read; pieces before it are repaired by then."""
    ours = {segment for segment in segments if config.segments is None or segment in config.segments}
    with database.read() as connection:
        people = store.settled(connection, config.name)
    found = Verification(contacts=len(people))
    chosen = sample(people, size, seed)
    step = adapter.limits.batch
    for piece in (chosen[start : start + step] for start in range(0, len(chosen), step)):
        drifts = _read_back(database, adapter, config.name, ours, piece, found)
        shared = _shared(database, config.name, drifts)
        rows = []
        for one in drifts:
            if one.profile_id in shared or "address empty" in one.differs:
                found.left.append(one.profile_id)
            else:
                told = {"seen": one.accepted, "holds": one.holds, "remote": one.remote_id}
                rows.append({"person": one.profile_id, **told})
        if repair and rows:
            with database.tx() as tx:
                found.repaired += store.correct(tx, config.name, rows, now)
    return found


def _read_back(
    database: Database, adapter: Destination, name: str, ours: Set[str], people: Sequence[int], found: Verification
) -> list[Drift]:
    with database.read() as connection:
        before = store.accepted(connection, name, people)
    held = {one.key: one for one in adapter.read([_wanted(row) for row in before.values()])} if before else {}
    with database.read() as connection:
        after = store.accepted(connection, name, people)
    drifts = []
    for person, row in before.items():
        answer = held.get(str(person))
        if answer is None or after.get(person) != row:  # a push came in between: nobody can tell which state was read
            continue
        found.checked += 1
        one = drift(row, answer, ours)
        if one is not None:
            drifts.append(one)
            for difference in one.differs:
                found.profiles[difference].append(person)
    found.drifted += len(drifts)
    return drifts


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
