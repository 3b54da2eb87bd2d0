"""Desired and pushed states, cues, pushes and accounts in the database."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from connector.clock import Millis
from connector.storage.phrases import among, greatest, least, text_of, upsert
from connector.storage.tables import (
    account,
    backfill,
    cue,
    dead_letter,
    meta,
    poll,
    profile,
    push,
    refill,
    sync_state,
    vendor_job,
    vendor_list,
    verification,
)
from connector.sync.desired import emptied
from connector.sync.plan import Pending

Row = dict[str, Any]

# --- desired ---------------------------------------------------------------------------------------------------------

_DESIRED = select(
    sync_state.c.destination,
    sync_state.c.profile_id,
    sync_state.c.desired,
    sync_state.c.pushed,
    sync_state.c.pushed_at,
).where(among(sync_state.c.profile_id, "people"))
# As text, because SQLAlchemy does not correlate a subquery in ON CONFLICT.
_CUE_WAITS: ColumnElement[bool] = literal_column(
    "EXISTS (SELECT 1 FROM cue WHERE cue.profile_id = sync_state.profile_id"
    " AND cue.destination || '' = sync_state.destination AND cue.state || '' = 'pending')",
    Boolean,
)
_OWN_NEWS = (sync_state.c.pending == 1) & (sync_state.c.bulk == 0)
_WANT = upsert(sync_state)
_ASKED = case(
    # No cue waits for a field that may wait (see sync.pace).
    ((_WANT.excluded.due_at > _WANT.excluded.changed_at) & _CUE_WAITS, _WANT.excluded.changed_at),
    else_=_WANT.excluded.due_at,
)
_WANT = _WANT.on_conflict_do_update(
    index_elements=["destination", "profile_id"],
    set_={
        "desired": _WANT.excluded.desired,
        "pending": _WANT.excluded.pending,
        # What is due stays due, though the newest change alone could wait.
        "due_at": case((sync_state.c.pending == 1, least(sync_state.c.due_at, _ASKED)), else_=_ASKED),
        "changed_at": _WANT.excluded.changed_at,
        "attempts": 0,
        # A person's own news waits for nothing, also when a decision about many comes on top of it.
        "bulk": case((_OWN_NEWS, 0), else_=_WANT.excluded.bulk),
        "held": case((_OWN_NEWS, 0), else_=_WANT.excluded.held),
    },
)


def desired(connection: Connection, people: Iterable[int]) -> dict[tuple[str, int], tuple[str, str | None, Millis]]:
    """(destination, profile) -> (desired, pushed, when the last write was accepted) of these people."""
    return {
        (destination, person): (want, have, at)
        for destination, person, want, have, at in connection.execute(_DESIRED, {"people": sorted(people)})
    }


def want(tx: Connection, rows: Sequence[Row], settles_at: Millis = 0) -> None:
    """Write desired states. Rows are {destination, profile_id, desired, pending, due_at, changed_at, bulk}; what the
    vendor has accepted stays as it is. `bulk` is 1 for what a decision about many asks for: it waits for the guard,
    which does not judge before `settles_at`."""
    many = {row["destination"] for row in rows if row.get("bulk") and row["pending"]}
    numbers = {destination: decide_for_many(tx, destination, rows[0]["changed_at"], settles_at) for destination in many}
    if rows:
        for row in rows:
            row["bulk"] = int(row["pending"] and row.get("bulk", 0))
            row["held"] = numbers[row["destination"]] if row["bulk"] else 0
        tx.execute(_WANT, rows)


def contact_owners(connection: Connection, destination: str, remote_ids: Iterable[str]) -> dict[str, int]:
    """Record id -> profile, of those of these contacts that are known."""
    query = select(sync_state.c.remote_id, sync_state.c.profile_id).where(
        sync_state.c.destination == destination, sync_state.c.remote_id.in_(sorted(remote_ids))
    )
    return {str(remote_id): person for remote_id, person in connection.execute(query)}


def poll_row(connection: Connection, destination: str) -> RowMapping | None:
    """Up to when an account has told what people did with its mails; None before the first look."""
    row = connection.execute(select(poll).where(poll.c.destination == destination)).first()
    return row._mapping if row else None


def polls(connection: Connection) -> dict[str, Row]:
    """{until, at, error} by destination: up to when each account has told what people did with its mails."""
    rows = connection.execute(select(poll)).mappings()
    return {row["destination"]: {"until": row["watermark"], "at": row["at"], "error": row["error"]} for row in rows}


def set_poll(tx: Connection, destination: str, **values: Any) -> None:
    """Note it: all values the first time, then those that change."""
    if tx.execute(update(poll).where(poll.c.destination == destination).values(**values)).rowcount == 0:
        tx.execute(insert(poll).values(destination=destination, **values))


def merge(
    tx: Connection, winner: int, loser: int, email: str | None, now: Millis, uniting: Collection[str] = ()
) -> None:
    """Move the loser's contacts. The winner, who is written to at `email` from now on, takes over a contact
    that it lacks and the one that has this address already; a contact of another address stays at the vendor as a
    person's old address, without tags, and at the destinations `uniting` is merged there in the end."""
    mine, theirs = _states(tx, winner), _states(tx, loser)
    for destination, row in theirs.items():
        own = mine.get(destination)
        if own is None:
            _set(tx, destination, loser, profile_id=winner)
        elif row["pushed"] is None or (
            own["pushed"] is not None and _address(own["pushed"]) == _address(row["pushed"])
        ):
            _drop(tx, destination, loser)
        elif own["pushed"] is None:
            _drop(tx, destination, loser)
            _take_over(tx, own, row, now)
        else:
            old = row
            if _address(row["pushed"]) == email:
                old = own
                _take_over(tx, own, row, now)
            left = {"pushed": old["pushed"], "remote_id": old["remote_id"], "desired": emptied(old["pushed"])}
            left["duplicate"] = "unite" if destination in uniting else ""
            _set(tx, destination, loser, **left, pending=1, due_at=now, changed_at=now, attempts=0, bulk=0, held=0)


