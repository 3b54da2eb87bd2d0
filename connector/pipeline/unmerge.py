"""A merge undone: two people again, each with what was theirs, and no delivery that makes them one anew."""

from collections.abc import Mapping

import orjson
from sqlalchemy import Connection, RowMapping

from connector.clock import Millis
from connector.domain import Json
from connector.errors import CannotUnmerge
from connector.pipeline.timeline import change
from connector.profiles import consent, journal, store
from connector.sync import store as sync_store


def separate(tx: Connection, merge: int, now: Millis) -> tuple[int, int]:
    """The two profiles that a merge had made one: its loser, and whoever holds the rest. What they are must be computed
    anew. Raises CannotUnmerge.

    What the loser brought along goes back, with everything that happened to their orders since; events that came since
    without an order of theirs stay where they are, because nothing says whose they are. Consent goes back to each
    one's own word, but for words said since, which count for both: the stricter is never lost.
    """
    noted = journal.one(tx, merge)
    if noted is None:
        raise CannotUnmerge(f"there is no merge {merge}")
    if noted["state"] != "merged":
        raise CannotUnmerge(f"merge {merge} is undone already")
    loser, holder = noted["loser"], journal.holder(tx, noted["loser"])
    if holder is None:
        raise CannotUnmerge(f"profile {loser} is no longer part of another: it was separated or erased")
    united = store.load(tx, [holder])[holder]
    journal.undo(tx, noted, holder, now)
    for source, order in journal.orders_moved(noted):
        store.give_events(tx, source, order, holder, loser)
    again = store.load(tx, [loser])[loser]
    before = orjson.loads(noted["loser_before"])
    again.traits, again.consent = before["traits"], _own_word(before["consent"], united.consent, noted["at"])
    united.consent = _without(tx, noted, united.consent)
    again.changed = united.changed = True
    store.save(tx, [again, united], now)
    sync_store.separate(tx, holder, loser, journal.addresses_moved(noted))
    journal.keep_apart(tx, loser, holder, now)
    told = {"merge": merge, "because": noted["because"]}
    entries = [change(loser, "unmerged", {"from": holder, **told}, now)]
    entries.append(change(holder, "unmerged", {"of": loser, **told}, now))
    store.add_changes(tx, entries)
    return loser, holder


def _without(tx: Connection, noted: RowMapping, united: Mapping[str, Json]) -> dict[str, Json]:
    """What whoever holds the rest says (`united`, so far) without the word of the loser. Where merges came on top of
    this one, how they found the two is put right as well: they may be undone later."""
    winner, loser = (_consent(noted[name]) for name in ("winner_before", "loser_before"))
    if consent.merge(winner, loser) == winner:
        return dict(united)  # the loser had added nothing
    word, at, person = winner, noted["at"], noted["winner"]
    for later in journal.later(tx, noted):
        side, other = ("winner", "loser") if later["winner"] == person else ("loser", "winner")
        state = orjson.loads(later[f"{side}_before"])
        state["consent"] = _own_word(word, state["consent"], at)
        journal.rewrite(tx, later["id"], **{f"{side}_before": orjson.dumps(state).decode()})
        word = consent.merge(state["consent"], _consent(later[f"{other}_before"]))
        at, person = later["at"], later["winner"]
    return _own_word(word, united, at)


def _consent(before: str) -> dict[str, Json]:
    said: dict[str, Json] = orjson.loads(before)["consent"]
    return said


def _own_word(before: Mapping[str, Json], now: Mapping[str, Json], merged_at: Millis) -> dict[str, Json]:
    """One's own consent, and what has been said of both `now` since they were merged."""
    said = {channel: word for channel, word in now.items() if word["at"] > merged_at}
    return consent.merge(dict(before), said)
