"""The disk: what is acknowledged is on it, whatever happens next; what it refuses is refused; and it heals."""

import http.client
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.disk import Disk, PowerLoss
from tests.chaos.esp import Esp
from tests.chaos.figures import Figure, profile
from tests.chaos.judge import judged, settle
from tests.chaos.test_abuse import CONFIG, connected, head, order
from tests.e2e.running import Running, Shop, until


@pytest.fixture
def esp() -> Iterator[Esp]:
    esp = Esp()
    yield esp
    esp.close()


def told(folder: Path, snapshot: dict[str, bytes]) -> set[str]:
    """The deliveries in a log as it was found after the power came back; it is sound."""
    for name in ("inbox.db", "inbox.db-wal", "inbox.db-shm", "inbox.db-journal"):
        (folder / name).unlink(missing_ok=True)
        if name in snapshot:
            (folder / name).write_bytes(snapshot[name])
    connection = sqlite3.connect(folder / "inbox.db")
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'delivery'").fetchone():
            return set()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {id_ for (id_,) in connection.execute("SELECT delivery_id FROM delivery")}
    finally:
        connection.close()


def test_r1_r5_what_was_acknowledged_is_on_the_disk_before_the_answer(tmp_path: Path, figure: Figure) -> None:
    """Every write and every sync of the log is on record. At syncs all along, the disk is put together as a loss of
    power just before would have left it: with what was safe alone, and with any part of what was not."""
    disk = Disk(tmp_path / "disk", remembers=True)
    running = Running(tmp_path, CONFIG, disk.environment)
    try:
        running.apply()
        running.start("web")
        until(running.answers, 60, "storecue web answers")
        shop = Shop(running, pause=0.0)
        until(lambda: shop.accepted > profile(1_000, 20_000), 120, "deliveries are accepted")
        shop.close()
    finally:
        running.close()
    records = [record for record in disk.records() if record.name.startswith("inbox.db")]
    heard = shop.book.kept_at
    began, chance, loss = min(heard.values()), random.Random(5), PowerLoss({})
    points = [number for number, one in enumerate(records) if one.what == "s" and one.at > began]
    chosen = set(chance.sample(points, min(len(points), profile(50, 500))))
    (tmp_path / "after").mkdir()
    proven: set[str] = set()
    for number, record in enumerate(records):
        if number in chosen:
            acknowledged = {id_ for id_, at in heard.items() if at < record.at}
            assert acknowledged <= told(tmp_path / "after", loss.files())
            assert acknowledged <= told(tmp_path / "after", loss.files(0.5, chance)), "half of what was not safe"
            proven |= acknowledged
        loss.see(record)
    assert heard.keys() <= told(tmp_path / "after", loss.files())
    figure("R1", f"sqlite: {len(heard):,} of {len(heard):,} acknowledged deliveries were safe before their answer")
    figure("R5", f"{2 * len(chosen)} losses of power at {len(points):,} syncs: all acknowledged before them was there")
    assert len(chosen) >= 20 and len(proven) > len(heard) / 2


def test_r3_a_sync_that_fails_is_no_acknowledgement(tmp_path: Path, figure: Figure) -> None:
    disk, faults = Disk(tmp_path / "disk"), profile(50, 200)
    running = Running(tmp_path, CONFIG, disk.environment)
    try:
        running.apply()
        running.start("web")
        until(running.answers, 60, "storecue web answers")
        kept = 0
        for number in range(faults):
            assert _answer(running, f"good {number}") == 200
            kept += 1
            disk.fail("sync", 1, only="inbox.db")
            assert _answer(running, f"bad {number}") == 503
            assert disk.struck == 1
        assert _answer(running, "last") == 200
        assert running.rows("PRAGMA integrity_check", "inbox") == [("ok",)]
        [(count,)] = running.rows("SELECT count(*) FROM delivery WHERE delivery_id LIKE 'good %'", "inbox")
    finally:
        running.close()
    figure("R3", f"{faults} syncs failed: {faults} refused with 503, {count} of {kept} others kept, the log is sound")
    assert count == kept


def _answer(running: Running, id_: str) -> int:
    body = order(abs(hash(id_)) % 1_000_000)
    with connected(running) as connection:
        connection.sendall(head(id_, body) + body)
        answer = connection.recv(4_096)
    assert b"Retry-After: " in answer or b" 200 " in answer or b"retry-after: " in answer.lower()
    return int(answer[9:12])