def give_cues(tx: Connection, pairs: Sequence[tuple[int, int]]) -> set[int]:
    """Give the cues of each loser to their winner; `pairs` are (winner, loser). Returns the losers who have contacts,
    for `merge`."""
    if not pairs:
        return set()
    tx.execute(_GIVE_CUES, [{"winner": winner, "loser": loser} for winner, loser in pairs])
    losers = [loser for _, loser in pairs]
    query = select(sync_state.c.profile_id).where(sync_state.c.profile_id.in_(losers)).distinct()
    return set(tx.execute(query).scalars())


_GIVE_CUES = update(cue).where(cue.c.profile_id == bindparam("loser")).values(profile_id=bindparam("winner"))


def move_address(tx: Connection, giver: int, taker: int, email: str, now: Millis) -> None:
    """The contacts of an address go with it from one person to another, who tells the vendor what is different; a
    contact that the taker has under another address moves to this one as ever."""
    mine, theirs = _states(tx, taker), _states(tx, giver)
    for destination, row in theirs.items():
        if _address(row["pushed"] or row["desired"]) != email:
            continue
        own = mine.get(destination)
        if own is None:
            _set(tx, destination, giver, profile_id=taker)
            continue
        _drop(tx, destination, giver)
        if own["pushed"] is None and row["pushed"] is not None:
            _take_over(tx, own, row, now)


def separate(tx: Connection, holder: int, loser: int, addresses: Collection[str]) -> None:
    """Give each of two people who were one the contact with their own address; `addresses` are the loser's."""
    asked = (sync_state.c.profile_id == loser, sync_state.c.duplicate == "unite")
    tx.execute(update(sync_state).where(*asked).values(duplicate=""))
    ours, theirs = _states(tx, holder), _states(tx, loser)
    for destination, row in ours.items():
        if _address(row["pushed"] or row["desired"]) not in addresses:
            continue
        other = theirs.get(destination)
        if other is None:
            _set(tx, destination, holder, profile_id=loser)
        elif _address(other["pushed"] or other["desired"]) in addresses:
            _drop(tx, destination, holder)
        else:  # the holder had moved to the loser's contact, and left their own behind
            _set(tx, destination, holder, profile_id=-1)
            _set(tx, destination, loser, profile_id=holder)
            _set(tx, destination, -1, profile_id=loser)


def _states(tx: Connection, person: int) -> dict[str, RowMapping]:
    rows = tx.execute(select(sync_state).where(sync_state.c.profile_id == person)).mappings()
    return {row["destination"]: row for row in rows}


def _address(contact: str) -> str:
    return str(orjson.loads(contact)["email"])


def _take_over(tx: Connection, own: RowMapping, row: RowMapping, now: Millis) -> None:
    """Let a person go on with what the vendor has of another."""
    news = {"pushed": row["pushed"], "remote_id": row["remote_id"], "pending": int(row["pushed"] != own["desired"])}
    due = {"due_at": now, "changed_at": now, "attempts": 0, "bulk": 0, "held": 0, "duplicate": ""}
    _set(tx, own["destination"], own["profile_id"], **news, **due)


def _set(tx: Connection, destination: str, person: int, **values: Any) -> None:
    here = (sync_state.c.destination == destination, sync_state.c.profile_id == person)
    tx.execute(update(sync_state).where(*here).values(**values))


def _drop(tx: Connection, destination: str, person: int) -> None:
    tx.execute(delete(sync_state).where(sync_state.c.destination == destination, sync_state.c.profile_id == person))


# --- pending work of one destination ---------------------------------------------------------------------------------

_CONTACT = (
    sync_state.c.profile_id,
    sync_state.c.desired,
    sync_state.c.pushed,
    sync_state.c.remote_id,
    sync_state.c.attempts,
)
_PENDING = (
    select(*_CONTACT)
    .where(
        sync_state.c.destination == bindparam("destination_"),
        sync_state.c.pending == 1,
        sync_state.c.held == 0,
        sync_state.c.bulk == bindparam("bulk_"),
        sync_state.c.due_at <= bindparam("now_"),
        sync_state.c.duplicate != "united",  # it must be looked for first
    )
    .order_by(sync_state.c.due_at)
    .limit(bindparam("limit_"))
    .execution_options(yield_per=500)
)
_MOST_CHARACTERS = 32_000_000  # of states that are read at once, however large single ones are

