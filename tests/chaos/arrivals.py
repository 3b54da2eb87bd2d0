"""Deliveries that arrive at a rate, whatever becomes of them: a sender does not wait for the answers to others."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.chaos.test_abuse import head, order

_PATIENCE = 5.0
"""Seconds after which a sender gives up, as Shopify does."""


_AT_ONCE = 100  # sent before the clock is looked at again


class Answer(NamedTuple):
    """`at`: when it was sent; `status` 0: it was given up."""

    id: str
    at: float
    status: int
    seconds: float


class Phase:
    """What arrives at one rate until `over` says so; four times a second it is asked."""

    def __init__(self, rate: float, over: Callable[["Phase"], bool]) -> None:
        self.rate, self.over = rate, over
        self.answers: list[Answer] = []
        self.began = self.ended = 0.0
        self.sent = 0

    @property
    def lasted(self) -> float:
        return (self.ended or time.monotonic()) - self.began

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.answers)

    @property
    def kept(self) -> list[Answer]:
        return [one for one in self.answers if one.status == 200]


class _Sender(asyncio.Protocol):
    """One connection: takes a delivery at a time."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[int] | None = None
        self.transport: asyncio.Transport | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:  # what is answered fits in one piece
            status, self._head = int(self._head[9:12]), b""
            self._tell(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell(0)

    def _tell(self, status: int) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(status)


class Arrivals:
    """Senders of one server. Each delivery takes a connection that is idle, or makes one."""

    def __init__(self, port: int, first: int) -> None:
        self._port, self._number = port, first
        body = order(first)
        self._before, self._after = (head("arrived ?", body) + body).split(b"?", 1)
        self._idle: list[_Sender] = []

    def run(self, *phases: Phase) -> None:
        """One after the other, and then until each delivery has its answer or was given up."""
        asyncio.run(self._run(phases))

    async def _run(self, phases: tuple[Phase, ...]) -> None:
        under_way: set[asyncio.Task[None]] = set()
        for phase in phases:
            phase.began = looked = time.monotonic()
            while True:
                now = time.monotonic()
                if now > looked + 0.25:
                    looked = now
                    if phase.over(phase):
                        break
                late = int((now - phase.began) * phase.rate) - phase.sent
                for _ in range(min(late, _AT_ONCE)):
                    phase.sent += 1
                    self._number += 1
                    task = asyncio.create_task(self._send(self._number, phase))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                await asyncio.sleep(0.002)
            phase.ended = time.monotonic()
        while under_way:
            await asyncio.wait(under_way)
        for sender in self._idle:
            if sender.transport is not None:
                sender.transport.close()
        self._idle = []

    async def _send(self, number: int, phase: Phase) -> None:
        loop, began, status = asyncio.get_running_loop(), time.monotonic(), 0
        sender: _Sender | None = None
        try:
            async with asyncio.timeout(_PATIENCE):
                if self._idle:
                    sender = self._idle.pop()
                else:
                    _, sender = await loop.create_connection(_Sender, "127.0.0.1", self._port)
                assert sender.transport is not None
                sender.answered = loop.create_future()
                sender.transport.write(self._before + str(number).encode() + self._after)
                status = await sender.answered
        except (OSError, TimeoutError):
            status = 0
        if sender is not None and sender.transport is not None:
            if status:
                self._idle.append(sender)
            else:
                sender.transport.abort()
        phase.answers.append(Answer(f"arrived {number}", began, status, time.monotonic() - began))
