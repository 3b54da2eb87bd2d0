"""Decisions about many people wait here until it is known how many: few go on at once, too many are held until
somebody approves.

A contact is pending by the person's own news (events, the clock) or by a decision of ours about many: a changed
configuration, lists switched on, a repair, a replay. Own news never waits, so that no sale day and no end of an outage
is ever held. Decisions about many have numbers (`account.decisions`), and a row that waits by one bears it
(`sync_state.held`); so judging and letting go are a write of one row, whatever happens in between.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection

from connector.clock import HOUR, Millis
from connector.storage.database import Database
from connector.sync import store
from connector.sync.plan import change, is_noop

log = structlog.get_logger("guard")

SMALL = 10  # contacts; fewer are never held
PERCENT = 30  # of the contacts that the vendor accepted: more than that is asked about
_LATELY: Millis = HOUR
_PIECE = 20_000  # rows freed in one transaction: about 0.1 s, and more than the largest batch


@dataclass(frozen=True, slots=True)
class Counts:
    """What a decision about many comes to at one destination.

    accepted: contacts that the vendor accepted from us, ever. changed: those of them that would really differ.
    new: contacts that it never accepted and that may be made there. only_there: likewise, but they may not be made and
    are only brought up to date if the vendor has them.
    """

    accepted: int
    changed: int
    new: int
    only_there: int

    @property
    def changes(self) -> int:
        return self.changed + self.new + self.only_there


@dataclass(frozen=True, slots=True)
class Hold(Counts):
    """What is held, as it was counted at `since`."""

    since: Millis


@dataclass(frozen=True, slots=True)
class Lately:
    """What was let go unasked, up to the instant `until`: a repair comes in pieces, and many small changes are a large
    one."""

    changed: int = 0
    new: int = 0
    until: Millis = 0

    def at(self, now: Millis) -> "Lately":
        return self if now < self.until else Lately(until=now + _LATELY)

    def with_more(self, counts: Counts) -> "Lately":
        return Lately(self.changed + counts.changed, self.new + counts.new, self.until)


@dataclass(frozen=True, slots=True)
class Review:
    """How decisions about many stand. decision: the number of the latest one judged; counting: how many profiles of
    how many a running refill has gone through, (0, 0) while a replay or a backfill is worked off, None when all is
    counted."""

    decision: int = 0
    hold: Hold | None = None
    counting: tuple[int, int] | None = None


def too_many(counts: Counts, lately: Lately = Lately()) -> bool:
    """True for what must be asked about: a first push to an account, more than 30 % of its contacts changed, or more
    than 30 % as many new ones as it has; together with what was let go lately."""
    if counts.accepted < SMALL:
        return counts.new + counts.only_there >= SMALL
    most = counts.accepted * PERCENT
    changed, new = counts.changed and counts.changed + lately.changed, counts.new and counts.new + lately.new
    return changed * 100 > most or (new >= SMALL and new * 100 > most)


def words(name: str, hold: Hold) -> str:
    """What is held, and what to do, for people."""
    parts = []
    if hold.changed:
        share = f"{100 * hold.changed / hold.accepted:.0f} % of " if hold.accepted else ""
        parts.append(f"{hold.changed:,} contacts change ({share}{hold.accepted:,})")
    if hold.new:
        parts.append(f"{hold.new:,} are new")
    if hold.only_there:
        parts.append(f"{hold.only_there:,} are brought up to date if they are there")
    first = "first push: " if hold.accepted < SMALL else ""
    return (
        f"{first}{', '.join(parts)}; held until you run `storecue destination approve {name}`, and "
        f"`storecue destination plan {name}` shows it all; people with news of their own are pushed meanwhile"
    )


def hold_of(account: Mapping[Any, Any]) -> Hold | None:
    """The hold on record in an account's row."""
    return Hold(**orjson.loads(account["hold"])) if account["hold"] else None


def mind(database: Database, name: str, account: Mapping[Any, Any] | None, now: Millis, *, dry_run: bool) -> None:
    """Judge what waits and let go what may. Asks nothing of the database when there is nothing to do. In a dry run
    nothing can be harmed, and everything goes on."""
    if account is None:
        return
    if account["decisions"] > account["judged"]:
        if dry_run:
            with database.tx() as tx:
                store.judge(tx, name, account["decisions"])
        else:
            review(database, name, now)
    if account["released"] > account["freed"] or account["decisions"] > account["judged"]:
        with database.tx() as tx:
            store.free(tx, name, _PIECE)


def review(database: Database, name: str, now: Millis) -> Review:
    """How decisions about many stand at a destination; judged now when that is due and their number is known."""
    with database.read() as connection:
        account = store.account_row(connection, name)
        if account is None:
            return Review()
        counting = store.refilling(connection)
        if account["settles_at"] > now and account["decisions"] > account["judged"]:
            counting = counting or (0, 0)
        if store.fetching(connection):
            counting = counting or (0, 0)
        if counting is not None or account["decisions"] == account["judged"]:
            return Review(account["judged"], hold_of(account), counting)
        lately = (Lately(**orjson.loads(account["lately"])) if account["lately"] else Lately()).at(now)
        counts = count(connection, name, lately)
    hold = Hold(**asdict(counts), since=now) if too_many(counts, lately) else None
    found = {"lately": lately.with_more(counts)} if hold is None else {"hold": hold}
    with database.tx() as tx:
        texts = {key: orjson.dumps(value).decode() for key, value in found.items()}
        if store.judge(tx, name, account["decisions"], **texts):
            _tell(name, hold, hold_of(account))
    return Review(account["decisions"], hold)


def _tell(name: str, hold: Hold | None, before: Hold | None) -> None:
    if hold is not None:
        log.warning("push.held", destination=name, hint=words(name, hold))
    elif before is not None:
        log.info("push.let_go", destination=name, hint="what is left of the change is no longer too much")


def count(connection: Connection, name: str, lately: Lately) -> Counts:
    """What all decisions together that wait at a destination come to. For so few that they may go whatever the vendor
    has, that is not looked up: `accepted` is the least that matters, and `changed` an upper bound."""
    few = Counts(SMALL, *store.waiting_counts(connection, name))
    if few.new + few.only_there < SMALL and not too_many(few, lately):
        return few
    # Rows may differ in what steers creation alone, which is no change: only reading them tells.
    waiting = store.waiting(connection, name)
    changed = sum(not is_noop(change(one), one) for one in waiting if one.pushed is not None)
    return replace(few, accepted=store.accepted_count(connection, name), changed=changed)


def approve(database: Database, name: str, decision: int) -> bool:
    """Let go what was judged as `decision`; False when something was decided since."""
    with database.tx() as tx:
        return store.approve(tx, name, decision)
