import json

import pytest

from connector.domain import RawRequest
from connector.errors import DefinitionError, RejectedDelivery
from connector.sources.cloudevents import CloudEvents

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "Test", "data": {"email": "a@example.org"}}


def options(origin: str | None, rate: str = "120") -> RawRequest:
    headers = {"webhook-request-rate": rate} if origin is None else {"webhook-request-origin": origin}
    return RawRequest("OPTIONS", "/", headers, b"")


def test_permission_is_given_to_whoever_says_who_asks() -> None:
    reply = CloudEvents().greet(options("events.example.com"), ["t"])
    assert reply is not None and reply.status == 200
    assert dict(reply.headers)["WebHook-Allowed-Origin"] == "events.example.com"
    assert dict(reply.headers)["WebHook-Allowed-Rate"] == "*"


@pytest.mark.parametrize("origin", [None, "", "a\r\nSet-Cookie: b", "ä", "x" * 300])
def test_and_to_nobody_else(origin: str | None) -> None:
    with pytest.raises(RejectedDelivery) as refused:
        CloudEvents().greet(options(origin), ["t"])
    assert refused.value.status == 400


def test_only_listed_origins_where_there_is_a_list() -> None:
    source = CloudEvents({"origins": ["events.example.com"]})
    assert source.greet(options("events.example.com"), []) is not None
    with pytest.raises(RejectedDelivery) as refused:
        source.greet(options("evil.example"), [])
    assert refused.value.status == 401
    with pytest.raises(DefinitionError):
        CloudEvents({"origins": "events.example.com"})


def test_a_delivery_is_no_greeting() -> None:
    assert CloudEvents().greet(RawRequest("POST", "/", {"webhook-request-origin": "e"}, b"{}"), []) is None


@pytest.mark.parametrize("query", ["token=hush", "access_token=hush", "a=b&access_token=hush"])
def test_the_token_in_the_address_has_two_names(query: str) -> None:
    CloudEvents().verify(RawRequest("POST", "/", {}, b"{}", query), ["hush"])
    with pytest.raises(RejectedDelivery):
        CloudEvents().verify(RawRequest("POST", "/", {}, b"{}", query), ["other"])


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
@pytest.mark.parametrize("value", [None, "", 1, []])
def test_what_is_no_event_is_refused(missing: str, value: object) -> None:
    body = json.dumps(EVENT | {missing: value}).encode()
    with pytest.raises(RejectedDelivery) as refused:
        CloudEvents().claim(RawRequest("POST", "/", {"content-type": "application/cloudevents+json"}, body))
    assert refused.value.reason == "no_event"


def test_an_id_is_unique_for_its_source() -> None:
    def id_(source: str) -> str:
        body = json.dumps(EVENT | {"source": source}).encode()
        [claim] = CloudEvents().claim(RawRequest("POST", "/", {"content-type": "application/cloudevents+json"}, body))
        return claim.delivery_id

    assert id_("/a") == id_("/a") != id_("/b")


def test_another_format_and_too_large_a_batch_are_refused() -> None:
    for type_, body, status in (
        ("application/cloudevents+avro", b"", 415),
        ("application/cloudevents-batch+json", json.dumps([EVENT] * 2001).encode(), 413),
        ("application/cloudevents-batch+json", b"{}", 400),
        ("text/plain", b"hello", 415),
    ):
        headers = {"content-type": type_, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "T"}
        with pytest.raises(RejectedDelivery) as refused:
            CloudEvents().claim(RawRequest("POST", "/", headers, body))
        assert refused.value.status == status