# Decided while the vendor answered: it waits as any other change of fields alone does (see sync.pace).
_MAY_WAIT = and_(
    sync_state.c.desired != bindparam("sent"),
    *(
        text_of(sync_state.c.desired, key).is_not_distinct_from(text_of(bindparam("sent"), key))
        for key in ("email", "tags", "create")
    ),
    ~_CUE_WAITS,
)
_PUSHED = (
    update(sync_state)
    .where(sync_state.c.destination == bindparam("destination_"), sync_state.c.profile_id == bindparam("person"))
    .values(
        pushed=bindparam("sent"),
        remote_id=func.coalesce(bindparam("remote"), sync_state.c.remote_id),
        # A change that was decided while the vendor answered keeps the row pending.
        pending=case((sync_state.c.desired != bindparam("sent"), 1), else_=0),
        pushed_at=greatest(sync_state.c.pushed_at, bindparam("at")),
        due_at=case((_MAY_WAIT, greatest(sync_state.c.due_at, bindparam("again_at"))), else_=sync_state.c.due_at),
        attempts=0,
    )
)
_RETRY = (
    update(sync_state)
    .where(sync_state.c.destination == bindparam("destination_"), sync_state.c.profile_id == bindparam("person"))
    .values(
        attempts=sync_state.c.attempts + bindparam("charged"),
        due_at=bindparam("due"),
        pushed=bindparam("unsure"),
        pending=1,
    )
)
_GIVE_UP = (
    update(sync_state)
    .where(
        sync_state.c.destination == bindparam("destination_"),
        sync_state.c.profile_id == bindparam("person"),
        sync_state.c.desired == bindparam("sent"),  # a newer state deserves its own try
    )
    .values(pending=0)
)


def pending(
    connection: Connection, destination: str, now: Millis, limit: int, *, bulk: bool | None = None
) -> list[Pending]:
    """Contacts of a destination that are due: people's own news first, then decisions about many, or only one of the
    two; of each those waiting longest first."""
    found: list[Pending] = []
    room = _MOST_CHARACTERS
    for which in (False, True) if bulk is None else (bulk,):
        told = {"destination_": destination, "now_": now, "limit_": limit - len(found), "bulk_": int(which)}
        with connection.execute(_PENDING, told) as rows:
            for row in rows if room > 0 else ():
                found.append(Pending(*row))
                room -= len(row.desired) + len(row.pushed or "")
                if room <= 0:
                    break
    return found


def next_due(connection: Connection, destination: str) -> Millis | None:
    """When the next contact or cue of a destination is due."""
    contact = select(func.min(sync_state.c.due_at)).where(
        sync_state.c.destination == destination, sync_state.c.pending == 1, sync_state.c.held == 0
    )
    waiting = select(func.min(cue.c.due_at)).where(cue.c.destination == destination, cue.c.state == "pending")
    dues = [due for query in (contact, waiting) if (due := connection.execute(query).scalar()) is not None]
    return min(dues, default=None)


def record_pushed(tx: Connection, destination: str, rows: Sequence[Row]) -> None:
    """Rows are {person, sent (the desired text that was pushed), remote, at (the instant of the write, 0 when there was
    nothing to write), again_at (when further changes of fields may be told)}."""
    if rows:
        tx.execute(_PUSHED, [{"destination_": destination, **row} for row in rows])


def record_retry(tx: Connection, destination: str, rows: Sequence[Row]) -> None:
    """Rows are {person, due, charged (1 when the failed try counts against the contact), unsure (the pushed state as
    far as it is still known, see plan.unsure)}."""
    if rows:
        tx.execute(_RETRY, [{"destination_": destination, **row} for row in rows])


def forget_pushed(tx: Connection, destination: str, people: Iterable[int]) -> None:
    """Nothing is at the vendor of these people: whoever comes back is told in full."""
    here = (sync_state.c.destination == destination, sync_state.c.profile_id == bindparam("person"))
    if rows := [{"person": person} for person in people]:
        tx.execute(update(sync_state).where(*here).values(pushed=None, remote_id=None), rows)


def give_up(tx: Connection, destination: str, rows: Sequence[Row]) -> None:
    """Rows are {person, sent}: not tried again until something about the person changes."""
    if rows:
        tx.execute(_GIVE_UP, [{"destination_": destination, **row} for row in rows])


# --- second contacts -------------------------------------------------------------------------------------------------


class Duplicate(NamedTuple):
    """A second contact: whose it was, the profile they are part of (None: two people again), whether it is to be merged
    (`unite`) or has been (`united`), and the contact that is kept. Texts as in sync.desired."""

    person: int
    keeper: int | None
    state: str
    desired: str
    pushed: str | None
    remote_id: str | None
    attempts: int
    kept_desired: str | None
    kept_pushed: str | None
    kept_remote: str | None


_kept = sync_state.alias("kept")
_DUPLICATES = (
    select(
        sync_state.c.profile_id,
        profile.c.merged_into,
        sync_state.c.duplicate,
        sync_state.c.desired,
        sync_state.c.pushed,
        sync_state.c.remote_id,
        sync_state.c.attempts,
        _kept.c.desired,
        _kept.c.pushed,
        _kept.c.remote_id,
    )
    .select_from(
        sync_state.join(profile, profile.c.id == sync_state.c.profile_id).outerjoin(
            _kept, (_kept.c.destination == sync_state.c.destination) & (_kept.c.profile_id == profile.c.merged_into)
        )
    )
    .where(
        sync_state.c.destination == bindparam("destination_"),
        sync_state.c.duplicate == bindparam("state"),
        sync_state.c.duplicate != literal_column("''"),  # as the partial index says it
        sync_state.c.pending == bindparam("pending_"),
        sync_state.c.held == 0,
        sync_state.c.due_at <= bindparam("now_"),
    )
    .limit(bindparam("limit_"))
)