def test_r4_a_full_disk_refuses_and_heals(tmp_path: Path, esp: Esp, figure: Figure) -> None:
    disk = Disk(tmp_path / "disk")
    running = Running(tmp_path, esp.config, disk.environment | {"STORECUE_API_TOKEN": "t" * 40})
    try:
        up = running.start("up")
        until(running.answers, 60, "storecue up answers")
        shop = Shop(running)
        until(lambda: shop.accepted > 100 and any(esp.states), 60, "deliveries are accepted and pushed")
        disk.fail("full")
        refused = shop.book.statuses[503]
        until(lambda: shop.book.statuses[503] > refused + 50, 30, "deliveries are refused")
        while_full = shop.accepted
        assert _read(running, "/healthz") == 200
        assert _read(running, "/api/v1/status") == 200, "who looks after it can look"
        assert _read(running, "/api/v1/profiles") == 200
        until(lambda: "worker.database_failed" in running.log or disk.struck > 200, 30, "the worker meets it too")
        until(lambda: shop.book.statuses[503] > refused + profile(100, 2_000), 120, "deliveries are refused")
        assert shop.accepted - while_full <= 8, "what was under way at most"
        refused = shop.book.statuses[503] - refused
        disk.heal()
        began, accepted = time.monotonic(), shop.accepted
        until(lambda: shop.accepted > accepted, 10, "deliveries are accepted again")
        healed = time.monotonic() - began
        until(lambda: shop.accepted > accepted + 100, 60, "business goes on")
        shop.close()
        settle(running)
        verdict = judged(running, shop.book, esp)
        assert up.is_running()
    finally:
        running.close()
    figure("R4", f"{refused:,} refused while full, reads answered, accepted again after {healed:.1f} s; {verdict}")
    assert (verdict.lost, verdict.doubled, verdict.disordered) == (0, 0, 0)


def _read(running: Running, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", path, headers={"Authorization": "Bearer " + "t" * 40})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_disk_that_hangs_is_a_503_within_three_seconds_and_what_waits_is_bounded(
    tmp_path: Path, figure: Figure
) -> None:
    """200 senders with 500 kB each, 100 MB in all, while one sync takes longer than anybody waits."""
    disk = Disk(tmp_path / "disk")
    running = Running(tmp_path, CONFIG, disk.environment)
    try:
        running.apply()
        running.start("web")
        until(running.answers, 60, "storecue web answers")
        server = running.server_of(running.processes[-1])
        assert server is not None and _answer(running, "before") == 200
        before = server.memory_info().rss
        disk.slow(5.0)
        seconds: list[tuple[int, float]] = []
        threads = [threading.Thread(target=_heavy, args=(running, number, seconds)) for number in range(200)]
        for thread in threads:
            thread.start()
        most = before
        while any(thread.is_alive() for thread in threads):
            most = max(most, server.memory_info().rss)
            time.sleep(0.05)
        disk.heal()
        until(lambda: _answer(running, "after") == 200, 10, "it is as before")
    finally:
        running.close()
    statuses = [status for status, _ in seconds]
    grown = (most - before) / 1024 / 1024
    at_once = sum(status == 503 and taken < 2 for status, taken in seconds)
    longest = max(taken for _, taken in seconds)
    figure(
        "R20",
        f"a disk that hangs, 200 x 500 kB: {statuses.count(503)} refused, {at_once} of them at once, "
        f"longest {longest:.1f} s, {grown:.0f} MB more memory",
    )
    assert set(statuses) <= {503, 200} and statuses.count(503) >= 190
    assert at_once > 20, "what is beyond 64 MB need not wait"
    assert grown < 200


def _heavy(running: Running, number: int, seconds: list[tuple[int, float]]) -> None:
    body = order(number)[:-1] + b',"note":"' + random.Random(number).randbytes(250_000).hex().encode() + b'"}'
    with connected(running) as connection:
        connection.settimeout(30)
        connection.sendall(head(f"heavy {number}", body) + body)
        began = time.monotonic()
        answer = connection.recv(4_096)
    seconds.append((int(answer[9:12] or 0), time.monotonic() - began))
