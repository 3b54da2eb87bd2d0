"""One destination brought from pushed to desired: claims what is due, plans, applies, records the outcomes.

There is no flush timer. A batch forms by itself while the previous call is under way or waits for a rate token. An
account that is out is tried with one contact, and then with four times as many each round.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from random import Random
from typing import Any, TypeVar

import orjson
import structlog
from sqlalchemy import Connection

from adapters.breaker import PROBE_EVERY
from adapters.destination import Change, Cue, Destination, FieldSpec, Following, Membership, Outcome
from adapters.errors import DeliveryError, Misconfigured, Transient, Unauthorized
from adapters.outcomes import Keyed, is_halt, is_out, is_silence, outcome_of
from connector.clock import MINUTE, SECOND, Millis
from connector.domain import Configuration, DestinationConfig
from connector.errors import ConfigurationError, Fenced
from connector.profiles import holds
from connector.storage import counters
from connector.storage.turns import Turn
from connector.sync import guard, login, pace, store
from connector.sync.plan import Pending, change, external_id, is_noop, unsure

log = structlog.get_logger("push")

_IDLE = 0.5  # seconds: how long work that another process wrote may wait unseen
_ATTEMPTS = 12  # then an item goes to dead letters: with the backoff below that is about 5 hours
_LONGEST_WAIT: Millis = 60 * MINUTE
_GROWTH = 4  # times the contacts of a round, once an account that was out answers again
_REHEARSED = 500  # contacts or cues in one round of a dry run


def backoff(attempts: int, asked: float, chance: Random) -> Millis:
    """How long a contact waits before its next try: what the vendor asked for (seconds), or 1, 2, 4 ... s, with 50 %
    jitter so that contacts that failed together do not come back together; at most an hour."""
    wait = max(asked * SECOND, min(2**attempts, 3600) * SECOND)
    return int(min(wait * (1 + chance.random() / 2), _LONGEST_WAIT))


def rest(postponed: int, error: Transient, chance: Random) -> Millis:
    """How long an account is left alone: what it asked for, or 1, 2, 4 ... 30 s, and a little more; at most an hour.
    `postponed`: rounds in a row of which nothing came."""
    wait = max(error.retry_after, min(2 ** min(postponed, 5), PROBE_EVERY))
    spread = 0.05 if error.reason == "rate_limited" else wait / 10
    return int(min((wait + spread * chance.random()) * SECOND, _LONGEST_WAIT)) + 1


class Pusher:
    """The sender of one destination. `step` does one round; the worker calls it from a thread of its own."""

    def __init__(
        self,
        config: DestinationConfig,
        configuration: Configuration,
        connect: Callable[[DestinationConfig, Turn], Destination],
        turn: Turn,
        chance: Random | None = None,
        first: Callable[[Destination, Millis], int] | None = None,
        then: Callable[[Destination, Millis], int] | None = None,
        idle: Callable[[Destination, Millis], None] | None = None,
        credentials: Callable[[DestinationConfig], Mapping[str, str]] = attrgetter("credentials"),
    ) -> None:
        """`first` is called before anything is pushed in a round, `then` after it, and each gives how many items it
        settled; `idle` when there was nothing to push; `credentials` opens the configured references anew each time."""
        self.database = turn.database
        self.turn = turn
        self._first = first
        self._then = then
        self._idle = idle
        self.config = config
        self.name = config.name
        self.wake = threading.Event()
        self._configuration = configuration
        self._connect = connect
        self._adapter: Destination | None = None
        self._credentials = credentials
        self._key: Mapping[str, str] = {}  # the credentials of `_adapter`
        self._logged_in = False
        self._provisioned = False
        self._chance = chance or Random()  # noqa: S311  (jitter, no secret)
        self._postponed = 0  # rounds in a row of which nothing came
        self._room: int | None = None  # items in a round while an account comes back
        self._served = 0  # rounds that brought something
        self._alone: dict[int, int] = {}  # person -> how many of those there were when the vendor gave it no answer
        self._again_at: Millis = 0  # when the account may be tried again
        self.clock: Callable[[], Millis] | None = None  # of who runs this, for what is done while a vendor works
        self._owed: Callable[[Connection], None] | None = None  # outcomes that could not be written down yet

    def run(self, stop: threading.Event, now: Callable[[], Millis]) -> None:
        """Push until `stop` is set, while it is our turn: two senders of one destination would overtake each other.
        A fault of ours is logged and tried again; it never ends the thread. Who has lost the turn forgets what is not
        written down: whoever has it now sends that again, which is harmless."""
        self.clock = now
        while not stop.is_set():
            self.wake.clear()
            try:
                busy = 0
                if self.turn.take():
                    busy = self.step(now())
                else:
                    self._forget()
            except Fenced as error:
                log.warning("push.fenced", destination=self.name, hint=error.message)
            except Exception:
                log.exception("push.failed", destination=self.name)
                busy = False
                stop.wait(1)
            if not busy:
                left = (self._again_at - now()) / SECOND
                self.wake.wait(min(_IDLE, left) if left > 0 else _IDLE)
        self.close()

    def step(self, now: Millis) -> int:
        """The number of items settled in one round: contacts first, then cues of contacts that are up to date."""
        if self._owed is not None:
            self._settle(self._owed)
        with self.database.read() as connection:
            account = store.account_row(connection, self.name)
        guard.mind(self.database, self.name, account, now, dry_run=self.config.dry_run)
        if account is not None and not self._may_push(account, now):
            return 0
        waited = account is not None and account["retry_at"] > 0
        if waited and not self._postponed and self._room is None:
            self._room = 1  # another process met the outage
        if self.config.dry_run:
            return self._rehearse(now)
        try:
            adapter = self._ready(now)
            if adapter is None:
                return 0
            done = self._first(adapter, now) if self._first else 0
            done += self._push_contacts(adapter, now) + self._push_cues(adapter, now)
            done += self._then(adapter, now) if self._then else 0
            if done:
                self._answered(adapter.limits.batch, waited, now)
            elif self._idle:
                self._idle(adapter, now)
            return done
        except Unauthorized as error:
            self._pause("unauthorized", error, now, refused_key=login.mark(self._key))
        except (Misconfigured, ConfigurationError) as error:
            self._pause("misconfigured", error, now)
        except Transient as error:
            self._postpone(error, now)
        return 0

    def _postpone(self, error: Transient, now: Millis) -> None:
        wait = rest(self._postponed, error, self._chance)
        self._postponed += 1
        if is_out(error.reason):
            self._room = 1
        self._again_at = now + wait
        log.warning("push.postponed", destination=self.name, reason=error.reason, hint=error.message, wait_ms=wait)
        with self.database.tx(beside=True) as tx:
            store.set_account(tx, self.name, now, retry_at=now + wait, message=error.message)

    def _answered(self, batch: int, waited: bool, now: Millis) -> None:
        self._postponed = 0
        self._served += 1
        if self._room is not None:
            self._room = self._room * _GROWTH if self._room * _GROWTH < batch else None
        if waited:
            with self.database.tx(beside=True) as tx:
                store.set_account(tx, self.name, now, retry_at=0, message="")

    def close(self) -> None:
        self._disconnect()
        self.turn.give_back()

    def _forget(self) -> None:
        self._owed = None
        self._disconnect()
        self._postponed, self._room, self._again_at = 0, None, 0
        self._alone.clear()

    def _disconnect(self) -> None:
        if self._adapter is not None:
            self._adapter.close()
            self._adapter = None
        self._logged_in = self._provisioned = False

    def _rehearse(self, now: Millis) -> int:
        """Dry run: what would be sent is written down and nothing is sent. Contacts are pushed once it is switched off;
        cues are not, because a flow that starts days late is worse than none."""
        with self.database.read() as connection:
            due = store.pending(connection, self.name, now, _REHEARSED)
            cues = store.pending_cues(connection, self.name, now, _REHEARSED)
        if not due and not cues:
            return 0
        planned = [(pending, change(pending)) for pending in due]
        told = [("change", one.profile_id, _describe(plan)) for one, plan in planned if not is_noop(plan, one)]
        told += [("cue", row["profile_id"], _cue_data(row)) for row in cues]
        for one, plan in planned:
            words = {"added": plan.tags_added, "removed": plan.tags_removed, "fields": sorted(plan.fields)}
            log.info("push.planned", destination=self.name, profile=one.profile_id, **words)
        for row in cues:
            log.info("push.planned", destination=self.name, profile=row["profile_id"], cue=row["name"])
        outcome = Outcome("", "skipped", reason="dry_run")
        with self.database.tx(beside=True) as tx:
            store.give_up(tx, self.name, [{"person": one.profile_id, "sent": one.desired} for one in due])
            store.settle_cues(tx, [{"id_": row["id"], "state_": "skipped"} for row in cues])
            store.log_pushes(tx, [self._push_row(kind, person, outcome, data, now) for kind, person, data in told])
            counters.add(tx, counters.tally("pushes", (f"{self.name}/skipped" for _ in told)), now)
        return len(due) + len(cues)

    def _settle(self, write: Callable[[Connection], None]) -> None:
        """Write outcomes down. Until that has succeeded nothing else is sent: on a full disk the same flow would start
        again with every try."""
        self._owed = write
        with self.database.tx(beside=True) as tx:
            write(tx)
        self._owed = None

    # --- what must exist ---------------------------------------------------------------------------------------------

    def _ready(self, now: Millis) -> Destination | None:
        """The adapter, logged in and provisioned; None while there is nothing to push and nothing was ever pushed."""
        if self._adapter is None:
            self._key = self._credentials(self.config)
            self._adapter = self._connect(self.config, self.turn)
        if not self._logged_in:
            self._log_in(self._adapter, now)
        if not self._provisioned:
            fingerprint = orjson.dumps(
                [[field.name, field.type, field.label] for field in self._configuration.fields_of(self.name)]
                + [sorted(self._segments())]
            ).decode()
            with self.database.read() as connection:
                account = store.account_row(connection, self.name)
            if account is None or account["provisioned"] != fingerprint:
                specs = [FieldSpec(f.name, f.type, f.label) for f in self._configuration.fields_of(self.name)]
                for line in self._adapter.provision(specs, sorted(self._segments())):
                    log.info("push.provisioned", destination=self.name, created=line)
                with self.database.tx(beside=True) as tx:
                    store.set_account(tx, self.name, now, state="active", message="", provisioned=fingerprint)
            self._provisioned = True
        return self._adapter

    def _may_push(self, account: Mapping[Any, Any], now: Millis) -> bool:
        """False while the account rests, or is stopped until somebody acts. Credentials that were refused stop it only
        as long as they are still the ones: a call that was under way with the old ones may be refused last."""
        if account["state"] != "unauthorized" or account["retry_at"] > now:
            return bool(account["state"] == "active" and account["retry_at"] <= now)
        try:
            if not account["refused_key"] or login.is_of(account["refused_key"], self._credentials(self.config)):
                return False
        except ConfigurationError:  # they cannot be read
            return False
        self._disconnect()
        with self.database.tx(beside=True) as tx:
            store.set_account(tx, self.name, now, state="active", message="", refused_key="")
        return True

    def _log_in(self, adapter: Destination, now: Millis) -> None:
        """Ask whose account it is, once for each change of credentials."""
        with self.database.read() as connection:
            account = store.account_row(connection, self.name)
        if account is None or not login.is_of(account["known_key"], self._key):
            found = login.ask(adapter)
            login.check(self.name, account, found)
            with self.database.tx(beside=True) as tx:
                store.keep_login(tx, self.name, now, found.id, found.name, login.mark(self._key))
        self._logged_in = True

    def _segments(self) -> Sequence[str]:
        wanted = self.config.segments
        return [s for s in self._configuration.segments if wanted is None or s in wanted]

    def _pause(self, state: str, error: DeliveryError | ConfigurationError, now: Millis, **values: str) -> None:
        log.error("push.paused", destination=self.name, state=state, message=error.message)
        self._disconnect()  # who goes on takes the credentials as they are then
        with self.database.tx(beside=True) as tx:
            store.set_account(tx, self.name, now, state=state, message=error.message, **values)

    # --- contacts ----------------------------------------------------------------------------------------------------

    def _push_contacts(self, adapter: Destination, now: Millis) -> int:
        """People's own news by itself, before what was decided about many: it is not to wait for the vendor's jobs."""
        apart = (False, True) if adapter.limits.singly else (None,)
        return sum(self._push_due(adapter, bulk, now) for bulk in apart)

    def _push_due(self, adapter: Destination, bulk: bool | None, now: Millis) -> int:
        with self.database.read() as connection:
            due = store.pending(connection, self.name, now, self._room or adapter.limits.batch, bulk=bulk)
        if not due:
            return 0
        if not bulk or not isinstance(adapter, Following):
            return self._tell(adapter, due, now)
        adapter.meanwhile = self._beside(adapter, {pending.profile_id for pending in due})
        try:
            return self._tell(adapter, due, now)
        finally:
            adapter.meanwhile = None

    def _beside(self, adapter: Destination, busy: Collection[int]) -> Callable[[], None]:
        """What is done while the vendor works on many: the own news of people who are not among them is told."""

        def tell() -> None:
            if self.clock is None or self._room is not None:
                return
            now = self.clock()
            with self.database.read() as connection:
                due = store.pending(connection, self.name, now, 2 * adapter.limits.singly, bulk=False)
            others = [pending for pending in due if pending.profile_id not in busy][: adapter.limits.singly]
            try:
                if others:
                    self._tell(adapter, others, now)
                    self._push_cues(adapter, now, adapter.limits.singly)
            except DeliveryError as error:  # whoever waits for the vendor meets it as well
                log.info("push.beside_failed", destination=self.name, reason=error.reason)

        return tell

    def _tell(self, adapter: Destination, due: Sequence[Pending], now: Millis) -> int:
        planned = {str(pending.profile_id): (pending, change(pending)) for pending in due}
        real = [planned_change for pending, planned_change in planned.values() if not is_noop(planned_change, pending)]
        outcomes, failure = _tried(adapter.apply, real)
        if failure is None and self.config.lists:
            outcomes = self._update_lists(adapter, real, outcomes, now)
        self._record_contacts(planned, outcomes, failure, now)
        if failure is not None:
            raise failure
        return len(due)

    def _record_contacts(
        self,
        planned: Mapping[str, tuple[Pending, Change]],
        outcomes: Mapping[str, Outcome],
        failure: Transient | None,
        now: Millis,
    ) -> None:
        pushed, retries, given_up, gone, pushes, letters = [], [], [], [], [], []
        broken, again_at = _is_broken_off(outcomes.values()), now + pace.interval(self.config)
        for key, (pending, planned_change) in planned.items():
            outcome = outcomes.get(key) or _unsaid(key, is_noop(planned_change, pending))
            person = pending.profile_id
            counts = _counts(outcome, broken, failure)
            if failure is not None and len(planned) == 1:
                counts = self._is_stumbled_over(person)
            if counts and pending.attempts + 1 >= _ATTEMPTS:
                outcome = Outcome(key, "rejected", reason="too_many_tries", message=outcome.message)
            if outcome.status == "applied":
                at = 0 if outcome.reason == "nothing_to_send" else now
                told = {"person": person, "sent": pending.desired, "remote": outcome.remote_id}
                pushed.append({**told, "at": at, "again_at": again_at})
            elif outcome.status == "retry":
                due = self._due(pending.attempts, outcome, failure, now)
                retries.append({"person": person, "due": due, "charged": int(counts), "unsure": unsure(pending)})
            else:
                given_up.append({"person": person, "sent": pending.desired})
                if outcome.reason == "not_on_list":
                    gone.append(person)
            if outcome.reason == "nothing_to_send":
                continue
            data = _describe(planned_change)
            pushes.append(self._push_row("change", person, outcome, data, now))
            if outcome.status == "rejected":
                letters.append(self._letter("push", person, outcome, pending.desired.encode(), now))

        def write(tx: Connection) -> None:
            holds.contacts(tx, (pending.profile_id for pending, _ in planned.values()))
            store.record_pushed(tx, self.name, pushed)
            store.record_retry(tx, self.name, retries)
            store.give_up(tx, self.name, given_up)
            store.forget_pushed(tx, self.name, gone)
            store.log_pushes(tx, pushes)
            counters.add(tx, counters.tally("pushes", (f"{self.name}/{row['status']}" for row in pushes)), now)
            store.add_dead_letters(tx, letters)

        self._settle(write)

    def _update_lists(
        self, adapter: Destination, changes: Sequence[Change], outcomes: Mapping[str, Outcome], now: Millis
    ) -> dict[str, Outcome]:
        """The outcomes once the vendor's lists follow the tags: a contact is done when both are."""
        by_segment: dict[str, list[Membership]] = defaultdict(list)
        for one in changes:
            outcome = outcomes.get(one.key)
            if outcome is None or outcome.status != "applied":
                continue
            remote_id = outcome.remote_id or one.remote_id
            for added, segments in ((True, one.tags_added), (False, one.tags_removed)):
                for segment in segments:
                    by_segment[segment].append(Membership(one.key, one.email, remote_id, added))
        after = dict(outcomes)
        with self.database.read() as connection:
            known = store.list_ids(connection, self.name)
        for segment, memberships in by_segment.items():
            configured = self._configuration.segments.get(segment)
            try:
                list_id = adapter.ensure_list(configured.name if configured else segment, known.get(segment))
                if known.get(segment) != list_id:
                    with self.database.tx(beside=True) as tx:
                        store.keep_list_id(tx, self.name, segment, list_id)
                listed = adapter.update_list(list_id, memberships)
            except Transient as error:  # the contacts themselves are done, and those of no list keep that
                listed = [outcome_of(membership.key, error) for membership in memberships]
            after |= {outcome.key: outcome for outcome in listed if outcome.status != "applied"}
        return after

    def _is_stumbled_over(self, person: int) -> bool:
        """True when others were answered since this contact, alone, was not: then the fault is not the account's."""
        before = self._alone.get(person, self._served)
        self._alone[person] = self._served
        return before < self._served

    def _due(self, attempts: int, outcome: Outcome, failure: Transient | None, now: Millis) -> Millis:
        if outcome.reason == "job_pending":  # asked for together, they take their outcomes from the job together
            return now + int(outcome.retry_after * SECOND)
        if failure is None:
            return now + backoff(attempts, outcome.retry_after, self._chance)
        # The account rests. Whoever was tried goes to the back of the queue, in no order: if it was one of them over
        # which the vendor stumbles, the others get past it.
        return now + int(self._chance.random() * rest(self._postponed, failure, self._chance))

    # --- cues --------------------------------------------------------------------------------------------------------

    def _push_cues(self, adapter: Destination, now: Millis, most: int | None = None) -> int:
        with self.database.read() as connection:
            rows = store.pending_cues(connection, self.name, now, most or self._room or adapter.limits.batch)
        if not rows:
            return 0
        cues, orphans = {}, []
        for row in rows:
            if row["pushed"] is None:  # the contact may not be created there, so nothing can be said to it
                orphans.append(row)
                continue
            cues[row["key"]] = Cue(
                key=row["key"],
                email=orjson.loads(row["pushed"])["email"],
                external_id=external_id(row["profile_id"]),
                name=row["name"],
                at=row["at"],
                properties=orjson.loads(row["properties"]),
                remote_id=row["remote_id"],
                backfill=bool(row["backfill"]),
            )
        outcomes, failure = _tried(adapter.send, list(cues.values()))
        broken = _is_broken_off(outcomes.values())
        settled, retries, pushes, letters = [], [], [], []
        for row in rows:
            outcome = outcomes.get(row["key"]) or Outcome(row["key"], "skipped", reason="no_contact")
            if _counts(outcome, broken, failure) and row["attempts"] + 1 >= _ATTEMPTS:
                outcome = Outcome(row["key"], "rejected", reason="too_many_tries", message=outcome.message)
            if outcome.status == "retry":
                due = self._due(row["attempts"], outcome, failure, now)
                charged = int(_counts(outcome, broken, failure))
                retries.append({"id_": row["id"], "due": due, "charged": charged})
            else:
                settled.append({"id_": row["id"], "state_": _CUE_STATES[outcome.status]})
            data = _cue_data(row)
            pushes.append(self._push_row("cue", row["profile_id"], outcome, data, now))
            if outcome.status == "rejected":
                letters.append(self._letter("cue", row["profile_id"], outcome, data.encode(), now, row["name"]))

        def write(tx: Connection) -> None:
            store.settle_cues(tx, settled)
            store.retry_cues(tx, retries)
            store.log_pushes(tx, pushes)
            counters.add(tx, counters.tally("pushes", (f"{self.name}/{row['status']}" for row in pushes)), now)
            store.add_dead_letters(tx, letters)

        self._settle(write)
        if failure is not None:
            raise failure
        return len(rows)

    def _push_row(self, kind: str, person: int, outcome: Outcome, data: str, now: Millis) -> dict[str, Any]:
        if outcome.status == "rejected":
            # The vendor's own words may quote an address: they are kept in the database, not in the log.
            log.warning("push.rejected", destination=self.name, profile=person, reason=outcome.reason)
        return {
            "destination": self.name,
            "profile_id": person,
            "kind": kind,
            "at": now,
            "status": outcome.status,
            "reason": outcome.reason,
            "message": outcome.message,
            "data": data,
        }

    def _letter(
        self, kind: str, person: int, outcome: Outcome, body: bytes, now: Millis, topic: str = ""
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "origin": self.name,
            "reference": str(person),
            "topic": topic,
            "reason": outcome.reason,
            "message": outcome.message if outcome.field is None else f"{outcome.field}: {outcome.message}",
            "at": now,
            "body": body,
        }