def duplicates(connection: Connection, destination: str, now: Millis, limit: int) -> list[Duplicate]:
    """Second contacts of which something is to be done: those without tags by now that are to be merged, and those that
    were merged and are wanted again."""
    here = {"destination_": destination, "now_": now, "limit_": limit}
    waiting = (("unite", 0), ("united", 1))
    return [
        Duplicate._make(row)
        for state, pending in waiting
        for row in connection.execute(_DUPLICATES, {**here, "state": state, "pending_": pending})
    ]


def look_again(tx: Connection, destination: str, person: int, due: Millis) -> None:
    """The vendor was asked to merge this contact; whether it has is looked at when it is due."""
    _set(tx, destination, person, attempts=sync_state.c.attempts + 1, due_at=due)


def settle_duplicate(tx: Connection, destination: str, one: Duplicate, state: str) -> bool:
    """Write down what became of a second contact: `united` with the other one, or nothing; False when it is another
    matter by now."""
    same = tx.execute(select(profile.c.merged_into).where(profile.c.id == one.person)).scalar() == one.keeper
    row = _states(tx, one.person).get(destination)
    if not same or row is None or row["duplicate"] != one.state:
        return False
    gone = {"pushed": None, "remote_id": None, "pending": 0} if state == "united" else {}
    _set(tx, destination, one.person, duplicate=state, attempts=0, **gone)
    return True


def tell_anew(tx: Connection, destination: str, one: Duplicate, pushed: str, remote: str | None, now: Millis) -> None:
    """The contact that is kept, under its record id of now, is told once more (`pushed`: see plan.told_anew), unless
    it was pushed meanwhile."""
    here = (sync_state.c.destination == destination, sync_state.c.profile_id == one.keeper)
    kept = {"remote_id": func.coalesce(remote, sync_state.c.remote_id), "pushed": pushed}
    due = {"pending": 1, "due_at": now, "attempts": 0}
    tx.execute(update(sync_state).where(*here, sync_state.c.pushed == one.kept_pushed).values(**kept, **due))


# --- read back -------------------------------------------------------------------------------------------------------


class Accepted(NamedTuple):
    """A contact as a destination accepted it: `pushed` is canonical JSON text (see sync.desired)."""

    profile_id: int
    pushed: str
    remote_id: str | None


_SETTLED = (
    sync_state.c.destination == bindparam("destination_"),
    sync_state.c.pending == 0,
    sync_state.c.pushed.is_not(None),
)
_ACCEPTED = select(sync_state.c.profile_id, sync_state.c.pushed, sync_state.c.remote_id).where(
    *_SETTLED, among(sync_state.c.profile_id, "people")
)
_CORRECT = (
    update(sync_state)
    .where(*_SETTLED, sync_state.c.profile_id == bindparam("person"), sync_state.c.pushed == bindparam("seen"))
    .values(
        pushed=bindparam("holds"),
        remote_id=bindparam("remote"),
        pending=case((sync_state.c.desired == bindparam("holds"), 0), else_=1),
        due_at=bindparam("now_"),
        changed_at=bindparam("now_"),
        attempts=0,
        bulk=1,
        held=bindparam("decision"),
    )
)


def settled(connection: Connection, destination: str) -> list[int]:
    """The profiles, in order, of whom a destination accepted something and who wait for nothing."""
    query = select(sync_state.c.profile_id).where(*_SETTLED).order_by(sync_state.c.profile_id)
    return list(connection.execute(query, {"destination_": destination}).scalars())


def accepted(connection: Connection, destination: str, people: Sequence[int]) -> dict[int, Accepted]:
    """Profile -> what a destination accepted of it, for those of these people who wait for nothing."""
    rows = connection.execute(_ACCEPTED, {"destination_": destination, "people": people})
    return {row[0]: Accepted(*row) for row in rows}


def desired_texts(connection: Connection, destination: str) -> Iterator[tuple[int, str]]:
    """Every profile and what a destination should show of it, in pieces: no more than one is held in memory."""
    query = select(sync_state.c.profile_id, sync_state.c.desired).where(sync_state.c.destination == destination)
    return ((person, shown) for person, shown in connection.execute(query.execution_options(yield_per=1_000)))


def known_remote_ids(connection: Connection, destination: str, remote_ids: Iterable[str]) -> set[str]:
    """Those of the vendor's record ids that some profile's contact has."""
    query = select(sync_state.c.remote_id).where(
        sync_state.c.destination == destination, sync_state.c.remote_id.in_(list(remote_ids))
    )
    return {remote_id for remote_id in connection.execute(query).scalars() if remote_id is not None}


def correct(tx: Connection, destination: str, rows: Sequence[Row], now: Millis) -> int:
    """Write down what the vendor holds, so that the next push brings what is missing; how many rows that changed.
    Rows are {person, seen (the pushed text it was compared with), holds (None: nothing is there), remote}; who was
    pushed in between is left alone."""
    if not rows:
        return 0
    same = {"destination_": destination, "now_": now, "decision": decide_for_many(tx, destination, now)}
    return sum(tx.execute(_CORRECT, {**same, **row}).rowcount for row in rows)


def email_words(connection: Connection, people: Iterable[int]) -> dict[int, dict[str, Any] | None]:
    """Profile -> what it says of being written to by e-mail (see profiles.consent); None where that is unknown."""
    rows = connection.execute(select(profile.c.id, profile.c.consent).where(profile.c.id.in_(list(people))))
    return {person: orjson.loads(words).get("email") for person, words in rows}


