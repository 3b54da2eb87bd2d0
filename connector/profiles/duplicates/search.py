"""One pass a day over all profiles, a piece at a time while nothing else is to be done."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from connector.clock import DAY, Millis
from connector.profiles.duplicates import store
from connector.profiles.duplicates.likeness import Key, keys, one_edit_apart, score
from connector.profiles.duplicates.store import Pair
from connector.storage.database import Database

_PIECE = 500  # profiles: some 0.2 s, most of it reading
_CROWD = 50  # more profiles than this with one key say nothing about any two of them


class DuplicateSearch:
    """Finds pairs of profiles that may be one person. A crash repeats a piece, which is harmless."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rests_until: Millis = 0

    def step(self, now: Millis) -> bool:
        """Look at one piece; True while the pass is not over. A pass begins once a day."""
        if now < self._rests_until:
            return False
        with self._database.read() as connection:
            last, begins = store.position(connection)
            if now < begins:
                self._rests_until = begins
                return False
            people = store.piece(connection, last, _PIECE)
            wanted = {one.id: keys(one) for one in people}
            known = store.keys_of(connection, wanted.keys())
        devices = {person: {key for key in had if key[0] == "device"} for person, had in known.items()}
        news = {person: wanted[person] - known[person] for person in wanted}
        gone = {person: known[person] - wanted[person] - devices[person] for person in wanted}
        if any(news.values()) or any(gone.values()):
            with self._database.tx() as tx:
                store.add_keys(tx, _flat(news))
                store.drop_keys(tx, _flat(gone))
        with self._database.read() as connection:
            pairs = _pairs(connection, {person: wanted[person] | devices[person] for person in wanted})
        over = len(people) < _PIECE
        with self._database.tx() as tx:
            store.replace_pairs(tx, wanted.keys(), pairs, now)
            store.set_position(tx, 0 if over else people[-1].id, now + DAY if over else 0)
        return not over


def _flat(by_person: Mapping[int, Iterable[Key]]) -> list[tuple[int, Key]]:
    return [(person, key) for person, some in sorted(by_person.items()) for key in sorted(some)]


def _pairs(connection: Connection, people: Mapping[int, Iterable[Key]]) -> dict[Pair, tuple[float, list[str]]]:
    """The pairs that each of these profiles makes with any other: (score, kinds of likeness)."""
    alike: dict[Pair, set[str]] = defaultdict(set)
    for person, some in people.items():
        for key in some:
            crowd = store.members(connection, key, _CROWD + 1)
            if len(crowd) <= _CROWD:
                for other in crowd:
                    if other != person:
                        alike[min(person, other), max(person, other)].add(key[0].rstrip("<>="))
    emails = store.addresses(connection, {person for pair in alike for person in pair})
    found = {}
    for (low, high), kinds in alike.items():
        if low not in emails or high not in emails:
            continue  # one of them has become part of another
        if "mail" in kinds and not one_edit_apart(emails[low] or "", emails[high] or ""):
            kinds.discard("mail")
        if kinds:
            found[low, high] = (score(kinds), sorted(kinds))
    return found
