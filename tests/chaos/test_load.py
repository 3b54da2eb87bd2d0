"""Under load for a while: a database that crashes, a worker that was frozen, far too much, and nothing special."""

import multiprocessing
import os
import random
import re
import selectors
import shutil
import signal
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.arrivals import Arrivals, Phase
from tests.chaos.esp import Esp
from tests.chaos.figures import Figure, profile
from tests.chaos.judge import judged, settle
from tests.chaos.test_abuse import CONFIG, head, order
from tests.chaos.test_kill import moved
from tests.e2e.running import Running, Shop, until
from tests.postgres import Server


@pytest.fixture
def esp() -> Iterator[Esp]:
    esp = Esp()
    yield esp
    esp.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A PostgreSQL of this test alone, which keeps what it was told to keep."""
    folder = Path(tempfile.mkdtemp(prefix="storecue-pg"))
    server = Server(folder, durable=True)
    server.start()
    yield server
    server.stop(signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


def test_r6_r8_postgresql_crashes_and_a_worker_is_frozen(
    tmp_path: Path, esp: Esp, server: Server, figure: Figure
) -> None:
    """The frozen one wakes up after its turn was given to another; whatever it was about to write is refused."""
    chance, crashes, freezes = random.Random(6), profile(2, 25), profile(1, 20)
    running = Running(tmp_path, esp.config, {"DATABASE_URL": server.dsn})
    try:
        running.apply()
        running.start("web")
        workers = [running.start("worker") for _ in range(2)]
        until(running.answers, 60, "storecue web answers")
        shop = Shop(running)
        until(lambda: any(esp.states), 60, "contacts are pushed")
        for _ in range(crashes):
            time.sleep(profile(chance.uniform(0.5, 1.5), chance.uniform(5, 40)))
            server.stop(signal.SIGQUIT)
            time.sleep(chance.uniform(0.0, 1.0))
            server.start()
            until(lambda count=shop.accepted: shop.accepted > count, 60, "deliveries are accepted again")
            before = moved(running)
            until(lambda before=before: moved(running) > before, 60, "they are worked off")
        crashed = shop.accepted
        for turn in range(freezes):
            frozen = workers[turn % 2]
            frozen.send_signal(signal.SIGSTOP)
            began, before = time.monotonic(), moved(running)
            until(lambda before=before: moved(running) > before, 30, "the other one goes on")
            until(lambda began=began: time.monotonic() - began > 12, 20, "its turn is over")
            frozen.send_signal(signal.SIGCONT)
            before = moved(running)
            until(lambda before=before: moved(running) > before, 60, "both go on")
        shop.close()
        settle(running)
        verdict = judged(running, shop.book, esp)
        assert all(worker.is_running() for worker in workers)
    finally:
        running.close()
    figure("R6", f"PostgreSQL crashed {crashes} times, {crashed:,} accepted meanwhile; in the end {verdict}")
    figure("R8", f"postgres: {freezes} workers frozen for 12 s each; {verdict}")
    assert (verdict.lost, verdict.doubled, verdict.disordered) == (0, 0, 0)


# --- R20 --------------------------------------------------------------------------------------------------------------


class Flood:
    """Sends signed deliveries over many connections at once, each the next one as soon as it has its answer."""

    def __init__(self, port: int, connections: int, first: int) -> None:
        self.statuses = Counter[int]()
        self.kept: set[str] = set()
        self._port, self._number = port, first
        self._asked: dict[socket.socket, str] = {}
        self._selector = selectors.DefaultSelector()
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        self._selector.register(connection, selectors.EVENT_READ)
        self._ask(connection)

    def _ask(self, connection: socket.socket) -> None:
        self._number += 1
        body = order(self._number)
        self._asked[connection] = f"flood {self._number}"
        connection.sendall(head(self._asked[connection], body) + body)

    def run(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            for key, _ in self._selector.select(0.1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                status = _status(connection)
                self.statuses[status] += 1
                if status == 200:
                    self.kept.add(self._asked[connection])
                if status:
                    self._ask(connection)
                else:
                    self._selector.unregister(connection)
                    connection.close()
                    self._connect()

    def close(self) -> None:
        for connection in self._asked:
            connection.close()


def _status(connection: socket.socket) -> int:
    try:
        found = re.match(rb"HTTP/1\.1 (\d{3})", connection.recv(4_096))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _serving(running: Running) -> psutil.Process:
    """The process that answers requests by now."""
    running.apply()
    running.start("web")
    until(running.answers, 60, "storecue web answers")
    server = running.server_of(running.processes[-1])
    assert server is not None
    return server


def test_r20_far_too_much_is_refused_or_kept_and_is_over_soon(tmp_path: Path, figure: Figure) -> None:
    """The server is stopped for most of the time, so that what it kept up with before is many times too much."""
    seconds, running = profile(6.0, 60.0), Running(tmp_path, CONFIG)
    try:
        server = _serving(running)
        calm = Flood(running.port, 16, 1_000_000)
        calm.run(2.0)
        rate = calm.statuses[200] / 2.0
        calm.close()
        before, over = server.memory_info().rss, threading.Event()
        throttle = threading.Thread(target=_slowed, args=(server, over))
        throttle.start()
        senders = profile(300, 900)
        flood = Flood(running.port, senders, 2_000_000)
        try:
            flood.run(seconds)
        finally:
            over.set()
            throttle.join()
        most = max(before, server.memory_info().rss)
        flood.close()
        began = time.monotonic()
        again = Flood(running.port, 16, 3_000_000)
        while time.monotonic() - began < 10:
            count = again.statuses[200]
            again.run(0.5)
            if again.statuses[200] - count > rate / 4:
                break
        recovered = time.monotonic() - began
        again.close()
        kept = {id_ for (id_,) in running.rows("SELECT delivery_id FROM delivery", "inbox")}
    finally:
        running.close()
    slowed = flood.statuses[200] / seconds
    lost = (calm.kept | flood.kept | again.kept) - kept
    grown = (most - before) / 1024 / 1024
    figure(
        "R20",
        f"a server that kept {rate:,.0f}/s, slowed to {slowed:,.0f}/s for {seconds:.0f} s, {senders} senders without "
        f"a pause: {flood.statuses[200]:,} kept, {flood.statuses[503]:,} refused, {len(lost)} acknowledged lost, "
        f"{grown:.0f} MB more memory, normal again after {recovered:.1f} s",
    )
    assert slowed * 3 < rate, "it was far too much"
    assert not lost and set(flood.statuses) <= {200, 503}
    assert grown < 200 and recovered < 10


def _slowed(process: psutil.Process, over: threading.Event) -> None:
    try:
        while not over.is_set():
            process.send_signal(signal.SIGSTOP)
            over.wait(0.4)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.008)
    finally:
        process.send_signal(signal.SIGCONT)


def test_r20_ten_times_too_much_that_does_not_wait_for_answers(tmp_path: Path, figure: Figure) -> None:
    """The server has a small part of a core, before, meanwhile and after: nobody could send ten times what it keeps up
    with on all of one, and a slow disk does not make it keep less, because more go into one commit."""
    seconds, running = profile(5.0, 60.0), Running(tmp_path, CONFIG)
    throttle: multiprocessing.Process | None = None
    try:
        server = _serving(running)
        calm = Flood(running.port, 200, 1_000_000)  # fewer wait for each other's answers more than for the server
        calm.run(1.0)
        throttle = multiprocessing.get_context("fork").Process(target=_part_of_a_core, args=(server.pid,), daemon=True)
        throttle.start()
        calm.run(1.0)
        warm = calm.statuses[200]
        calm.run(3.0)
        sustained = (calm.statuses[200] - warm) / 3.0
        calm.close()
        rss = [server.memory_info().rss]

        def lasts(seconds: float) -> Callable[[Phase], bool]:
            def over(phase: Phase) -> bool:
                rss.append(server.memory_info().rss)
                return phase.lasted > seconds

            return over

        before = Phase(sustained / 4, lasts(3.0))
        flood = Phase(10 * sustained, lasts(seconds))
        after = Phase(sustained / 4, lambda phase: _normal_after(phase, before) is not None or phase.lasted > 240)
        Arrivals(running.port, 2_000_000).run(before, flood, after)
        recovered = _normal_after(after, before)
        rss.append(server.memory_info().rss)
        kept = {id_ for (id_,) in running.rows("SELECT delivery_id FROM delivery", "inbox")}
    finally:
        if throttle is not None:
            throttle.kill()
        running.close()
    lost = {one.id for phase in (before, flood, after) for one in phase.kept} | calm.kept
    lost -= kept
    grown, rate, statuses = (max(rss) - rss[0]) / 1024 / 1024, flood.sent / flood.lasted, flood.statuses
    figure(
        "R20",
        f"part of a core keeps {sustained:,.0f}/s; {rate:,.0f}/s for {flood.lasted:.0f} s, whatever comes back: "
        f"{statuses[200]:,} kept, {statuses[503]:,} refused, {statuses[0]:,} gave up after 5 s, {len(lost)} "
        f"acknowledged lost, {grown:.0f} MB more memory, normal again after {recovered} s",
    )
    assert rate > 3 * sustained, "it was far too much"
    assert not lost and set(statuses) <= {200, 503, 0}
    assert grown < 200 and recovered is not None, "a hundredth of a core may take a minute; the figure says how long"


def _normal_after(phase: Phase, before: Phase) -> int | None:
    """Whole seconds after which deliveries of two seconds on end were all kept, in the time that they took before."""
    usual = statistics.quantiles([one.seconds for one in before.kept], n=20)[-1]
    for second in range(int(phase.lasted) - 2):
        begun = phase.began + second
        some = [one for one in phase.answers if begun <= one.at < begun + 2]
        answered = len(some) > 1.8 * phase.rate  # else others wait still
        if (
            answered
            and {one.status for one in some} == {200}
            and statistics.median(one.seconds for one in some) <= usual
        ):
            return second
    return None


def _part_of_a_core(server: int) -> None:
    """Lets it run for 2 ms of its own time in each 0.2 s, whatever else the machine does."""
    while True:
        began, spent = time.monotonic(), _spent(server)
        os.kill(server, signal.SIGCONT)
        while _spent(server) < spent + 2_000_000 and time.monotonic() < began + 0.2:
            time.sleep(0.0005)
        os.kill(server, signal.SIGSTOP)
        time.sleep(max(0.0, began + 0.2 - time.monotonic()))


def _spent(process: int) -> int:
    """Nanoseconds on a processor, of all threads."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{process}/task").glob("*/schedstat"))


