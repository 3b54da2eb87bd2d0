"""Calls as they go over a real socket: retries, limits of patience, nothing secret told."""

import contextlib
import gzip
import json
import logging
import socket
import threading
import traceback
from email.utils import formatdate
from typing import Any

import pytest

from adapters import connection
from adapters.destination import Settings
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized
from adapters.http import LONGEST_WAIT, TRIES, Answer, Fault, Http, Vendor, credential, judge, parse_retry_after

NOW = 1_763_719_200.0
KEY = "pk_a-very-secret-key"


def opened(clock: Any, address: str, **settings: Any) -> Http:
    def say(answer: Answer, now: float) -> DeliveryError:
        return judge(answer, now, str(answer.data.get("message", "")))

    vendor = Vendor("Vendor", "https://vendor.example", {"Authorization": f"Bearer {KEY}"}, (KEY,), say, 4, {})
    return Http(vendor, Settings({}, base_url=address, **{"allow_insecure": True, **settings}), clock)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("+3", 3.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1000000000", LONGEST_WAIT),
        ("9" * 400, LONGEST_WAIT),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        ("Fri, 99 Foo 2026", None),
    ],
)
def test_retry_after_in_every_form(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (302, Misconfigured, "redirected"),
        (400, Rejected, "rejected"),
        (401, Unauthorized, "unauthorized"),
        (403, Unauthorized, "missing_scope"),
        (404, Rejected, "not_found"),
        (408, Transient, "timed_out"),
        (410, Misconfigured, "retired_version"),
        (413, Rejected, "too_large"),
        (418, Rejected, "rejected"),
        (429, Transient, "rate_limited"),
        (500, Transient, "unavailable"),
        (524, Transient, "unavailable"),
    ],
)
def test_what_a_status_means(status: int, error: type[DeliveryError], reason: str) -> None:
    told = judge(Answer(status, {}, b"", {}), NOW, "words")
    assert (type(told), told.reason, told.message) == (error, reason, f"{status}: words")


def test_a_vendors_table_and_hint_come_before_the_general_ones_and_retry_after_before_both() -> None:
    faults = {409: Fault(Transient, "locked", 4.0)}
    plain = judge(Answer(409, {}, b"", {}), NOW, "", faults=faults)
    hinted = judge(Answer(409, {}, b"", {}), NOW, "", faults=faults, retry_after=9.0)
    told = judge(Answer(409, {"retry-after": "3"}, b"", {}), NOW, "", faults=faults, retry_after=9.0)
    assert [getattr(e, "retry_after", None) for e in (plain, hinted, told)] == [4.0, 9.0, 3.0]


