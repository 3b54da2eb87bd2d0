"""Webhooks in the event loop: groups, deadlines, and bodies that come slowly, too large or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # granian's own name for it

from connector.app import create_app
from connector.errors import NotDurable, Overloaded, RejectedDelivery
from connector.ports import New, Settled
from connector.web import body, current, ingress
from connector.web.ingress import Groups, Ingress
from tests.conftest import Shop, order
from tests.integration.test_bad_input import PATH, signed
from tests.unit.web.over_rsgi import Headers, Protocol, scope


def new(number: int) -> New:
    return New("shop/customer:1", "shop", f"d{number}", "orders/create", 1_000, "{}", b"{}")


class SlowLog:
    """A log that settles when it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self._settle: list[Settled] = []

    def submit(self, items: Sequence[New], settled: Settled) -> None:
        self.groups.append([item.delivery_id for item in items])
        self._settle.append(settled)

    def settle(self, error: NotDurable | None = None) -> None:
        self._settle.pop(0)(error)


@pytest.fixture
def slow_log() -> SlowLog:
    return SlowLog()


def in_loop(test: Callable[[asyncio.AbstractEventLoop], Any]) -> Any:
    async def run() -> Any:
        return await test(asyncio.get_running_loop())

    return asyncio.run(run())


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_comes_while_a_group_is_written_is_the_next_group(slow_log: SlowLog) -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        groups = Groups(slow_log, loop)  # type: ignore[arg-type]
        first = [groups.keep([new(number)]) for number in range(3)]
        await turns()
        later = [groups.keep([new(number)]) for number in range(3, 8)]
        await turns()
        assert slow_log.groups == [["d0", "d1", "d2"]]
        assert not any(future.done() for future in (*first, *later))
        slow_log.settle()
        await turns()
        assert all(future.done() for future in first)
        assert not any(future.done() for future in later), "their commit has not been"
        assert slow_log.groups[1:] == [["d3", "d4", "d5", "d6", "d7"]]
        slow_log.settle()
        await asyncio.gather(*later)

    in_loop(test)


def test_a_group_that_failed_is_refused_and_the_next_one_goes_on(slow_log: SlowLog) -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        groups = Groups(slow_log, loop)  # type: ignore[arg-type]
        first = groups.keep([new(1)])
        await turns()
        second = groups.keep([new(2)])
        slow_log.settle(NotDurable("full"))
        with pytest.raises(NotDurable, match="full"):
            await first
        await turns()
        slow_log.settle()
        await second

    in_loop(test)


def test_what_is_not_durable_in_time_is_refused_and_what_still_waited_is_not_handed_over(
    slow_log: SlowLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress, "DURABLE_WITHIN", 0.05)

    async def test(loop: asyncio.AbstractEventLoop) -> None:
        groups = Groups(slow_log, loop)  # type: ignore[arg-type]
        first = groups.keep([new(1)])
        await turns()
        second = groups.keep([new(2)])
        for future in (first, second):
            with pytest.raises(NotDurable, match="in time"):
                await future
        slow_log.settle()  # late: nobody waits for it
        await turns()
        assert slow_log.groups == [["d1"]]
        third = groups.keep([new(3)])
        await turns()
        slow_log.settle()
        await third

    in_loop(test)


def test_each_delivery_has_its_own_deadline(slow_log: SlowLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "DURABLE_WITHIN", 0.1)

    async def test(loop: asyncio.AbstractEventLoop) -> None:
        groups = Groups(slow_log, loop)  # type: ignore[arg-type]
        first = groups.keep([new(1)])
        monkeypatch.setattr(ingress, "DURABLE_WITHIN", 0.3)
        second = groups.keep([new(2)])
        with pytest.raises(NotDurable):
            await first
        assert not second.done()
        with pytest.raises(NotDurable):
            await second

    in_loop(test)


