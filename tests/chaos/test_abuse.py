"""Senders that mean harm or are merely strange, at the sockets of the server that ships: slow ones, and HTTP bent."""

import re
import socket
import time
from collections.abc import Iterator

import pytest

from connector import clock
from connector.simulator.delivery import encode, sign
from tests.chaos.figures import Figure, profile
from tests.e2e.running import SECRET, Running, Sale, until

CONFIG = """
version: 1
store: {name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}
sources:
  shop: {kind: shopify, secrets: [hush]}
"""
OPENING = b"POST /webhooks/shopify/shop HTTP/1.1\r\nHost: storecue.test\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("abuse"), CONFIG)
    running.apply()
    running.start("web")
    until(running.answers, 30, "storecue web answers")
    yield running
    running.close()


def order(number: int) -> bytes:
    return encode(Sale(number, 1 + number % 60, 1_000).body(clock.now()))


def head(id_: str, body: bytes, *more: str, length: bool = True) -> bytes:
    """The head of a signed delivery; `more` are header lines."""
    lines = [
        "X-Shopify-Topic: orders/create",
        f"X-Shopify-Hmac-Sha256: {sign(body, SECRET)}",
        f"X-Shopify-Webhook-Id: {id_}",
        "X-Shopify-API-Version: 2026-10",
        *([f"Content-Length: {len(body)}"] if length else []),
        *more,
    ]
    return OPENING + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def connected(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=5)


# --- R19 --------------------------------------------------------------------------------------------------------------


def test_r19_slow_senders_and_readers_hold_up_nobody_and_are_let_go(web: Running, figure: Figure) -> None:
    each, lasting = profile(100, 250), profile(0.0, 300.0)
    openings = {
        "drip": OPENING + b"X-A: ",
        "body": OPENING + b"Content-Length: 900\r\n\r\n{",
        "idle": b"",
        "kept alive": b"GET /healthz HTTP/1.1\r\nHost: storecue.test\r\n\r\n",
        "no reader": b"GET /openapi.json HTTP/1.1\r\nHost: storecue.test\r\n\r\n",
    }
    server = web.server_of(web.processes[-1])
    assert server is not None
    alone = max(_served(web, 1_000_000 + number) for number in range(20))
    before = server.num_fds()
    slow: list[tuple[str, socket.socket, float]] = []
    served: list[float] = []
    longest: dict[str, float] = dict.fromkeys(openings, 0.0)
    try:
        for kind, opening in openings.items():
            # What is not read had to be made first: many at once would be an overload, which is another row.
            for _ in range(20 if kind == "no reader" else each):
                slow.append(_slow(web, kind, opening))
        most = len(slow)
        until(lambda: server.num_fds() >= before + 0.9 * most, 5, "they are all connected at once")
        began = time.monotonic()
        while slow and time.monotonic() - began < lasting + 30:
            served.append(_served(web, len(served)))
            left = []
            for kind, connection, since in slow:
                if not _is_let_go(kind, connection):
                    left.append((kind, connection, since))
                    continue
                longest[kind] = max(longest[kind], time.monotonic() - since)
                connection.close()
                if time.monotonic() - began < lasting:
                    left.append(_slow(web, kind, openings[kind]))
            slow = left
            time.sleep(0.2)
    finally:
        for _, connection, _ in slow:
            connection.close()
    until(lambda: server.num_fds() < before + 20, 30, "no descriptor is left of them")
    served.sort()
    p99 = served[int(len(served) * 0.99)]
    figure(
        "R19",
        f"{most} slow connections: {len(served)}/{len(served)} deliveries kept, "
        f"p99 {p99 * 1000:.0f} ms, longest {served[-1] * 1000:.0f} ms (alone {alone * 1000:.0f} ms); let go after "
        + ", ".join(f"{seconds:.0f} s ({kind})" for kind, seconds in longest.items()),
    )
    assert len(served) >= 20
    # Whom they held up would wait for as long as they are borne, 10 s. Other tests run beside the short profile.
    assert p99 < profile(3.0, 1.0)
    assert not slow, "all were let go within 30 s"


def _slow(web: Running, kind: str, opening: bytes) -> tuple[str, socket.socket, float]:
    connection = socket.socket()
    if kind == "no reader":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", web.port))
    connection.sendall(opening)
    connection.setblocking(False)
    return kind, connection, time.monotonic()


def _is_let_go(kind: str, connection: socket.socket) -> bool:
    """Drips a byte, and sees whether the server has closed or answered for good."""
    if kind == "no reader":
        return True  # it would see the end only by reading; the descriptors are counted instead
    try:
        if kind in ("drip", "body"):
            connection.send(b" ")
        while piece := connection.recv(4_096):
            if kind == "body" and piece.startswith(b"HTTP/1.1 408"):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _served(web: Running, number: int) -> float:
    """The seconds that a delivery on a connection of its own took; it must be kept."""
    body = order(500_000 + number)
    began = time.monotonic()
    with connected(web) as connection:
        connection.sendall(head(f"fair-{number}", body) + body)
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
    return time.monotonic() - began


# --- S9 ---------------------------------------------------------------------------------------------------------------