# --- taken over ------------------------------------------------------------------------------------------------------

_TAKE_OVER = (
    update(sync_state)
    .where(
        sync_state.c.destination == bindparam("destination_"),
        sync_state.c.profile_id == bindparam("person"),
        sync_state.c.pushed.is_(None),
        sync_state.c.desired == bindparam("seen"),
    )
    .values(
        pushed=bindparam("holds"),
        remote_id=bindparam("remote"),
        pending=case((sync_state.c.desired == bindparam("holds"), 0), else_=sync_state.c.pending),
    )
)


def unpushed(connection: Connection, destination: str, after: int, limit: int) -> dict[int, str]:
    """Profile -> what a destination should show of it, of those of whom nothing was pushed; by id, from `after` on."""
    query = (
        select(sync_state.c.profile_id, sync_state.c.desired)
        .where(sync_state.c.destination == destination, sync_state.c.profile_id > after, sync_state.c.pushed.is_(None))
        .order_by(sync_state.c.profile_id)
        .limit(limit)
    )
    return {person: wanted for person, wanted in connection.execute(query)}


def remote_ids(connection: Connection, destination: str) -> set[str]:
    """Every record id that a profile's contact has at a destination."""
    here = (sync_state.c.destination == destination, sync_state.c.remote_id.is_not(None))
    return {str(id_) for id_ in connection.execute(select(sync_state.c.remote_id).where(*here)).scalars()}


def take_over(tx: Connection, destination: str, rows: Sequence[Row]) -> None:
    """Write down what a vendor holds of contacts that were never pushed. Rows are {person, seen (the desired text it
    was compared with), holds, remote}; who was pushed or changed in between is left alone."""
    if rows:
        tx.execute(_TAKE_OVER, [{"destination_": destination, **row} for row in rows])


# --- verifications ---------------------------------------------------------------------------------------------------


def wanted_verification(connection: Connection, destination: str) -> RowMapping | None:
    """The read-back of a destination that somebody asked for."""
    here = (verification.c.destination == destination, verification.c.state == "wanted")
    return connection.execute(select(verification).where(*here)).mappings().first()


def nights_verification(connection: Connection, destination: str, night: Millis) -> RowMapping | None:
    """What became of the read-back of a night."""
    here = (verification.c.destination == destination, verification.c.night == night)
    return connection.execute(select(verification).where(*here)).mappings().first()


def want_verification(tx: Connection, destination: str, sample: int, repair: bool, now: Millis) -> int:
    """Ask for a read-back; its id. One that still waits is asked for anew: nobody needs two."""
    told = {"sample": sample, "repair": int(repair), "at": now}
    waiting = wanted_verification(tx, destination)
    if waiting is not None:
        tx.execute(update(verification).where(verification.c.id == waiting["id"]).values(**told))
        return int(waiting["id"])
    row = insert(verification).values(destination=destination, state="wanted", **told)
    return int(tx.execute(row.returning(verification.c.id)).scalar_one())


def record_verification(tx: Connection, id_: int | None, row: Row) -> None:
    """Write down what became of a read-back: of the one that was asked for as `id_`, or of a night."""
    if id_ is not None:
        tx.execute(update(verification).where(verification.c.id == id_).values(**row))
        return
    write = upsert(verification).values(**row)
    tx.execute(write.on_conflict_do_update(index_elements=["destination", "night"], set_=row))


# --- the log of pushes -----------------------------------------------------------------------------------------------


def log_pushes(tx: Connection, rows: Sequence[Row]) -> None:
    if rows:
        tx.execute(insert(push), rows)


def add_dead_letters(tx: Connection, rows: Sequence[Row]) -> None:
    if rows:
        tx.execute(insert(dead_letter), rows)


# --- cues ------------------------------------------------------------------------------------------------------------

_CUE = upsert(cue).on_conflict_do_nothing()
_earlier = cue.alias("earlier")
_CUES = (
    select(
        cue.c.id,
        cue.c.key,
        cue.c.profile_id,
        cue.c.name,
        cue.c.at,
        cue.c.properties,
        cue.c.backfill,
        cue.c.attempts,
        sync_state.c.pushed,
        sync_state.c.remote_id,
    )
    .join_from(
        cue,
        sync_state,
        (sync_state.c.destination == cue.c.destination) & (sync_state.c.profile_id == cue.c.profile_id),
    )
    .where(
        cue.c.destination == bindparam("destination_"),
        cue.c.state == "pending",
        cue.c.due_at <= bindparam("now_"),
        sync_state.c.pending == 0,  # a flow that starts must find the contact as it should be
        ~exists().where(  # one after the other, or a later one overtakes
            _earlier.c.profile_id == cue.c.profile_id,
            _earlier.c.destination == cue.c.destination,
            _earlier.c.state == "pending",
            _earlier.c.id < cue.c.id,
        ),
    )
    .order_by(cue.c.due_at, cue.c.id)
    .limit(bindparam("limit_"))
)
_HURRY = (
    update(sync_state)
    .where(
        sync_state.c.destination == bindparam("destination_"),
        sync_state.c.profile_id == bindparam("person"),
        sync_state.c.pending == 1,
        sync_state.c.attempts == 0,
        sync_state.c.due_at > bindparam("at"),
    )
    .values(due_at=bindparam("at"))
)
_SETTLE_CUE = update(cue).where(cue.c.id == bindparam("id_")).values(state=bindparam("state_"))
_RETRY_CUE = (
    update(cue)
    .where(cue.c.id == bindparam("id_"))
    .values(attempts=cue.c.attempts + bindparam("charged"), due_at=bindparam("due"))
)


