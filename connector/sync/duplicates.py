"""Two contacts of people who turned out to be one, made one at the vendor as well, where that is wanted."""

from dataclasses import dataclass

import orjson
import structlog
from sqlalchemy import Connection

from adapters.destination import Destination, Held, Wanted
from adapters.errors import Rejected
from connector.clock import SECOND, Millis
from connector.storage.database import Database
from connector.sync import store
from connector.sync.plan import told_anew
from connector.sync.store import Duplicate
from connector.sync.verify import Tell, unheard

log = structlog.get_logger("push")

_PIECE = 20  # in one round: each is three calls, and pushes wait meanwhile
_LOOKS = 10  # at a merge that the vendor has queued, 2, 4, 8 ... s apart: about half an hour

_REFUSAL = {"subscribed": 0, None: 0, "unsubscribed": 1, "suppressed": 2}


@dataclass(frozen=True, slots=True)
class _End:
    """What became of a second contact. state: `united`, or `` when it stays where it is; `kept` is the other one as it
    was read last. A status is told in the push log."""

    state: str
    status: str = ""
    reason: str = ""
    message: str = ""
    kept: Held | None = None


class Duplicates:
    """The second contacts of one destination. What is to be done stands in the rows of `sync_state`, and what has been
    done is read from the vendor: a crash before or after a call changes nothing."""

    def __init__(self, database: Database, destination: str, tell: Tell) -> None:
        self._database = database
        self._name = destination
        self._tell = tell

    def step(self, adapter: Destination, now: Millis) -> int:
        """Settle some of those that are due; how many. Raises Transient or Unauthorized."""
        with self._database.read() as connection:
            due = store.duplicates(connection, self._name, now, _PIECE)
        for one in due:
            if one.state == "united":
                self._come_back(adapter, one, now)
            else:
                end = self._unite(adapter, one, now)
                if end is not None:
                    self._record(one, end, now)
        return len(due)

    # --- two become one

    def _unite(self, adapter: Destination, one: Duplicate, now: Millis) -> _End | None:
        """What became of it; None while the vendor is at it."""
        if one.keeper is None or one.kept_pushed is None:
            return _End("")  # two people again, or there is nothing to unite it with
        if one.pushed is None:
            return _End("united")
        kept, gone = self._read(adapter, one)
        if (end := _seen(kept, gone)) is not None:
            return end
        if one.attempts >= _LOOKS:
            return _End("", "rejected", "not_merged", "the vendor took the merge and still shows both contacts")
        if _REFUSAL[gone.consent] > _REFUSAL[kept.consent]:
            return self._keep_the_refusal(one, gone, now)
        try:
            if not adapter.unite(str(kept.remote_id), str(gone.remote_id)):
                return _End("", "skipped", "no_merge", "this vendor has no merge of contacts")
        except Rejected as error:
            # The answer to an earlier try may have been lost: what counts is what is there now.
            return _seen(*self._read(adapter, one)) or _End("", "rejected", error.reason, error.message)
        with self._database.tx() as tx:
            store.look_again(tx, self._name, one.person, now + SECOND * 2 ** (one.attempts + 1))
        return None

    def _read(self, adapter: Destination, one: Duplicate) -> tuple[Held, Held]:
        wanted = [
            Wanted("kept", _address(one.kept_pushed), one.kept_remote),
            Wanted("gone", _address(one.pushed), one.remote_id),
        ]
        held = {found.key: found for found in adapter.read(wanted)}
        return held["kept"], held["gone"]

    def _keep_the_refusal(self, one: Duplicate, gone: Held, now: Millis) -> _End:
        """Somebody said no under the second address alone, and no call of ours can say it for the first: the profile
        hears it, and the contact that bears it stays."""
        assert one.keeper is not None
        self._hear(one.keeper, _address(one.kept_pushed), gone, now)
        message = "the contact that would be gone refuses mail and the other does not: a merge could lose that"
        return _End("", "skipped", "refuses_mail", message)

    def _hear(self, person: int, email: str, held: Held, now: Millis) -> None:
        words = unheard(self._database, self._name, {person: (email, held)}, now)
        if words:
            self._tell(list(words.values()))

    def _record(self, one: Duplicate, end: _End, now: Millis) -> None:
        if end.kept is not None and one.keeper is not None:
            self._hear(one.keeper, _address(one.kept_pushed), end.kept, now)
        with self._database.tx() as tx:
            if not store.settle_duplicate(tx, self._name, one, end.state):
                return  # they were merged on or separated meanwhile
            if end.kept is not None and one.kept_pushed is not None:
                anew = told_anew(one.kept_pushed, one.kept_desired or one.kept_pushed, one.pushed)
                store.tell_anew(tx, self._name, one, anew, end.kept.remote_id, now)
            if end.status:
                self._log(tx, one, end, now)
        log.info("push.duplicate", destination=self._name, profile=one.person, state=end.state, reason=end.reason)

    # --- one becomes two again

    def _come_back(self, adapter: Destination, one: Duplicate, now: Millis) -> None:
        """Somebody's contact became part of another person's, and they are two people again. Where the vendor has kept
        the address with that contact, both would write to it: that is left to a person."""
        [held] = adapter.read([Wanted("back", _address(one.desired))])
        with self._database.tx() as tx:
            there = [held.remote_id] if held.remote_id else []
            if one.keeper is None and there and store.known_remote_ids(tx, self._name, there):
                message = (
                    "its address is still one of another person's contact, into which it was merged there: take the"
                    f" address out of contact {held.remote_id} at the vendor, then replay this"
                )
                store.give_up(tx, self._name, [{"person": one.person, "sent": one.desired}])
                self._log(tx, one, _End("united", "rejected", "address_of_another", message), now)
            elif one.keeper is not None:
                store.give_up(tx, self._name, [{"person": one.person, "sent": one.desired}])
            else:
                store.settle_duplicate(tx, self._name, one, "")

    def _log(self, tx: Connection, one: Duplicate, end: _End, now: Millis) -> None:
        told = {"status": end.status, "reason": end.reason, "message": end.message}
        person = one.person if one.keeper is None else one.keeper
        row = {"destination": self._name, "profile_id": person, "kind": "merge", "at": now, "data": "{}", **told}
        store.log_pushes(tx, [row])
        if end.status == "rejected":
            letter = {"kind": "push", "origin": self._name, "reference": str(one.person), "topic": "", "at": now}
            letter |= {"reason": end.reason, "message": end.message, "body": one.desired.encode()}
            store.add_dead_letters(tx, [letter])


def _seen(kept: Held, gone: Held) -> _End | None:
    """What the vendor shows of an end; None while both are there."""
    if gone.status == "missing":
        return _End("united", "applied", kept=kept if kept.status != "missing" else None)
    if kept.status == "missing":
        return _End("")
    if kept.remote_id == gone.remote_id:
        return _End("united", "applied", kept=kept)
    return None


def _address(contact: str | None) -> str:
    return "" if contact is None else str(orjson.loads(contact)["email"])
