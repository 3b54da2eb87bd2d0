"""The signature of Segment's webhook destination: of a batch it covers the raw text of the first event."""

import hmac
import json
import time

import pytest

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.sources.segment import Segment, first_element
from tests.published import PAYLOADS, PUBLISHED

SECRET = "sharedsecretvalue"


def request(body: bytes, signed: bytes) -> RawRequest:
    return RawRequest("POST", "/", {"x-signature": hmac.new(SECRET.encode(), signed, "sha1").hexdigest()}, body)


@pytest.mark.parametrize(
    "first",
    [
        b'{"type":"track","event":"a,b]}\\"","properties":{"n":1e400,"l":[1,[2]],"s":"\\u00e9 \xc3\xa9 \\/"}}',
        b'{"n":' + b"9" * 6000 + b"}",
        b"{}",
        b'"text"',
    ],
)
@pytest.mark.parametrize("between", [(b"[", b"]"), (b" [ \n", b" ]"), (b"[", b',{"type":"page"}]')])
def test_the_first_event_of_a_batch_is_what_is_signed(first: bytes, between: tuple[bytes, bytes]) -> None:
    body = between[0] + first + between[1]
    assert first_element(body) == first
    Segment().verify(request(body, first), ["newer", SECRET])
    with pytest.raises(RejectedDelivery):
        Segment().verify(request(body, body), [SECRET])


@pytest.mark.parametrize("body", [b"[", b"[]", b"[,", b"[" * 100_000, b"[\xff]", b"[tru"])
def test_a_batch_without_a_first_event_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedDelivery) as refused:
        Segment().verify(request(body, b""), [SECRET])
    assert refused.value.status == 401


def test_a_large_batch_is_verified_quickly() -> None:
    event = json.dumps({"type": "track", "event": "E", "userId": "u", "properties": {"x": "y" * 1000}}).encode()
    body = b"[" + b",".join([event] * 4000) + b"]"
    started = time.process_time()
    Segment().verify(request(body, event), [SECRET])
    assert time.process_time() - started < 0.5


@pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")
def test_published_vector() -> None:
    [vector] = json.loads((PAYLOADS / "hmac_vectors.json").read_text())["segment_webhook"]
    headers = {vector["header"].lower(): vector["signature"]}
    Segment().verify(RawRequest("POST", "/", headers, vector["body"].encode()), [vector["secret"]])