def test_a_call_goes_out_as_json_on_one_kept_connection(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (200, {"Content-Encoding": "gzip"}, gzip.compress(b'{"ok": [1]}'))
    http = opened(clock, loopback.url)
    for _ in range(3):
        answer = http.call("POST", "/a", body={"name": "Zoë"}, query={"filter": 'any(email,["a+b@x.io"])'})
        assert answer.at("ok", 0) == 1
    http.close()
    assert loopback.connections == 1
    assert json.loads(loopback.seen[0].body) == {"name": "Zoë"}
    assert loopback.seen[0].path == "/a?filter=any(email,%5B%22a%2Bb%40x.io%22%5D)"
    assert loopback.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_neither_proxies_nor_netrc_nor_cookies_play_a_part(
    loopback: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    loopback.answer = lambda seen: (200, {"Set-Cookie": "session=1; Path=/"}, b"{}")
    http = opened(clock, loopback.url)
    http.call("GET", "/a")
    http.call("GET", "/b")
    http.close()
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in loopback.seen)
    assert all("cookie" not in seen.headers for seen in loopback.seen)


def test_a_redirect_is_not_followed(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (301, {"Location": f"{loopback.url}/elsewhere"}, b"")
    http = opened(clock, loopback.url)
    with pytest.raises(Misconfigured):
        http.call("GET", "/a")
    http.close()
    assert [seen.path for seen in loopback.seen] == ["/a"]


def test_short_waits_are_spent_here_and_never_shorter_than_told(loopback: Any, clock: Any) -> None:
    answers = [(429, {"Retry-After": "2"}, b""), (503, {}, b""), (200, {}, b"{}")]
    loopback.answer = lambda seen: answers.pop(0)
    http = opened(clock, loopback.url)
    assert http.call("GET", "/a").status == 200
    http.close()
    assert clock.slept[0] >= 2.0
    assert 0 < sum(clock.slept) < 6


def test_it_gives_up_after_a_few_tries(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (500, {}, b"")
    http = opened(clock, loopback.url)
    with pytest.raises(Transient) as caught:
        http.call("GET", "/a")
    http.close()
    assert (len(loopback.seen), caught.value.reason) == (TRIES, "unavailable")


@pytest.mark.parametrize(("told", "wait"), [("30", 30.0), ("1000000000", LONGEST_WAIT)])
def test_a_long_wait_is_the_callers_and_nobody_calls_meanwhile(
    loopback: Any, clock: Any, told: str, wait: float
) -> None:
    loopback.answer = lambda seen: (429, {"Retry-After": told}, b"")
    http = opened(clock, loopback.url)
    for _ in range(2):
        with pytest.raises(Transient) as caught:
            http.call("GET", "/a")
        assert (caught.value.reason, caught.value.retry_after) == ("rate_limited", wait)
    http.close()
    assert (len(loopback.seen), clock.slept) == (1, [])


def test_a_lost_answer_is_asked_for_again_with_the_same_body(loopback: Any, clock: Any) -> None:
    answers = [None, (200, {}, b"{}")]
    loopback.answer = lambda seen: answers.pop(0)
    http = opened(clock, loopback.url)
    http.call("POST", "/a", body={"unique_id": "1"})
    http.close()
    assert [seen.body for seen in loopback.seen] == [b'{"unique_id":"1"}'] * 2


def test_a_lost_answer_that_may_not_be_repeated_is_told_as_unknown(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: None
    http = opened(clock, loopback.url)
    with pytest.raises(Rejected) as caught:
        http.call("POST", "/a", body={}, repeatable=False)
    http.close()
    assert (caught.value.reason, len(loopback.seen)) == ("unknown_result", 1)


def test_a_timeout_is_not_repeated_at_once(loopback: Any, clock: Any) -> None:
    release = threading.Event()

    def slow(seen: Any) -> tuple[int, dict[str, str], bytes]:
        release.wait(5)
        return 200, {}, b"{}"

    loopback.answer = slow
    http = opened(clock, loopback.url, read_timeout=0.1)
    with pytest.raises(Transient) as caught:
        http.call("PUT", "/a", body={})
    with pytest.raises(Rejected) as unknown:
        http.call("POST", "/b", body={}, repeatable=False)
    release.set()
    http.close()
    assert (caught.value.reason, caught.value.retry_after) == ("no_answer", 5.0)
    assert unknown.value.reason == "unknown_result"
    assert [seen.path for seen in loopback.seen] == ["/a", "/b"]


def raw_vendor(*pieces: bytes, pause: float = 0.0) -> tuple[str, threading.Event, list[bytes]]:
    """A vendor that answers every connection with these bytes, `pause` seconds apart, and then waits to be released."""
    listener = socket.create_server(("127.0.0.1", 0))
    released, asked = threading.Event(), []

    def serve() -> None:
        with listener:
            while not released.is_set():
                peer, _ = listener.accept()
                with peer:
                    asked.append(peer.recv(65536))
                    for piece in pieces:
                        if released.wait(pause):
                            return
                        with contextlib.suppress(OSError):
                            peer.sendall(piece)
                    if pause:
                        released.wait(5)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", released, asked


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("pieces", [[HEAD, b'{"a"'], [HEAD, *[b" "] * 1000]], ids=["stalls", "drips"])
def test_an_answer_that_never_ends_is_a_timeout(pieces: list[bytes], clock: Any) -> None:
    url, released, asked = raw_vendor(*pieces, pause=0.02)
    http = opened(clock, url, read_timeout=0.1)
    with pytest.raises(Transient) as caught:
        http.call("GET", "/a")
    released.set()
    http.close()
    assert (caught.value.reason, caught.value.retry_after, len(asked)) == ("no_answer", 5.0, 1)


@pytest.mark.parametrize(
    "pieces",
    [[HEAD, b"{}"], [b"HTTP/1.1 200 OK\r\nContent-Lengt"], [b"HTTP/1.1 200 OK"], [HEAD[: HEAD.index(b": ") + 1]]],
    ids=["body", "head", "first line", "value"],
)
def test_half_an_answer_is_no_answer(clock: Any, pieces: list[bytes]) -> None:
    url, released, asked = raw_vendor(*pieces)
    http = opened(clock, url)
    with pytest.raises(Rejected) as unknown:
        http.call("POST", "/a", body={}, repeatable=False)
    released.set()
    http.close()
    assert (unknown.value.reason, len(asked)) == ("unknown_result", 1)


def test_nobody_listening_is_unreachable_and_safe_to_repeat(clock: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    http = opened(clock, f"http://127.0.0.1:{port}")
    with pytest.raises(Transient) as caught:
        http.call("POST", "/a", body={}, repeatable=False)
    http.close()
    assert caught.value.reason == "unreachable"
    assert len(clock.slept) == TRIES - 1


def test_a_name_that_resolves_to_a_private_address_gets_not_a_byte(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [place])
        http = opened(clock, f"https://vendor.example:{port}", allow_insecure=False)
        with pytest.raises(Misconfigured, match="allow_insecure"):
            http.call("GET", "/a")
        http.close()
        listener.settimeout(1)
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(1) == b""


def test_an_answer_that_is_no_json_is_unreadable_and_not_asked_for_again(loopback: Any, clock: Any) -> None:
    loopback.answer = lambda seen: (200, {}, b"<html>please log in to the hotel</html>")
    http = opened(clock, loopback.url)
    with pytest.raises(Transient) as caught:
        http.call("GET", "/a")
    http.close()
    assert (caught.value.reason, len(loopback.seen)) == ("unreadable_answer", 1)


@pytest.mark.parametrize("data", [{}, {"data": []}, {"data": None}, []])
def test_an_answer_without_the_value_is_unreadable(data: Any) -> None:
    with pytest.raises(Transient, match="data/0/id"):
        Answer(200, {}, b"", data).at("data", 0, "id")


def test_an_endless_answer_is_cut_off(loopback: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MAX_ANSWER", 1_000_000)
    loopback.answer = lambda seen: (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 5_000_000))
    http = opened(clock, loopback.url)
    with pytest.raises(Transient) as caught:
        http.call("GET", "/a")
    http.close()
    assert caught.value.reason == "unreadable_answer"


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_what_json_cannot_say_is_rejected_before_it_is_sent(loopback: Any, clock: Any, value: Any) -> None:
    http = opened(clock, loopback.url)
    with pytest.raises(Rejected) as caught:
        http.call("POST", "/a", body={"value": value})
    http.close()
    assert (caught.value.reason, loopback.seen) == ("unencodable", [])


def test_the_key_is_in_no_message_no_log_no_repr_no_traceback(
    loopback: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = json.dumps({"message": f"the key {KEY} is not known"}).encode()
    answers = [(401, {}, told), None, None, None, (200, {}, told)]
    loopback.answer = lambda seen: answers.pop(0)
    http = opened(clock, loopback.url)
    texts = [repr(http)]
    for _ in range(2):
        try:
            http.call("GET", "/a")
        except DeliveryError as error:
            texts += [repr(error), str(error), "".join(traceback.format_exception(error))]
    answer = http.call("GET", "/a")
    http.close()
    texts += [repr(answer), caplog.text, repr(Settings({"api_key": KEY}))]
    assert len(loopback.seen) == 5
    assert "[redacted]" in texts[1]
    assert not [text for text in texts if KEY in text]


@pytest.mark.parametrize("key", ["", "pk two", "pk_\n", "pk_é", "pk\r\nX-Evil: 1"])
def test_a_key_that_cannot_stand_in_a_header_is_named_but_not_quoted(key: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        credential(Settings({"api_key": key}), "api_key")
    assert "api_key" in str(caught.value)
    assert not key or key not in str(caught.value)


def test_no_call_begins_when_the_account_may_soon_be_another_s(clock: Any, loopback: Any) -> None:
    left = [5.0]
    loopback.answer = lambda seen: (200, {}, b"{}")
    http = opened(clock, loopback.url, left=lambda: left[0])
    assert http.call("GET", "/one").status == 200
    left[0] = 0.9
    with pytest.raises(Transient) as caught:
        http.call("GET", "/two")
    assert caught.value.reason == "stood_back"
    assert [seen.path for seen in loopback.seen] == ["/one"]
