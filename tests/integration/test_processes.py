"""Workers without senders, and senders without a line: what one leaves, the other does."""

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