K = TypeVar("K", bound=Keyed)


def _tried(
    send: Callable[[Sequence[K]], list[Outcome]], items: Sequence[K]
) -> tuple[dict[str, Outcome], Transient | None]:
    """The outcomes by key, and the failure when the account answered nobody. Raises what the vendor did not even look
    at: nothing of that needs to be written down."""
    if not items:
        return {}, None
    try:
        outcomes = send(items)
    except Transient as error:
        if is_halt(error.reason):
            raise
        return {item.key: outcome_of(item.key, error) for item in items}, error
    failed = [o for o in outcomes if o.status == "retry" and (is_halt(o.reason) or is_silence(o.reason))]
    failure = None
    if failed and len(failed) == len(outcomes):
        longest = max(failed, key=lambda outcome: outcome.retry_after)
        failure = Transient(longest.message, retry_after=longest.retry_after, reason=longest.reason)
    return {outcome.key: outcome for outcome in outcomes}, failure


def _is_broken_off(outcomes: Iterable[Outcome]) -> bool:
    """True when the account refused to go on half way."""
    return any(outcome.status == "retry" and is_halt(outcome.reason) for outcome in outcomes)


def _counts(outcome: Outcome, broken: bool, failure: Transient | None) -> bool:
    """True when a failed try counts against the item. No outage, however long, drives an item to dead letters."""
    if outcome.status != "retry" or failure is not None or is_halt(outcome.reason):
        return False
    return not (broken and is_silence(outcome.reason))


_CUE_STATES = {"applied": "sent", "skipped": "skipped", "rejected": "dead"}


def _unsaid(key: str, noop: bool) -> Outcome:
    """The outcome of a contact of which the adapter said nothing, as it should when there was nothing to send."""
    if noop:
        return Outcome(key, "applied", reason="nothing_to_send")
    return Outcome(key, "retry", reason="no_outcome", message="the vendor's answer did not mention it")


def _describe(change: Change) -> str:
    """What a push changed, as JSON for the timeline."""
    return orjson.dumps(
        {
            "tags_added": change.tags_added,
            "tags_removed": change.tags_removed,
            "fields": dict(change.fields),
            **({"moved_from": change.previous_email} if change.previous_email else {}),
        }
    ).decode()


def _cue_data(row: Mapping[Any, Any]) -> str:
    """What a cue said, as JSON for the timeline."""
    return orjson.dumps({"name": row["name"], "properties": orjson.loads(row["properties"])}).decode()
