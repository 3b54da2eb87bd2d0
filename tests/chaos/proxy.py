"""A TCP proxy that does what networks do: it is slow, narrow, cuts, swallows, resets, closes late, or is gone.

Faults are attributes, read anew for every piece: a test sets them while connections live, in either direction.
"""

import random
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_PIECE = 65_536
_LOOK_EVERY = 0.02  # seconds in which a pump notices that it is to end
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, no time: close() sends RST and throws away what waits


@dataclass
class Faults:
    """What happens to what goes one way. `share` of the pieces are struck by `reset`, `limit` and `timeout`."""

    latency: float = 0.0  # seconds that each piece is held back
    jitter: float = 0.0  # seconds more, at most
    bandwidth: float = 0.0  # bytes in a second; 0: as many as come
    slicer: int = 0  # bytes of which a piece is passed on at a time; 0: whole
    limit: int | None = None  # bytes of a connection that pass, then it is closed
    timeout: float | None = None  # seconds that nothing passes, and then the connection is closed; 0: never closed
    reset: bool = False  # the next piece does not pass, and both ends get a reset
    slow_close: float = 0.0  # seconds until the other end hears that this one has closed
    share: float = 1.0
    seed: int = 0
    struck: int = 0  # pieces that `reset`, `limit` or `timeout` have struck
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def strikes(self) -> bool:
        struck = self.share >= 1 or self._random.random() < self.share
        self.struck += struck
        return struck


class Proxy:
    """Stands before `127.0.0.1:port`. `up` are the faults from the client to the server, `down` those back."""

    def __init__(self, port: int) -> None:
        self._server = port
        self.up, self.down = Faults(), Faults()
        self.connections = 0  # ever made
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Listen, on the same port as before: the end of being down."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), name="proxy-accept", daemon=True).start()

    def close(self) -> None:
        """Be down: every connection is reset, and a new one is refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        self.drop()

    def drop(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _reset(*pair)

    def calm(self) -> None:
        """No faults from now on."""
        self.up, self.down = Faults(), Faults()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server), timeout=5)
            except OSError:
                _reset(client)
                continue
            pair = (client, server)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.settimeout(_LOOK_EVERY)
            with self._lock:
                self._pairs.add(pair)
            self.connections += 1
            for name in ("up", "down"):
                threading.Thread(target=self._pump, args=(pair, name), name=f"proxy-{name}", daemon=True).start()

    def _pump(self, pair: tuple[socket.socket, socket.socket], name: str) -> None:
        """Pass on what comes from one end until it closes or a fault ends the connection."""
        source, target = pair if name == "up" else pair[::-1]
        passed = 0
        while pair in self._pairs:
            try:
                piece = source.recv(_PIECE)
            except TimeoutError:
                continue
            except OSError:
                piece = b""
            faults: Faults = getattr(self, name)
            if not piece:
                self._sleep(faults.slow_close, pair)
                with suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                if name == "down":
                    self._end(pair)
                return
            if faults.timeout is not None and faults.strikes():
                self._sleep(faults.timeout or float("inf"), pair)
                self._end(pair)
                return
            if faults.reset and faults.strikes():
                with self._lock:
                    self._pairs.discard(pair)
                _reset(*pair)
                return
            cut = faults.limit is not None and passed + len(piece) > faults.limit and faults.strikes()
            if cut and faults.limit is not None:
                piece = piece[: max(0, faults.limit - passed)]
            self._sleep(faults.latency + faults.jitter * random.random(), pair)
            if not self._pass(piece, target, faults, pair) or cut:
                self._end(pair)
                return
            passed += len(piece)

    def _pass(self, piece: bytes, target: socket.socket, faults: Faults, pair: tuple[socket.socket, ...]) -> bool:
        size = faults.slicer or len(piece) or 1
        for start in range(0, len(piece), size):
            part = memoryview(piece)[start : start + size]
            if faults.bandwidth:
                self._sleep(len(part) / faults.bandwidth, pair)
            while part:
                try:
                    part = part[target.send(part) :]
                except TimeoutError:
                    if pair not in self._pairs:
                        return False
                except OSError:
                    return False
        return True

    def _sleep(self, seconds: float, pair: tuple[socket.socket, ...]) -> None:
        """Wait, but not longer than the connection lives."""
        over = time.monotonic() + seconds
        while pair in self._pairs and (left := over - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_EVERY))

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.close()