def add_cues(tx: Connection, rows: Sequence[Row]) -> None:
    """Write cues once per (destination, key). A contact that one is about waits no longer for further changes."""
    if rows:
        tx.execute(_CUE, rows)
        tx.execute(_HURRY, [{"destination_": r["destination"], "person": r["profile_id"], "at": r["at"]} for r in rows])


def pending_cues(connection: Connection, destination: str, now: Millis, limit: int) -> list[RowMapping]:
    """The oldest cue of each contact that is up to date, oldest first, with the contact's pushed state."""
    rows = connection.execute(_CUES, {"destination_": destination, "now_": now, "limit_": limit})
    return [row._mapping for row in rows]


def settle_cues(tx: Connection, rows: Sequence[Row]) -> None:
    """Rows are {id_, state_}: sent, skipped or dead."""
    if rows:
        tx.execute(_SETTLE_CUE, rows)


def retry_cues(tx: Connection, rows: Sequence[Row]) -> None:
    """Rows are {id_, due, charged}, as in record_retry."""
    if rows:
        tx.execute(_RETRY_CUE, rows)


# --- accounts and lists ----------------------------------------------------------------------------------------------


def account_row(connection: Connection, destination: str) -> RowMapping | None:
    row = connection.execute(select(account).where(account.c.destination == destination)).first()
    return row._mapping if row else None


def set_account(tx: Connection, destination: str, now: Millis, **values: Any) -> None:
    """Write some of state, message, retry_at and provisioned of an account."""
    row = upsert(account).values(destination=destination, updated_at=now, **({"state": "active"} | values))
    tx.execute(row.on_conflict_do_update(index_elements=["destination"], set_={"updated_at": now, **values}))


def pause(tx: Connection, destination: str, now: Millis, message: str) -> None:
    """Nothing is pushed until somebody resumes; what should be shown waits."""
    set_account(tx, destination, now, state="paused", message=message)


def resume(tx: Connection, destination: str, now: Millis) -> None:
    """Push at once, whatever had stopped the account."""
    set_account(tx, destination, now, state="active", message="", retry_at=0)


def keep_login(tx: Connection, destination: str, now: Millis, id_: str, name: str, key: str) -> None:
    """Remember whose account a destination is. An id that the vendor did not tell leaves the known one."""
    told = {"account_id": id_, "account_name": name} if id_ else {}
    set_account(tx, destination, now, known_key=key, **told)


def start_new_account(tx: Connection, destination: str, now: Millis) -> None:
    """What was pushed says nothing any more: whatever account the credentials open is told everything anew, once the
    guard has let it go."""
    forgotten = {"pushed": None, "remote_id": None, "pending": 1, "due_at": now, "attempts": 0, "duplicate": ""}
    held = {"bulk": 1, "held": decide_for_many(tx, destination, now)}
    tx.execute(update(sync_state).where(sync_state.c.destination == destination).values(**forgotten, **held))
    tx.execute(delete(vendor_list).where(vendor_list.c.destination == destination))
    unknown = dict.fromkeys(("account_id", "account_name", "known_key", "refused_key", "provisioned", "hold"), "")
    set_account(tx, destination, now, state="active", message="", retry_at=0, **unknown)


def list_ids(connection: Connection, destination: str) -> dict[str, str]:
    """Segment -> the vendor's list id."""
    rows = connection.execute(
        select(vendor_list.c.segment, vendor_list.c.list_id).where(vendor_list.c.destination == destination)
    )
    return {segment: list_id for segment, list_id in rows}


def keep_list_id(tx: Connection, destination: str, segment: str, list_id: str) -> None:
    row = upsert(vendor_list).values(destination=destination, segment=segment, list_id=list_id)
    tx.execute(
        row.on_conflict_do_update(index_elements=["destination", "segment"], set_={"list_id": row.excluded.list_id})
    )


# --- jobs at the vendor ----------------------------------------------------------------------------------------------


def job_notes(connection: Connection, destination: str) -> dict[str, str]:
    """Name -> note of what an adapter has under way."""
    query = select(vendor_job.c.name, vendor_job.c.note).where(vendor_job.c.destination == destination)
    return {name: note for name, note in connection.execute(query)}


def note_job(tx: Connection, destination: str, name: str, note: str) -> None:
    row = upsert(vendor_job).values(destination=destination, name=name, note=note)
    tx.execute(row.on_conflict_do_update(index_elements=["destination", "name"], set_={"note": row.excluded.note}))


def strike_job(tx: Connection, destination: str, name: str) -> bool:
    """Whether there was such a note."""
    here = (vendor_job.c.destination == destination, vendor_job.c.name == name)
    return bool(tx.execute(delete(vendor_job).where(*here)).rowcount)


# --- once more -------------------------------------------------------------------------------------------------------


