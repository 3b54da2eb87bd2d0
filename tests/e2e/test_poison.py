"""Deliveries that kill the process, hang it or take all memory: all others are worked off, and they are put aside."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.conftest import Shop, order
from tests.e2e import poisoned
from tests.e2e.running import until

COUNT = 20
KILLERS = {7: "hang", 12: "crash", 15: "oom"}
BOMB = 3


def test_deliveries_that_kill_the_worker_are_put_aside_and_all_others_done(tmp_path: Path) -> None:
    with closing(Shop(tmp_path / "data")) as shop:
        shop.services.log._part = lambda _key: 3  # type: ignore[attr-defined]  # in one batch
        for number in range(COUNT):
            one = order(1000 + number, customer=500 + number, email=f"p{number}@example.com")
            shop.deliver("orders/create", one, id=f"{(KILLERS | {BOMB: 'bomb'}).get(number, 'good')}{number}")
        after = order(2000, customer=500 + BOMB, email=f"p{BOMB}@example.com")
        shop.deliver("orders/create", after, id="behind the bomb")
        dead = "SELECT reference FROM dead_letter WHERE reason = 'killed_the_worker' ORDER BY reference"
        arguments = [sys.executable, str(Path(poisoned.__file__)), str(tmp_path / "data")]
        log_file = tmp_path / "worker.log"
        with log_file.open("wb") as log:
            started = subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: len(shop.rows(dead)) == len(KILLERS), 60, "all of them are dead letters")
            failed = "SELECT reference FROM dead_letter WHERE reason = 'failed' AND message LIKE 'MemoryError%'"
            until(lambda: shop.rows(failed) == [(f"bomb{BOMB}",)], 60, "the bomb is one, after five attempts")
            others = [(COUNT - len(KILLERS),)]  # with what was behind the bomb
            until(lambda: shop.rows("SELECT count(*) FROM shop_order") == others, 20, "all others")
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(10)
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
        told = log_file.read_text(errors="replace")
        assert shop.rows(dead) == [("crash12",), ("hang7",), ("oom15",)]
        assert shop.rows("SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM dead_letter)") == [(0, 4)]
        # Each: in a batch, alone, and alone three times more where it holds up nobody else.
        assert told.count("the worker died") <= 5 * len(KILLERS), told
        assert "delivery=crash12" in told and "source=shop" in told, "whoever comes after says over what"
        assert "Timeout (0:00:00.500000)!" in told and "normalise" in told, "and where it hung"
        assert "example.com" not in told
