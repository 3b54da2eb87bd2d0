"""One process at a time for each piece of work: a lock on a file on SQLite, a lease on PostgreSQL."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import delete, select, text, update

from connector.errors import Fenced
from connector.storage.database import Database, sqlite_url
from connector.storage.leases import Lease, Leases
from connector.storage.migrations import migrate
from connector.storage.tables import lease, meta, process
from connector.storage.turns import FileTurn, FileTurns, Turn, turns_of
from tests.postgres import create_database, server

ROOT = Path(__file__).parents[3]
TTL = 1.5
"""Seconds; what is waited for is waited for by a bound, so that a slow machine only waits longer."""


@pytest.fixture(scope="module")
def url() -> str:
    url = create_database(server())
    database = Database(url)
    migrate(database)
    database.close()
    return url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    with database.tx() as tx:
        for table in (lease, process, meta):
            tx.execute(delete(table))
    yield database
    database.close()


@pytest.fixture
def processes(database: Database) -> Iterator[Callable[..., Leases]]:
    """As many as wanted; each is a process of its own as far as leases know."""
    made: list[Leases] = []

    def make(ttl: float = TTL) -> Leases:
        made.append(Leases(database, ttl))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(true: Callable[[], Any], what: str, seconds: float = 20.0) -> float:
    """How many seconds it took to come true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + seconds, what
        time.sleep(0.01)
    return time.monotonic() - began


def freeze(leases: Leases) -> None:
    """As SIGSTOP does to a process: it says nothing more, and its threads know nothing of it."""
    leases._stopping.set()
    assert leases._thread is not None
    leases._thread.join()


def thaw(leases: Leases) -> None:
    leases._stopping.clear()
    leases.renew()


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_dialect_chooses(tmp_path: Path, database: Database) -> None:
    local = Database(sqlite_url(tmp_path / "state.db"))
    found = [turns_of(local, tmp_path), turns_of(database, tmp_path)]
    assert [type(one) for one in found] == [FileTurns, Leases]
    for one in found:
        one.close()
    local.close()