def retry_dead(tx: Connection, letters: Iterable[RowMapping], now: Millis) -> None:
    """Give contacts and cues that were given up another try, also those of people who are part of another by now."""
    numbers: dict[str, int] = {}
    for letter in letters:
        person = int(letter["reference"])
        kept = tx.execute(select(profile.c.merged_into).where(profile.c.id == person)).scalar()
        people = [person] if kept is None else [person, kept]
        if letter["kind"] == "push":
            name = letter["origin"]
            number = numbers.get(name) or numbers.setdefault(name, decide_for_many(tx, name, now))
            tx.execute(
                update(sync_state)
                .where(sync_state.c.destination == name, sync_state.c.profile_id.in_(people))
                .values(pending=1, due_at=now, attempts=0, **_for_many(number))
            )
        else:
            tx.execute(
                update(cue)
                .where(
                    cue.c.destination == letter["origin"],
                    cue.c.profile_id.in_(people),
                    cue.c.name == letter["topic"],
                    cue.c.state == "dead",
                )
                .values(state="pending", due_at=now, attempts=0)
            )


_RELIST = (
    "UPDATE sync_state SET pending = 1, due_at = :now_, attempts = 0,"
    " bulk = CASE WHEN pending = 1 AND bulk = 0 THEN 0 ELSE 1 END,"
    " held = CASE WHEN pending = 1 AND bulk = 0 THEN 0 ELSE :decision END, pushed = {left}"
    " WHERE destination = :destination_ AND pushed IS NOT NULL"
)
# The tags that the vendor has but should not have stay in `pushed`: they are still to be removed.
_LEFT = {
    "sqlite": (
        "json_set(pushed, '$.tags', json((SELECT json_group_array(had.value)"
        " FROM json_each(sync_state.pushed, '$.tags') AS had"
        " WHERE had.value NOT IN (SELECT want.value FROM json_each(sync_state.desired, '$.tags') AS want))))"
    ),
    "postgresql": (
        "CAST(jsonb_set(CAST(pushed AS jsonb), '{tags}', (SELECT coalesce(jsonb_agg(had), CAST('[]' AS jsonb))"
        " FROM jsonb_array_elements(CAST(pushed AS jsonb) -> 'tags') AS had"
        " WHERE NOT (CAST(desired AS jsonb) -> 'tags') @> had)) AS text)"
    ),
}


def reopen(tx: Connection, destination: str, now: Millis) -> None:
    """Everything that is not as desired at a destination becomes pending, after its configuration changed, and its
    account is tried again."""
    unlike = (
        sync_state.c.destination == destination,
        sync_state.c.pending == 0,
        sync_state.c.pushed.is_(None) | (sync_state.c.pushed != sync_state.c.desired),
    )
    if tx.execute(select(sync_state.c.profile_id).where(*unlike).limit(1)).first():
        held = decide_for_many(tx, destination, now)
        again = {"pending": 1, "due_at": now, "attempts": 0, "bulk": 1, "held": held}
        tx.execute(update(sync_state).where(*unlike).values(**again))
    here = (account.c.destination == destination, account.c.state != "paused")
    tx.execute(update(account).where(*here).values(state="active", message="", retry_at=0, updated_at=now))


def try_account(tx: Connection, destination: str, now: Millis) -> None:
    """An account that was stopped by a fault of ours or by its credentials is tried again. One that a person paused
    stays paused, and what a vendor asked us to wait is waited."""
    here = (account.c.destination == destination, account.c.state.not_in(("paused", "active")))
    tx.execute(update(account).where(*here).values(state="active", message="", retry_at=0, updated_at=now))


def relist(tx: Connection, destination: str, now: Millis) -> None:
    """Every tag of a destination counts as not yet pushed, and its contacts become pending: lists that were switched
    on just now are filled with those who have the tags already."""
    number = decide_for_many(tx, destination, now)
    tx.execute(
        text(_RELIST.format(left=_LEFT[tx.dialect.name])),
        {"destination_": destination, "now_": now, "decision": number},
    )


# --- decisions about many --------------------------------------------------------------------------------------------


def decide_for_many(tx: Connection, destination: str, now: Millis, settles_at: Millis = 0) -> int:
    """The number of a new decision about many: what becomes pending by it waits under this number (see sync.guard)."""
    row = upsert(account).values(
        destination=destination, state="active", updated_at=now, decisions=1, settles_at=settles_at
    )
    counted = row.on_conflict_do_update(
        index_elements=["destination"],
        set_={
            "decisions": account.c.decisions + 1,
            "settles_at": greatest(account.c.settles_at, row.excluded.settles_at),
        },
    )
    return int(tx.execute(counted.returning(account.c.decisions)).scalar_one())


_RELEASED = select(account.c.released).where(account.c.destination == bindparam("destination_")).scalar_subquery()
_WAITING = (
    sync_state.c.destination == bindparam("destination_"),
    sync_state.c.pending == 1,
    sync_state.c.held > _RELEASED,
)
_MAY_BE_MADE = text_of(sync_state.c.desired, "create").in_(("1", "true"))
_WAITING_COUNTS = select(
    func.count().filter(sync_state.c.pushed.is_not(None), sync_state.c.pushed != sync_state.c.desired),
    func.count().filter(sync_state.c.pushed.is_(None), _MAY_BE_MADE),
    func.count().filter(sync_state.c.pushed.is_(None), ~_MAY_BE_MADE),
).where(*_WAITING)
_FREE = text(
    "UPDATE sync_state SET held = 0 WHERE destination = :destination_ AND profile_id IN (SELECT profile_id"
    " FROM sync_state WHERE destination = :destination_ AND pending = 1 AND held BETWEEN 1 AND :released LIMIT :limit_)"
)


