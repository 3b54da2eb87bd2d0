"""A vendor that takes calls and never answers: the others go on, and a stop does not wait for it. With real threads and
real sockets, by the order of what happens."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import DESTINATIONS
from adapters.destination import Destination, SystemClock
from adapters.destination import Settings as AccountSettings
from connector import clock
from connector import worker as worker_module
from connector.domain import DestinationConfig
from connector.simulator.vendors import FakeHubSpot
from connector.simulator.vendors.server import Request, Response
from connector.storage.turns import Turn
from connector.worker import Worker
from tests.conftest import CONFIG, Shop, order

PATIENT = 60.0
"""Seconds until a step that should happen at once counts as not happening."""


class Hanging:
    """Accepts connections, reads what comes and says nothing until it is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = threading.Event()
        self._held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                self._held.append(connection)
                connection.recv(1)
                self.asked.set()
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()
        for connection in self._held:
            connection.close()


class Watched(FakeHubSpot):
    """Tells when a contact was written."""

    written = threading.Event()

    def answered(self, request: Request) -> Response:
        response = super().answered(request)
        if "/contacts" in request.path and request.method in ("POST", "PATCH") and self.contacts():
            self.written.set()
        return response


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    vendor = Hanging()
    yield vendor
    vendor.close()


def test_an_account_that_hangs_delays_no_other_and_no_stop(
    tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_STOP_WITHIN", 0.2)
    shop = Shop(tmp_path)
    shop.time = clock.now()
    with Watched(access_token="pat-test") as healthy:
        healthy.written = threading.Event()
        places = {"klaviyo": hanging.url, "hubspot": healthy.url}

        def connect(config: DestinationConfig, turn: Turn | None = None) -> Destination:
            credentials = {name: shop.services.vault.resolve(secret) for name, secret in config.credentials.items()}
            settings = AccountSettings(credentials, places[config.kind], True, read_timeout=PATIENT)
            return DESTINATIONS[config.kind](settings, SystemClock())

        shop.services.connect = connect  # type: ignore[method-assign]
        shop.configure(
            CONFIG
            + f"""
destinations:
  klaviyo: {{kind: klaviyo, credentials: {{api_key: pk_test}}, base_url: '{hanging.url}', allow_insecure: true}}
  hubspot: {{kind: hubspot, credentials: {{access_token: pat-test}}, base_url: '{healthy.url}', allow_insecure: true,
            at_most_every: 0s}}
"""
        )
        shop.work()
        shop.deliver("orders/create", order(at=shop.time))
        shop.work()
        worker = Worker(shop.services)
        worker.refresh()
        try:
            assert hanging.asked.wait(PATIENT), "the call that hangs is under way"
            assert healthy.written.wait(PATIENT / 2), "and the other vendor is told meanwhile"
            # Again and again, while the same call goes on hanging.
            for number in (1002, 1003):
                healthy.written.clear()
                shop.deliver("orders/create", order(number, at=shop.time))
                shop.work()
                worker._wake()
                assert healthy.written.wait(PATIENT / 2)
            begun = time.monotonic()
        finally:
            worker.close()
        assert time.monotonic() - begun < PATIENT / 4, "nobody waits for the vendor"
    hanging.close()
    shop.close()