def test_a_sender_that_has_gone_does_not_trouble_the_others(slow_log: SlowLog) -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        groups = Groups(slow_log, loop)  # type: ignore[arg-type]
        gone, stays = groups.keep([new(1)]), groups.keep([new(2)])
        await turns()
        gone.cancel()
        slow_log.settle()
        await stays

    in_loop(test)


def test_a_log_that_settles_after_the_loop_ended_is_no_fault(slow_log: SlowLog) -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        Groups(slow_log, loop).keep([new(1)])  # type: ignore[arg-type]
        await turns()

    in_loop(test)
    slow_log.settle()


# --- one request ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Any) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def ask(shop: Shop, protocol: Any, headers: dict[str, str], method: str = "POST", path: str = PATH) -> None:
    app = create_app(services=shop.services, now=lambda: shop.time)
    request = scope({"REQUEST_METHOD": method, "PATH_INFO": path})
    request.headers = Headers([(name.lower(), value) for name, value in headers.items()])

    async def test(loop: asyncio.AbstractEventLoop) -> None:
        application = Ingress(app.wsgi_app, current.of(app).receiver, current.of(app).tracker)
        application.__rsgi_init__(loop)
        await application.__rsgi__(request, protocol)

    in_loop(test)


class Body(Protocol):
    """A body whose coming is `comes`."""

    def __init__(self, comes: Callable[[], Any]) -> None:
        super().__init__(None)
        self._comes = comes

    async def __call__(self) -> bytes:
        body: bytes = await self._comes()
        return body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._comes()