def accepted_count(connection: Connection, destination: str) -> int:
    """How many contacts a destination accepted, ever."""
    here = (sync_state.c.destination == destination, sync_state.c.pushed.is_not(None))
    return int(connection.execute(select(func.count()).where(*here)).scalar_one())


def waiting_counts(connection: Connection, destination: str) -> tuple[int, int, int]:
    """Of the contacts that wait for the guard: how many that were accepted would be told anew, how many were never
    accepted and may be made, how many of these may not."""
    changed, new, only_there = connection.execute(_WAITING_COUNTS, {"destination_": destination}).one()
    return changed, new, only_there


def waiting(connection: Connection, destination: str) -> Iterator[Pending]:
    """Every contact that waits for the guard, in pieces: no more than one is held in memory."""
    query = select(*_CONTACT).where(*_WAITING).execution_options(yield_per=1_000)
    return (Pending(*row) for row in connection.execute(query, {"destination_": destination}))


def all_pending(connection: Connection, destination: str) -> Iterator[tuple[Pending, bool]]:
    """Every contact that waits for anything, and whether for the guard; by profile id, in pieces: no more than one is
    held in memory."""
    query = select(*_CONTACT, sync_state.c.held > func.coalesce(_RELEASED, 0)).where(
        sync_state.c.destination == bindparam("destination_"),
        sync_state.c.pending + 0 == 1,  # the index of what is pending would have to be sorted, in memory
    )
    query = query.order_by(sync_state.c.profile_id).execution_options(yield_per=1_000)
    return ((Pending(*row[:-1]), bool(row[-1])) for row in connection.execute(query, {"destination_": destination}))


def waiting_cues(connection: Connection, destination: str) -> int:
    """How many cues wait."""
    here = (cue.c.destination == destination, cue.c.state == "pending")
    return int(connection.execute(select(func.count()).where(*here)).scalar_one())


def reachable(connection: Connection) -> int:
    """How many profiles have an address, and so a contact at every destination."""
    here = (profile.c.email.is_not(None), profile.c.merged_into.is_(None))
    return int(connection.execute(select(func.count()).select_from(profile).where(*here)).scalar_one())


def held_now(connection: Connection, destination: str) -> int:
    """How many contacts wait for the guard."""
    return int(connection.execute(select(func.count()).where(*_WAITING), {"destination_": destination}).scalar_one())


def refilling(connection: Connection) -> tuple[int, int] | None:
    """How many profiles of how many the running refills have gone through; None when there is none."""
    sums = select(func.sum(refill.c.position), func.sum(refill.c.last)).where(refill.c.finished_at.is_(None))
    position, last = connection.execute(sums).one()
    return None if position is None else (int(position), int(last))


def fetching(connection: Connection) -> bool:
    """Whether a source's past is being fetched, without a hitch: how many people it is about is not known yet."""
    query = select(backfill.c.kind).where(backfill.c.finished_at.is_(None), backfill.c.attempts == 0).limit(1)
    return connection.execute(query).first() is not None


def judge(tx: Connection, destination: str, number: int, *, hold: str = "", lately: str = "") -> bool:
    """Write down what was found of all decisions up to `number`: let go (`lately` is what has been by now), or with
    `hold` held. False when somebody else was faster."""
    values = {"judged": number, "hold": hold} | ({} if hold else {"released": number, "lately": lately})
    here = (account.c.destination == destination, account.c.judged < number)
    return tx.execute(update(account).where(*here).values(**values)).rowcount == 1


def approve(tx: Connection, destination: str, number: int) -> bool:
    """Let go all decisions up to `number`, which is the latest and was judged; False when that is no longer so."""
    here = (account.c.destination == destination, account.c.judged == number, account.c.decisions == number)
    return tx.execute(update(account).where(*here).values(released=number, hold="", lately="")).rowcount == 1


APPROVED = "approved_version"
"""The name in `meta` of the configuration that was approved when it was applied."""


def end_refills(tx: Connection, version: int) -> None:
    """To be called when a refill has ended, or none was needed. After the last one of a configuration that was approved
    when it was applied, everything is let go at all destinations, and the approval has ended."""
    if refilling(tx) is not None:
        return
    if tx.execute(delete(meta).where(meta.c.name == APPROVED, meta.c.value == str(version))).rowcount:
        let_go = {"judged": account.c.decisions, "released": account.c.decisions, "hold": "", "lately": ""}
        tx.execute(update(account).values(**let_go))


def free(tx: Connection, destination: str, limit: int) -> None:
    """Let the next rows of decisions that were let go be pushed."""
    known = account_row(tx, destination)
    if known is None or known["released"] == known["freed"]:
        return
    told = {"destination_": destination, "released": known["released"], "limit_": limit}
    if tx.execute(_FREE, told).rowcount < limit:
        tx.execute(update(account).where(account.c.destination == destination).values(freed=known["released"]))


def _for_many(number: int) -> dict[str, Any]:
    """What a row that becomes pending by a decision about many is given; a person's own news goes on as ever."""
    return {"bulk": case((_OWN_NEWS, 0), else_=1), "held": case((_OWN_NEWS, 0), else_=number)}


def forget_account(tx: Connection, destination: str) -> None:
    """Drop all we know of a destination that is configured no more, or points to another account now."""
    for table in (sync_state, cue, account, vendor_list, vendor_job, verification, poll):
        tx.execute(delete(table).where(table.c.destination == destination))
