"""kill -9 and SIGTERM under load: nothing that was promised is lost, nothing has its effect twice or out of order."""

import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from connector.inbox.notes import Note
from tests.chaos.esp import Esp
from tests.chaos.figures import Figure, profile
from tests.chaos.judge import judged, settle
from tests.chaos.places import LOGS, Place
from tests.e2e.running import Running, Shop, alive, kill, until

KILLS = profile({"sqlite": 7, "postgres": 5, "kafka": 3}, dict.fromkeys(LOGS, 200))
VICTIMS = ("worker", "push before", "web", "worker", "push after", "server", "all")


class Supervisor:
    """A web process and two workers, started anew when they are dead, and killed."""

    def __init__(self, running: Running, esp: Esp, chance: random.Random) -> None:
        self._running, self._esp, self._chance = running, esp, chance
        self.web = running.start("web")
        self.workers = [running.start("worker") for _ in range(2)]
        self.killed = 0

    def strike(self, victim: str) -> None:
        if victim.startswith("push"):
            self._kill_in_the_middle_of_a_write(after=victim.endswith("after"))
        elif victim == "worker":
            self._kill([self._chance.choice(self.workers)])
        elif victim == "server":
            self._kill([found] if (found := self._running.server_of(self.web)) else [])
        else:
            self._kill([*(self.workers if victim == "all" else []), *self.web.children(recursive=True), self.web])

    def _kill_in_the_middle_of_a_write(self, *, after: bool) -> None:
        with self._esp.at_next_write(lambda: self._kill(self.workers), after=after) as struck:
            if not struck.wait(3):
                self._kill(self.workers)

    def _kill(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            kill(process)
        psutil.wait_procs(processes, timeout=5)  # to be killed takes a moment, in which it would still look alive
        self.killed += 1

    def revive(self) -> None:
        self.workers = [one if one.poll() is None else self._running.start("worker") for one in self.workers]
        if self.web.poll() is not None:
            self._running.kill_all(self.web)
            self.web = self._running.start("web")


@pytest.fixture
def esp() -> Iterator[Esp]:
    esp = Esp()
    yield esp
    esp.close()


@pytest.fixture(params=LOGS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = LOGS[request.param]()
    yield place
    place.close()


Run = Callable[[dict[str, str]], Running]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, esp: Esp) -> Iterator[Run]:
    """Makes a StoreCue, told what the environment says, and ends it."""
    made: list[Running] = []

    def run(environ: dict[str, str]) -> Running:
        made.append(Running(tmp_path_factory.mktemp("running"), esp.config, environ))
        return made[-1]

    yield run
    for one in made:
        one.close()


def moved(running: Running) -> int:
    return sum(pos for (pos,) in running.rows("SELECT pos FROM log_position"))


def test_r2_kill_9_at_any_point_of_ingest_worker_and_push(run: Run, place: Place, esp: Esp, figure: Figure) -> None:
    chance = random.Random(11)
    running = run(place.environ | {"STORECUE_LEASE_SECONDS": "3"})  # who was killed holds nothing up for longer
    running.apply()
    supervisor = Supervisor(running, esp, chance)
    until(running.answers, 30, "storecue web answers")
    shop = Shop(running, pause=profile(0.004, 0.05))
    until(lambda: any(esp.states), 60, "contacts are pushed")
    for number in range(KILLS[place.name]):
        time.sleep(chance.uniform(0.0, 0.5))  # any point of the work
        accepted, position = shop.accepted, moved(running)
        supervisor.strike(VICTIMS[number % len(VICTIMS)])
        supervisor.revive()
        if chance.random() < 0.6:  # or the next one meets them as they start
            until(lambda accepted=accepted: shop.accepted > accepted, 60, "deliveries are accepted")
            until(lambda position=position: moved(running) > position, place.takeover, "they are worked off")
    shop.close()
    supervisor.revive()
    settle(running, profile(90, 600))
    verdict = judged(running, shop.book, esp)
    figure("R2", f"{place.name}: {supervisor.killed} kills, {verdict}")
    assert (verdict.lost, verdict.doubled, verdict.disordered) == (0, 0, 0)


TAKEOVERS = profile({"sqlite": 3, "postgres": 3, "kafka": 1}, {"sqlite": 100, "postgres": 100, "kafka": 20})


def test_r2_another_worker_takes_over_from_one_that_was_killed(
    run: Run, place: Place, esp: Esp, figure: Figure
) -> None:
    """From kill -9 of a worker in the middle of a batch to the next commit in the partition of that batch."""
    running = run(place.environ | {"STORECUE_LEASE_SECONDS": "3"})
    running.apply()
    running.start("web")
    workers = [running.start("worker") for _ in range(2)]
    until(running.answers, 30, "storecue web answers")
    shop = Shop(running, threads=1, pause=0.04)  # less than one worker can do
    took: list[float] = []
    while len(took) < TAKEOVERS[place.name]:
        victim = workers[len(took) % 2]
        for worker in workers:
            until(lambda worker=worker: any(notes_of(running, worker)), 60, "both have been at work")
        part, first = caught(running, victim)
        kill(victim)
        began = time.monotonic()
        if position(running, part) == first:  # else it had committed, and had nothing any more
            until(lambda part=part, first=first: position(running, part) > first, place.takeover, "another goes on")
            took.append(time.monotonic() - began)
        victim.wait(5)
        workers[workers.index(victim)] = running.start("worker")
    shop.close()
    seen = "SELECT delivery_id FROM seen"  # a worker that is killed over a single one has it put off for a while
    until(lambda: shop.book.kept.keys() <= {id_ for (id_,) in running.rows(seen)}, 90, "all that was kept is done")
    figure(
        "R2",
        f"{place.name}: {len(took)} workers killed in a batch, another one took over within "
        f"{statistics.median(took):.2f} s (median) and {max(took):.2f} s (longest), 0 of {len(shop.book.kept):,} lost",
    )


def notes_of(running: Running, worker: psutil.Popen) -> list[Path]:
    return list(running.data.glob(f"worker-{worker.pid}-*.note"))


def at_work(running: Running, worker: psutil.Popen) -> tuple[int, int] | None:
    """The partition and the first position of the batch that a worker is at, by its own note (see inbox.notes)."""
    for path in notes_of(running, worker):
        if text := path.read_bytes():
            note = Note(*orjson.loads(text))
            return None if note.parked else (note.part, note.first)
    return None


def caught(running: Running, worker: psutil.Popen) -> tuple[int, int]:
    """The same, the moment it has begun one."""
    over = time.monotonic() + 60
    while time.monotonic() < over:
        if found := at_work(running, worker):
            return found
    raise AssertionError("it had nothing to do")


def position(running: Running, part: int) -> int:
    found = running.rows(f"SELECT pos FROM log_position WHERE part = {part}")
    return int(found[0][0]) if found else 0


def test_r21_up_minds_its_processes_and_stops_in_order_under_load(run: Run, esp: Esp, figure: Figure) -> None:
    running = run({})
    up = running.start("up")
    until(running.answers, 30, "storecue up answers")
    shop = Shop(running)
    for find in (running.worker_of, running.server_of):
        until(lambda find=find: find(up), 30, "it has started both")
        first = find(up)
        kill(first)
        until(lambda find=find, first=first: find(up) not in (None, first), 30, "it has started another one")
    until(lambda count=shop.accepted: shop.accepted > count + 100, 30, "deliveries are accepted")
    took = [_stopped(up)]
    assert not running.answers()
    up = running.start("up")
    until(running.answers, 30, "another one answers on the same port")
    family = [process for find in (running.worker_of, running.server_of) if (process := find(up))]
    kill(up)
    up.wait(5)
    until(lambda: not any(alive(process) for process in family), 5, "nobody is left behind when it is killed")
    up = running.start("up")
    until(lambda count=shop.accepted: shop.accepted > count + 100, 30, "deliveries are accepted")
    shop.close()
    settle(running)
    verdict = judged(running, shop.book, esp)
    took.append(_stopped(up))
    figure("R21", f"up: SIGTERM under load and idle: ended in {took[0]:.1f} s and {took[1]:.1f} s, {verdict}")
    assert (verdict.lost, verdict.doubled, verdict.disordered) == (0, 0, 0)
    assert "Traceback" not in running.log


def test_r21_vendors_that_do_not_answer_and_senders_that_are_slow_hold_up_no_stop(
    run: Run, esp: Esp, figure: Figure
) -> None:
    running = run({})
    up = running.start("up")
    until(running.answers, 30, "storecue up answers")
    shop = Shop(running)
    until(lambda: all(vendor.contacts() for vendor in esp.vendors.values()), 30, "contacts are pushed")
    for vendor in esp.vendors.values():
        vendor.faults.latency = 20.0
    until(lambda count=shop.accepted: shop.accepted > count + 50, 30, "further deliveries are accepted")
    slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
    for half in slow:
        half.sendall(b"POST /webhooks/shopify/shop HTTP/1.1\r\nHost: storecue.test\r\nContent-Length: 900\r\n\r\n{")
    took = _stopped(up)
    shop.close()
    for half in slow:
        half.close()
    for vendor in esp.vendors.values():
        vendor.faults.latency = 0.0
    running.start("worker")  # alone: what was accepted has its effect with nobody listening
    settle(running)
    verdict = judged(running, shop.book, esp)
    figure("R21", f"20 half requests and three vendors that hang: ended in {took:.1f} s, {verdict}")
    assert (verdict.lost, verdict.doubled, verdict.disordered) == (0, 0, 0)


def _stopped(process: psutil.Popen) -> float:
    began = time.monotonic()
    process.terminate()
    assert process.wait(15) == 0
    took = time.monotonic() - began
    assert took < 10
    return took