@pytest.mark.parametrize("headers", [{"Content-Length": "9"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_that_never_comes_is_given_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(body, "WITHIN", 0.05)
    protocol = Body(asyncio.Event().wait)
    ask(shop, protocol, headers)
    assert protocol.status == 408
    assert json.loads(protocol.body)["reason"] == "slow_body"


def test_each_slow_body_has_its_own_deadline_and_who_is_cancelled_by_others_is_not_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "WITHIN", 0.05)

    async def test(loop: asyncio.AbstractEventLoop) -> None:
        arriving = body.Arriving(1_000_000)

        def reads(comes: Callable[[], Any]) -> "asyncio.Task[bytes]":
            return loop.create_task(body.read({"content-length": "2"}, Body(comes), 9, arriving))  # type: ignore[arg-type]

        async def comes() -> bytes:
            await asyncio.sleep(0.02)
            return b"{}"

        never = asyncio.Event()
        here, stopped, first = reads(comes), reads(never.wait), reads(never.wait)
        await asyncio.sleep(0.03)
        second = reads(never.wait)
        stopped.cancel()
        assert await here == b"{}"
        with pytest.raises(asyncio.CancelledError):
            await stopped
        with pytest.raises(RejectedDelivery, match="in time"):
            await first
        assert not second.done()
        with pytest.raises(RejectedDelivery, match="in time"):
            await second
        assert not arriving._due
        assert not arriving._late

    in_loop(test)


def test_a_sender_that_hangs_up_is_not_answered_and_nothing_is_kept(shop: Shop) -> None:
    async def hangs_up() -> bytes:
        raise ProtocolClosed

    protocol = Body(hangs_up)
    ask(shop, protocol, {**signed(b"{}"), "Content-Length": "2"})
    assert protocol.status == 0
    assert shop.work() == 0


def test_a_fault_of_ours_is_not_an_acknowledgement(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(Groups, "keep", fails)
    body = json.dumps(order()).encode()

    async def comes() -> bytes:
        return body

    protocol = Body(comes)
    ask(shop, protocol, {**signed(body), "Content-Length": str(len(body))})
    assert protocol.status == 503
    assert "boom" not in protocol.body.decode()


# --- how much at a time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"Content-Length": "300000"}, {"Transfer-Encoding": "chunked"}])
def test_more_than_there_is_room_for_is_refused_at_once_and_the_room_is_free_again(
    headers: dict[str, str],
) -> None:
    pieces = [b"x" * 100_000] * 3

    async def held(room: body.Arriving, protocol: Protocol) -> bytes:
        return await body.read({k.lower(): v for k, v in headers.items()}, protocol, 400_000, room)  # type: ignore[arg-type]

    async def test(_: asyncio.AbstractEventLoop) -> None:
        room = body.Arriving(299_999)
        with pytest.raises(Overloaded):
            await held(room, Pieces(pieces))
        room.take(299_999)
        room.give_back(299_999)
        room = body.Arriving(300_000)
        assert await held(room, Pieces(pieces)) == b"".join(pieces)
        room.take(300_000)

    in_loop(test)


class Pieces(Protocol):
    """A body that comes in these pieces, as granian hands them over: an empty one is the end."""

    def __init__(self, pieces: Sequence[bytes], ends: int = 1) -> None:
        super().__init__(None)
        self._pieces = [*pieces, *[b""] * ends]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def test_what_waits_for_the_log_is_bounded_and_whoever_is_refused_hears_when_to_come_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Groups, "keep", lambda *_: asyncio.get_running_loop().create_future())
    app = create_app(services=shop.services, now=lambda: shop.time)
    payload = json.dumps(order(note="x" * 40_000)).encode()

    async def test(loop: asyncio.AbstractEventLoop) -> list[Protocol]:
        application = Ingress(app.wsgi_app, current.of(app).receiver, current.of(app).tracker)
        application._waiting = body.Room(3 * len(payload))
        application.__rsgi_init__(loop)

        async def comes() -> bytes:
            return payload

        protocols = [Body(comes) for _ in range(5)]
        asking = []
        for protocol in protocols:
            request = scope({"REQUEST_METHOD": "POST", "PATH_INFO": PATH})
            headers = {**signed(payload), "Content-Length": str(len(payload))}
            request.headers = Headers([(name.lower(), value) for name, value in headers.items()])
            asking.append(asyncio.create_task(application.__rsgi__(request, protocol)))
        await turns(50)
        for one in asking:
            one.cancel()
        return protocols

    answers = in_loop(test)
    assert [protocol.status for protocol in answers] == [0, 0, 0, 503, 503]
    assert json.loads(answers[-1].body)["reason"] == "overloaded"
    assert dict(answers[-1].headers)["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("headers", "pieces", "ends"),
    [
        ({"transfer-encoding": "chunked"}, [b"{}"], 2),
        ({"transfer-encoding": "chunked"}, [], 2),
        ({"content-length": "100000"}, [b"x" * 99_999], 1),
    ],
)
def test_a_body_that_breaks_off_is_refused(headers: dict[str, str], pieces: list[bytes], ends: int) -> None:
    async def test(_: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(RejectedDelivery, match="broke off"):
            await body.read(headers, Pieces(pieces, ends), 1_000_000, body.Arriving(1_000_000))  # type: ignore[arg-type]

    in_loop(test)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([("host", "a"), ("host", "b")], "two_hosts"),
        ([("transfer-encoding", "gzip, chunked")], "transfer_encoding"),
        ([("transfer-encoding", "chunked"), ("transfer-encoding", "identity")], "transfer_encoding"),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_ends_its_connection(
    shop: Shop, more: list[tuple[str, str]], reason: str
) -> None:
    app = create_app(services=shop.services, now=lambda: shop.time)
    request = scope({"REQUEST_METHOD": "POST", "PATH_INFO": PATH})
    request.headers = Headers([*((name.lower(), value) for name, value in signed(b"{}").items()), *more])
    protocol = Protocol(None)

    async def test(loop: asyncio.AbstractEventLoop) -> None:
        application = Ingress(app.wsgi_app, current.of(app).receiver, current.of(app).tracker)
        application.__rsgi_init__(loop)
        await application.__rsgi__(request, protocol)

    in_loop(test)
    assert (protocol.status, json.loads(protocol.body)["reason"]) == (400, reason)
    assert ("Connection", "close") in protocol.headers