def test_a_holder_that_is_killed_holds_its_file_no_longer(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "state.db"))
    code = f"""
from pathlib import Path
from connector.storage.database import Database
from connector.storage.turns import FileTurn
turn = FileTurn(Database("sqlite://"), Path({str(tmp_path)!r}), "push", "klaviyo")
print(turn.take(), flush=True)
input()
"""
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    ours = FileTurn(database, tmp_path, "push", "klaviyo")
    assert not ours.take()
    process.kill()
    process.wait()
    assert ours.take()
    ours.give_back()
    database.close()


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["files", "leases"])
def two(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> Iterator[list[Any]]:
    """The turns of two processes."""
    made = [FileTurns(database, tmp_path) if request.param == "files" else Leases(database, TTL) for _ in range(2)]
    yield made
    for one in made:
        one.close()


def test_the_second_waits_until_the_first_gives_it_back(two: list[Any]) -> None:
    first, second = (one.of("push", "klaviyo") for one in two)
    assert (first.left(), second.take()) == (float("-inf"), True)
    assert second.take(), "it stays ours"
    assert second.left() > 0
    assert not first.take()
    other: Turn = two[0].of("push", "hubspot")
    assert other.take(), "another destination is another turn"
    assert not two[1].of("push", "klaviyo").take(), "nor is it anybody else's in the same process"
    second.give_back()
    until(first.take, "it was given back")
    assert not second.take()
    first.give_back()
    first.give_back()


def test_who_lives_and_who_has_what_is_shown(two: list[Any]) -> None:
    mine, other = two
    turn = mine.of("push", "klaviyo")
    assert turn.take()
    kept = other.of("stream", "clicks")
    assert kept.take()
    turn.give_back()
    mine.announce("worker")
    [held] = other.held()
    assert (held.work, held.name) == ("stream", "clicks")
    assert abs(held.since - time.time() * 1000) < 60_000
    workers = [one for one in other.processes() if one.kind == "worker"]
    assert len(workers) == 1
    mine.close()
    assert [one.kind for one in other.processes() if one.kind == "worker"] == []


# --- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_its_holder_does_something_else(processes: Callable[..., Leases]) -> None:
    """A call to a vendor may hang for longer than a lease lasts."""
    mine, theirs = (processes(0.6).of("push", "klaviyo") for _ in range(2))
    assert mine.take()
    ends = time.monotonic() + 3 * 0.6
    while time.monotonic() < ends:
        assert not theirs.take()
        time.sleep(0.05)
    assert mine.take() and mine.left() > 0


def test_who_is_silent_loses_it_after_its_time_and_not_before(processes: Callable[..., Leases]) -> None:
    zombie, successor = processes(), processes()
    mine, theirs = zombie.of("push", "klaviyo"), successor.of("push", "klaviyo")
    assert mine.take() and not theirs.take()
    zombie.renew()
    freeze(zombie)
    waited = until(theirs.take, "a silent holder loses it")
    assert TTL * 0.9 <= waited <= TTL + 3
    assert mine.left() <= 0, "by its own watch it was over before"
    assert not mine.take()


def test_a_zombie_writes_nothing(processes: Callable[..., Leases], database: Database) -> None:
    zombie, successor = processes(), processes()
    mine, theirs = zombie.of("push", "klaviyo"), successor.of("push", "klaviyo")
    assert mine.take()
    with mine.database.tx() as tx:
        tx.execute(meta.insert().values(name="outcome", value="mine"))
    freeze(zombie)
    until(theirs.take, "taken over")
    with theirs.database.tx() as tx:
        tx.execute(update(meta).values(value="theirs"))
    with pytest.raises(Fenced), mine.database.tx() as tx:
        tx.execute(update(meta).values(value="mine again"))
    thaw(zombie)  # it says that it lives, and the token is still another's
    with pytest.raises(Fenced), mine.database.tx(beside=True) as tx:
        tx.execute(update(meta).values(value="mine again"))
    with database.read() as connection:
        assert connection.execute(select(meta.c.value)).scalars().all() == ["theirs"]
        assert connection.execute(select(lease.c.token)).scalars().all() == [2]
    assert theirs.take() and not mine.take(), "it hears of it, and forgets"


def test_who_wakes_before_anybody_took_it_goes_on(processes: Callable[..., Leases]) -> None:
    sleeper, other = processes(0.5), processes(0.5)
    mine = sleeper.of("push", "klaviyo")
    assert mine.take()
    freeze(sleeper)
    until(lambda: mine.left() <= 0, "its time is over")
    assert not mine.take(), "it calls nobody while it does not know"
    thaw(sleeper)
    assert mine.take()
    with mine.database.tx():
        pass
    assert not other.of("push", "klaviyo").take()


def test_a_transaction_under_way_is_waited_for(processes: Callable[..., Leases], database: Database) -> None:
    """What was begun in time is written before anybody else begins; nobody writes after that."""
    zombie, successor = processes(0.5), processes(0.5)
    mine, theirs = zombie.of("push", "klaviyo"), successor.of("push", "klaviyo")
    assert mine.take()
    with mine.database.tx() as tx:
        tx.execute(meta.insert().values(name="outcome", value="mine"))
        freeze(zombie)
        until(lambda: mine.left() < -0.3, "its time is over")
        assert not theirs.take()
    until(theirs.take, "the transaction has ended")


def test_a_long_transaction_holds_up_no_renewal(processes: Callable[..., Leases], database: Database) -> None:
    """Neither its own, which holds on to the lease's row, nor that of a writer who is alone."""
    mine, theirs = (processes(0.6).of("push", "klaviyo") for _ in range(2))
    assert mine.take()
    with mine.database.tx():
        ends = time.monotonic() + 3 * 0.6
        while time.monotonic() < ends:
            assert mine.left() > 0 and not theirs.take()
            time.sleep(0.05)


def test_many_at_once_and_one_gets_it(processes: Callable[..., Leases]) -> None:
    wanted = [processes().of("push", "klaviyo") for _ in range(6)]
    won: list[Lease] = []
    barrier = threading.Barrier(len(wanted))

    def reach(one: Lease) -> None:
        barrier.wait()
        if one.take():
            won.append(one)

    threads = [threading.Thread(target=reach, args=(one,)) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_giving_back_that_was_never_answered_leaves_nobody_out(
    processes: Callable[..., Leases], database: Database
) -> None:
    leases = processes()
    mine = leases.of("push", "klaviyo")
    assert mine.take()
    mine._token = None  # the server did it not, or did it and did not say so
    leases.forget(mine)
    again = leases.of("push", "klaviyo")
    assert again.take()
    assert again.spent_until is None, "nobody else has had it"


def test_how_long_ago_another_had_it(processes: Callable[..., Leases], database: Database) -> None:
    first, second = processes(), processes()
    mine, theirs = first.of("push", "klaviyo"), second.of("push", "klaviyo")
    assert mine.take() and mine.spent_until is None, "nobody had it before"
    mine.give_back()
    assert mine.take() and mine.spent_until is None, "it was ours"
    mine.give_back()
    with database.tx() as tx:
        tx.execute(update(lease).values(given_back_at=lease.c.given_back_at - 50_000))
    assert theirs.take() and theirs.spent_until is not None
    assert 45 < time.monotonic() - theirs.spent_until < 60
    freeze(second)
    until(mine.take, "taken over")
    assert mine.spent_until is not None
    assert time.monotonic() - mine.spent_until < 3, "a process that was killed has spent until then"


def test_the_machine_s_clock_counts_for_nothing(
    processes: Callable[..., Leases], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = (processes().of("push", "klaviyo") for _ in range(2))
    assert mine.take()
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    assert not theirs.take() and mine.take()


class Laws(RuleBasedStateMachine):
    """Three processes that take, give back, fall silent and wake; time passes when the test says so."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.database = Database(self.url)
        with self.database.tx() as tx:
            for table in (lease, process):
                tx.execute(delete(table))
        self.leases = [Leases(self.database, 3600) for _ in range(3)]
        self.held = [one.of("push", "klaviyo") for one in self.leases]
        self.silent: set[int] = set()
        self.token = 0

    @rule(who=st.integers(0, 2))
    def take(self, who: int) -> None:
        one = self.held[who]
        one._look_at = float("-inf")
        if who not in self.silent or one._token is not None:
            one.take()

    @rule(who=st.integers(0, 2))
    def give_back(self, who: int) -> None:
        self.held[who].give_back()

    @rule(who=st.integers(0, 2))
    def write(self, who: int) -> None:
        """Whoever may write is the only one who may, and holds the newest token."""
        try:
            with self.held[who].database.tx() as tx:
                assert tx.execute(select(lease.c.owner, lease.c.token)).one() == (
                    self.leases[who].owner,
                    self.held[who]._token,
                )
        except Fenced:
            return

    @rule(who=st.integers(0, 2))
    def expire(self, who: int) -> None:
        """Its time passes without a word from it."""
        self.silent.add(who)
        self.leases[who]._until = float("-inf")
        self.held[who]._until = float("-inf")
        with self.database.tx() as tx:
            tx.execute(text("UPDATE process SET expires_at = 0 WHERE id = :id"), {"id": self.leases[who].owner})

    @precondition(lambda self: self.silent)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.silent)))
        self.silent.discard(who)
        self.leases[who].renew()

    @invariant()
    def one_at_a_time(self) -> None:
        """At most one believes that it may call; the token never shrinks."""
        assert sum(one.left() > 0 for one in self.held) <= 1
        with self.database.read() as connection:
            token = connection.execute(select(lease.c.token)).scalar() or 0
        assert token >= self.token
        self.token = token

    def teardown(self) -> None:
        for one in self.leases:
            one.close()
        self.database.close()


def test_the_laws_of_a_lease(url: str) -> None:
    Laws.url = url
    machine = Laws.TestCase
    machine.settings = settings(
        max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine().runTest()