PROBE = b"GET /healthz HTTP/1.1\r\nHost: storecue.test\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def chunks(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def strange() -> dict[str, tuple[bytes, list[int], bool]]:
    """Name -> the bytes that are sent, the statuses that come back, whether the delivery is kept. 0: no answer.

    Each ends in the request that a smuggler would slip in; a second status stands where it is answered because it is a
    request of its own by everybody's reading.
    """
    body = order(1)
    signature = sign(body, SECRET).encode()

    def told(name: str, *more: str, length: bool = True) -> bytes:
        return head(name, body, *more, length=length)

    return {
        "plain": (told("plain") + body + PROBE, [200, 200], True),
        # The chunked body is the one that counts, and the connection ends with it: nothing after it is a request.
        "length and chunked": (told("length and chunked", CHUNKED) + chunks(body) + PROBE, [200], True),
        "length of the rest": (told("length of the rest", CHUNKED) + chunks(b"") + PROBE, [401], False),
        "two lengths": (told("two lengths", "Content-Length: 5") + body + PROBE, [400], False),
        "length with a sign": (told("sign", f"Content-Length: +{len(body)}", length=False) + body, [400], False),
        "length of nothing": (told("nothing", "Content-Length: ", length=False) + body + PROBE, [400], False),
        "another coding": (told("xchunked", "Transfer-Encoding: xchunked") + body + PROBE, [400], False),
        "gzip below chunked": (
            told("gzip", "Transfer-Encoding: gzip, chunked", length=False) + chunks(body) + PROBE,
            [400],
            False,
        ),
        "chunked but not last": (
            told("not last", "Transfer-Encoding: chunked, identity", length=False) + chunks(body) + PROBE,
            [400],
            False,
        ),
        "codings in two lines": (
            told("two lines", CHUNKED, "Transfer-Encoding: identity", length=False) + chunks(body) + PROBE,
            [400],
            False,
        ),
        "a tab in the coding": (told("tab", "Transfer-Encoding:\x0bchunked") + body + PROBE, [400], False),
        "chunked in 1.0": (
            told("1.0", CHUNKED, length=False).replace(b"HTTP/1.1", b"HTTP/1.0") + chunks(body) + PROBE,
            [400],
            False,
        ),
        "no chunk size": (told("no size", CHUNKED, length=False) + b"zz\r\n" + body + PROBE, [400], False),
        "a huge chunk": (told("huge", CHUNKED, length=False) + b"f" * 18 + b"\r\n" + body + PROBE, [400], False),
        "bad second chunk": (
            told("second", CHUNKED, length=False) + b"%x\r\n%s\r\nzz\r\n" % (len(body), body) + PROBE,
            [400],
            False,
        ),
        "space before the colon": (told("space", "X-A : b") + body + PROBE, [400], False),
        "a folded line": (told("fold", "X-A: b\r\n  c") + body + PROBE, [400], False),
        "a zero byte": (told("zero", "X-A: b\0c") + body + PROBE, [400], False),
        "a bare CR": (told("cr", "X-A: b\rX-B: c") + body + PROBE, [400], False),
        "two hosts": (told("hosts", "Host: other.test") + body + PROBE, [400], False),
        "alias of the topic": (told("alias", "X_Shopify_Topic: orders/cancelled") + body + PROBE, [200, 200], True),
        "alias of the signature": (
            told("signed").replace(b"X-Shopify-Hmac-Sha256", b"X_Shopify_Hmac_Sha256") + body + PROBE,
            [401, 200],
            False,
        ),
        "two signatures": (
            told("twice").replace(signature, b"AAAA\r\nX-Shopify-Hmac-Sha256: BBBB") + body + PROBE,
            [401, 200],
            False,
        ),
        "a head of 200 kB": (told("head", "X-A: " + "a" * 200_000) + body + PROBE, [431], False),
        "a thousand headers": (told("many", *(f"X-{n}: a" for n in range(1_000))) + body + PROBE, [431], False),
        "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + PROBE, [], False),
    }


def test_s9_what_two_parsers_might_read_differently_is_one_request_or_none(web: Running, figure: Figure) -> None:
    cases = strange()
    got = {name: _statuses(web, sent) for name, (sent, _, _) in cases.items()}
    assert got == {name: statuses for name, (_, statuses, _) in cases.items()}
    kept = dict(web.rows("SELECT delivery_id, topic FROM delivery WHERE delivery_id NOT LIKE 'fair-%'", "inbox"))
    assert kept.keys() == {"plain", "length and chunked", "alias"}
    assert set(kept.values()) == {"orders/create"}, "no header passes for another"
    figure("S9", f"{len(cases)} raw requests: 0 answers to what was smuggled, 0 headers under another's name")


def _statuses(web: Running, sent: bytes) -> list[int]:
    """The statuses of all answers, until the server closes or has answered both requests."""
    answer, statuses = b"", list[int]()
    with connected(web) as connection:
        connection.settimeout(20)
        try:
            connection.sendall(sent)
            while len(statuses) < 2 and (piece := connection.recv(65_536)):
                answer += piece
                statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
        except ConnectionError:
            pass
    return statuses


def test_a_chunked_body_that_breaks_off_is_not_taken_for_whole(web: Running) -> None:
    """The server itself ends it as if it were complete. A sender of generic events with an id of its own would have its
    repeat dropped as known, and the event would be lost."""
    body = order(2)
    for name, broken in {"half": chunks(body)[: len(body) // 2], "no end": chunks(body)[:-5]}.items():
        with connected(web) as connection:
            connection.sendall(head(f"broken {name}", body, CHUNKED, length=False) + broken)
            connection.shutdown(socket.SHUT_WR)
            assert b"broken_body" in connection.recv(4_096) + connection.recv(4_096)
    assert web.rows("SELECT count(*) FROM delivery WHERE delivery_id LIKE 'broken%'", "inbox") == [(0,)]
