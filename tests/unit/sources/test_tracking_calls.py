"""Requests of the Segment clients: opened, and split so that a bad event harms no other."""

import base64
import gzip
import json
from typing import Any

import pytest

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources.segment_api.calls import LARGEST_EVENT, LARGEST_REQUEST, MOST_EVENTS, Grant, open_call, split

KEY = "wk_server_1"
SERVER, BROWSER = Grant("server"), Grant("browser", "shopify:shop")
EVENT = {"type": "track", "event": "Product Viewed", "userId": "u1", "messageId": "m1"}


def sent(body: Any, path: str = "/v1/batch", **headers: str) -> RawRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawRequest("POST", path, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def claims(body: Any, path: str = "/v1/batch", grant: Grant = SERVER, **headers: str) -> tuple[Claim, ...]:
    return split(open_call(sent(body, path, **headers)), grant)


def refused(body: Any, path: str = "/v1/batch", **headers: str) -> str:
    with pytest.raises(RejectedDelivery) as error:
        claims(body, path, **headers)
    assert error.value.status == 400
    return error.value.reason


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        *((f"/v1/{name}", name) for name in ("identify", "track", "page", "screen", "group", "alias")),
        *((f"/v1/{name[0]}", name) for name in ("identify", "track", "page", "screen", "group", "alias")),
    ],
)
def test_the_path_says_what_is_called(path: str, type_: str) -> None:
    [claim] = claims({"userId": "u1", "messageId": "m1", "type": "other"}, path)
    assert claim.topic == type_
    assert json.loads(claim.body or b"")["type"] == type_


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b"])
def test_a_batch_is_a_delivery_for_each_event(path: str) -> None:
    found = claims({"batch": [EVENT, {**EVENT, "userId": "u2", "messageId": "m2"}]}, path)
    assert [(claim.delivery_id, claim.key, claim.topic) for claim in found] == [
        ("m1", "user:u1", "track"),
        ("m2", "user:u2", "track"),
    ]


def test_where_the_key_may_stand() -> None:
    basic = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    assert open_call(sent({"batch": []}, authorization=basic)).key == KEY
    assert open_call(sent({"batch": [], "writeKey": KEY})).key == KEY
    assert open_call(sent({"batch": [EVENT, {"writeKey": KEY}]})).key == KEY
    assert open_call(sent({"batch": [], "writeKey": "other"}, authorization=basic)).key == KEY
    for nonsense in ("Basic !!", "Basic", "Bearer abc", "Basic " + base64.b64encode(b"\xff:").decode()):
        assert open_call(sent({"batch": []}, authorization=nonsense)).key == ""


def test_a_key_is_never_kept() -> None:
    [single] = claims({**EVENT, "writeKey": KEY}, "/v1/track")
    [batched] = claims({"batch": [{**EVENT, "writeKey": KEY}], "writeKey": KEY})
    assert KEY not in repr(single) + repr(batched)


def test_what_a_batch_says_once_is_said_of_each_event() -> None:
    shared = {"context": {"library": {"name": "x"}, "locale": "fr"}, "sentAt": "2026-11-18T10:00:00Z"}
    [first, second] = claims({"batch": [EVENT, {**EVENT, "context": {"locale": "de"}}], **shared})
    assert json.loads(first.body or b"")["context"] == shared["context"]
    assert json.loads(first.body or b"")["sentAt"] == shared["sentAt"]
    assert json.loads(second.body or b"")["context"] == {"library": {"name": "x"}, "locale": "de"}


def test_whose_word_it_is_goes_with_each_event() -> None:
    [claim] = claims(EVENT, "/v1/track", BROWSER)
    assert claim.headers == {"trust": "browser", "shop": "shopify:shop"}


def test_a_visitor_stays_in_one_partition_and_a_servers_user_too() -> None:
    both = {**EVENT, "anonymousId": "a1"}
    assert claims(both, "/v1/track", BROWSER)[0].key == "anonymous:a1"
    assert claims(both, "/v1/track", SERVER)[0].key == "user:u1"
    assert "@" not in claims({**EVENT, "userId": "ada@example.com"}, "/v1/track")[0].key


def test_without_a_message_id_the_same_words_are_the_same_event() -> None:
    nameless = {"type": "track", "event": "A", "userId": "u1"}
    [first] = claims({"batch": [nameless], "sentAt": "2026-11-18T10:00:00Z"})
    [again] = claims({"batch": [nameless], "sentAt": "2026-11-18T10:00:00Z"})
    [later] = claims({"batch": [nameless], "sentAt": "2026-11-18T10:00:01Z"})
    assert first.delivery_id == again.delivery_id != later.delivery_id
    for odd in (7, None, "", " ", "a#b", "a\nb", "x" * 300):
        assert claims({**nameless, "messageId": odd}, "/v1/track")[0].delivery_id.startswith("body:")


def test_a_bad_event_harms_no_other() -> None:
    odd = b'{"userId": "u1", "n": NaN}, {"userId": "\\ud800"}, {"x": 1e999}, 7, null, [1], "x", {"y": %s}'
    body = b'{"batch": [%s, ' + odd + b", %s]}"
    good = json.dumps(EVENT).encode()
    found = claims(body % (good, b"9" * 6000, good))
    assert len(found) == 10
    assert [claim.topic for claim in found] == ["track", *["unknown"] * 8, "track"]
    assert found[0].body == found[-1].body


def test_an_event_of_a_batch_that_is_too_large_harms_no_other() -> None:
    found = claims({"batch": [EVENT, {**EVENT, "big": "x" * LARGEST_EVENT}]})
    assert len(found) == 2


def test_gzip_whatever_the_content_type_says() -> None:
    body = gzip.compress(json.dumps({"batch": [EVENT]}).encode())
    for type_ in ("application/json", "application/x-www-form-urlencoded", "text/plain", ""):
        assert len(claims(body, content_encoding="gzip", content_type=type_)) == 1


def test_a_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    assert len(bomb) < LARGEST_REQUEST
    assert refused(bomb, content_encoding="gzip") == "too_large"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"{" * 100_000, "not_json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not_json"),
        (b"[" * 100_000 + b"]" * 100_000, "not_json"),
        (b"[]", "not_an_object"),
        (b"7", "not_an_object"),
        ({}, "no_batch"),
        ({"batch": {}}, "no_batch"),
        ({"batch": [{}] * (MOST_EVENTS + 1)}, "too_many_events"),
        (b" " * (LARGEST_REQUEST + 1), "too_large"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_opened_must_not_be_sent_again(body: Any, reason: str) -> None:
    assert refused(body) == reason


def test_a_single_event_that_is_too_large() -> None:
    assert refused({**EVENT, "big": "x" * LARGEST_EVENT}, "/v1/track") == "too_large"


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("br", b"{}", "content_encoding"),
        ("gzip, gzip", b"{}", "content_encoding"),
        ("gzip", b"{}", "not_gzip"),
        ("gzip", gzip.compress(b'{"batch":[]}', mtime=0)[:-6], "not_gzip"),
    ],
)
def test_encodings(encoding: str, body: bytes, reason: str) -> None:
    assert refused(body, content_encoding=encoding) == reason


def test_an_empty_batch_is_fine() -> None:
    assert claims({"batch": []}) == ()
