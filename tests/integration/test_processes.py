"""Processes of every kind: what one leaves, another does; none stays when who started it is gone."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connector import clock
from connector.simulator.vendors import FakeHubSpot
from connector.worker import Worker
from tests.conftest import CONFIG, Shop, order
from tests.e2e.running import until


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_a_worker_without_senders_and_a_process_that_only_sends(tmp_path: Path) -> None:
    with FakeHubSpot(access_token="pat-test") as vendor:
        shop = Shop(tmp_path)
        shop.time = clock.now()
        shop.configure(
            CONFIG
            + f"""
destinations:
  hubspot: {{kind: hubspot, credentials: {{access_token: pat-test}}, base_url: '{vendor.url}', allow_insecure: true,
            at_most_every: 0s}}
"""
        )
        services = shop.services
        waiting = "SELECT count(*) FROM sync_state WHERE pending = 1"
        with running(Worker(services, send=False)):
            shop.deliver("orders/create", order(at=shop.time))
            until(lambda: shop.rows(waiting) == [(1,)], 15, "the line has its effect")
            assert [one.work for one in services.turns.held()] == []
        with running(Worker(services, line=False)):
            until(lambda: shop.rows(waiting) == [(0,)], 15, "it is pushed")
            assert ("push", "hubspot") in [(one.work, one.name) for one in services.turns.held()]
            shop.deliver("orders/create", order(1002, at=shop.time))
        assert len(vendor.contacts()) == 1
        assert shop.work() > 0, "nobody followed the log"
        shop.close()


def test_a_server_whose_web_process_died_before_it_was_ready_does_not_stay(tmp_path: Path) -> None:
    """It would hold the port, and answer by the code of yesterday."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(20)
    serving = "import time; from connector.serve import _application; _application(); time.sleep(60)"
    told = {**os.environ, "STORECUE_MINDED_BY": str(dead.pid), "STORECUE_DATA": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", serving], env=told, timeout=40).returncode == 1
