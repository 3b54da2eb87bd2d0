"""The fault proxy itself: each fault does what it says, in its direction alone, and can be switched off."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Faults, Proxy


class Echo:
    """Answers every byte with itself; `heard` is what came, `ends` how each connection ended."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ends: list[str] = []
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        end = "closed"
        with connection:
            try:
                while piece := connection.recv(65_536):
                    self.heard += piece
                    connection.sendall(piece)
            except OSError:
                end = "reset"
        self.ends.append(end)
        self.ended.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def read(connection: socket.socket, size: int) -> bytes:
    """`size` bytes, or fewer when the connection ends before."""
    got = b""
    while len(got) < size and (piece := connection.recv(size - len(got))):
        got += piece
    return got


def test_without_faults_all_passes_both_ways(proxy: Proxy, echo: Echo) -> None:
    sent = bytes(range(256)) * 4_000
    with connected(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        assert read(connection, len(sent)) == sent
    assert echo.ended.wait(5) and echo.ends == ["closed"]
    assert proxy.connections == 1


def test_latency_holds_every_piece_back(proxy: Proxy) -> None:
    proxy.down = Faults(latency=0.1)
    with connected(proxy) as connection:
        for _ in range(2):
            began = time.monotonic()
            connection.sendall(b"x")
            assert read(connection, 1) == b"x"
            assert time.monotonic() - began >= 0.1


def test_bandwidth_is_bytes_in_a_second(proxy: Proxy) -> None:
    proxy.up = Faults(bandwidth=100_000, slicer=1_000)
    began = time.monotonic()
    with connected(proxy) as connection:
        connection.sendall(b"x" * 20_000)
        assert len(read(connection, 20_000)) == 20_000
    assert time.monotonic() - began >= 0.2


def test_the_slicer_loses_nothing(proxy: Proxy) -> None:
    proxy.up, proxy.down = Faults(slicer=3), Faults(slicer=7)
    with connected(proxy) as connection:
        connection.sendall(b"0123456789" * 30)
        assert read(connection, 300) == b"0123456789" * 30


def test_a_limit_cuts_in_the_middle(proxy: Proxy, echo: Echo) -> None:
    proxy.down = Faults(limit=5)
    with connected(proxy) as connection:
        connection.sendall(b"0123456789")
        assert read(connection, 10) == b"01234"
        assert connection.recv(1) == b""
    assert bytes(echo.heard) == b"0123456789", "the other direction knows no limit"
    assert proxy.down.struck == 1


def test_a_timeout_swallows_and_then_closes(proxy: Proxy, echo: Echo) -> None:
    proxy.down = Faults(timeout=0.1)
    began = time.monotonic()
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b""
    assert time.monotonic() - began >= 0.1
    assert bytes(echo.heard) == b"x"


def test_a_reset_reaches_both_ends(proxy: Proxy, echo: Echo) -> None:
    proxy.down = Faults(reset=True)
    with connected(proxy) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert bytes(echo.heard) == b"x", "it was done, and the answer is lost"
    assert echo.ended.wait(5) and echo.ends == ["reset"]


def test_a_slow_close_is_heard_late(proxy: Proxy, echo: Echo) -> None:
    proxy.up = Faults(slow_close=0.1)
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert read(connection, 1) == b"x"
        began = time.monotonic()
    assert echo.ended.wait(5)
    assert time.monotonic() - began >= 0.1


def test_down_is_refused_and_up_again_is_the_same_address(proxy: Proxy) -> None:
    port = proxy.port
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert read(connection, 1) == b"x"
        proxy.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.open()
    assert proxy.port == port
    with connected(proxy) as connection:
        connection.sendall(b"y")
        assert read(connection, 1) == b"y"


def test_a_share_of_the_pieces_is_struck_and_calm_ends_it(proxy: Proxy) -> None:
    proxy.down = Faults(reset=True, share=0.5, seed=3)
    ends = []
    for _ in range(40):
        with connected(proxy) as connection:
            connection.sendall(b"x")
            try:
                ends.append(connection.recv(1))
            except ConnectionResetError:
                ends.append(b"")
    assert 8 < ends.count(b"") == proxy.down.struck < 32
    proxy.calm()
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert read(connection, 1) == b"x"