# --- R23 --------------------------------------------------------------------------------------------------------------


def test_r23_memory_descriptors_and_files_stay_as_they_are(tmp_path: Path, esp: Esp, figure: Figure) -> None:
    lasting, running = profile(12.0, 3_600.0), Running(tmp_path, esp.config)
    try:
        running.apply()
        web, worker = running.start("web"), running.start("worker")
        until(running.answers, 60, "storecue web answers")
        server = running.server_of(web)
        assert server is not None
        shop = Shop(running, threads=2, pause=0.02)
        until(lambda: shop.accepted > 300 and any(esp.states), 90, "it is warm")
        began, accepted, seen = time.monotonic(), shop.accepted, list[tuple[float, ...]]()
        while time.monotonic() - began < lasting:
            wal = sum(file.stat().st_size for file in running.data.glob("*.db-wal"))
            rss = [process.memory_info().rss for process in (server, worker)]
            fds = [process.num_fds() for process in (server, worker)]
            seen.append((time.monotonic() - began, *rss, *fds, wal))
            time.sleep(lasting / 200)
        rate = (shop.accepted - accepted) / lasting
        shop.close()
        settle(running)
        verdict = judged(running, shop.book, esp)
    finally:
        running.close()
    later = seen[len(seen) // 3 :]
    times = [one[0] for one in later]
    slopes = [statistics.linear_regression(times, [one[n] for one in later]).slope * 3600 / 2**20 for n in (1, 2)]
    grown = [(later[-1][n] - later[0][n]) / 2**20 for n in (1, 2)]
    descriptors = [max(one[n] for one in later) - min(one[n] for one in later) for n in (3, 4)]
    wal = max(one[5] for one in seen) / 2**20
    figure(
        "R23",
        f"{lasting:.0f} s at {rate:.0f}/s: memory {grown[0]:+.1f} MB (web) and {grown[1]:+.1f} MB (worker), "
        f"{slopes[0]:+.0f} and {slopes[1]:+.0f} MB/h, descriptors {descriptors[0]:+.0f} and {descriptors[1]:+.0f}, "
        f"write-ahead logs at most {wal:.1f} MB; {verdict}",
    )
    assert (verdict.lost, verdict.doubled, verdict.disordered) == (0, 0, 0)
    assert max(grown) < profile(10, 20), "in a minute nothing else can be told from noise"
    assert max(descriptors) < 40 and wal <= 64
