"""Every scheme on vectors of its own, made with hashlib alone, and on published ones where their folder is there."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.sources import signatures
from connector.sources.signatures import STANDARD_WEBHOOKS, Scheme, Stated, body_signed, hex_bytes
from tests.published import PAYLOADS, PUBLISHED

AT = 1_795_255_205
BODY = b'{"note":"a\\/b \xc3\xa9"}'
STANDARD_KEY = b"0123456789abcdef0123456789abcdef"
STANDARD_SECRET = "whsec_" + base64.b64encode(STANDARD_KEY).decode()


def hmac_of(key: bytes, message: bytes, digest: str = "sha256") -> bytes:
    """By RFC 2104, written out so that the test does not share the code it tests."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.new(digest, bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.new(digest, bytes(b ^ 0x5C for b in padded) + inner).digest()


def standard(at: int = AT, id_: str = "msg_1", body: bytes = BODY, key: bytes = STANDARD_KEY) -> RawRequest:
    signature = base64.b64encode(hmac_of(key, f"{id_}.{at}.".encode() + body)).decode()
    headers = {"webhook-id": id_, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}
    return RawRequest("POST", "/", headers, body, received_at=AT * 1000)


def stripe(at: int = AT, secret: str = "whsec_ours", body: bytes = BODY) -> RawRequest:
    signature = hmac_of(secret.encode(), f"{at}.".encode() + body).hex()
    return RawRequest("POST", "/", {"stripe-signature": f"t={at},v0=00,v1={signature}"}, body, received_at=AT * 1000)


CASES = {
    "standard webhooks": (STANDARD_WEBHOOKS, standard, STANDARD_SECRET),
    "stripe": (Scheme(signatures.read_stripe), stripe, "whsec_ours"),
}
every_case = pytest.mark.parametrize("name", CASES)


def refused(scheme: Scheme, request: RawRequest, secrets: list[str]) -> str:
    with pytest.raises(RejectedDelivery) as error:
        signatures.verify(scheme, request, secrets, "Look there.")
    assert error.value.status == 401
    assert not any(secret in error.value.message for secret in secrets if secret)
    return error.value.reason


@every_case
def test_what_a_scheme_accepts(name: str) -> None:
    scheme, made, secret = CASES[name]
    signatures.verify(scheme, made(), [secret], "")
    signatures.verify(scheme, made(), ["bmV3", secret], "")


@every_case
@pytest.mark.parametrize("seconds", [-301, 301, -100_000, AT])
def test_a_signature_of_another_time_may_be_a_replay(name: str, seconds: int) -> None:
    scheme, made, secret = CASES[name]
    assert refused(scheme, made(AT - seconds), [secret]) == "stale_signature"


@every_case
@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_are_not_another_time(name: str, seconds: int) -> None:
    scheme, made, secret = CASES[name]
    signatures.verify(scheme, made(AT - seconds), [secret], "")


@every_case
def test_what_a_scheme_refuses(name: str) -> None:
    scheme, made, secret = CASES[name]
    genuine = made()
    for forged in (replace(genuine, body=BODY + b" "), replace(genuine, headers={})):
        assert refused(scheme, forged, [secret]) == "bad_signature"
    for secrets in ([], ["bm90IG91cnM="], [""], ["not base64 ä"]):
        assert refused(scheme, genuine, secrets) == "bad_signature"
    for header in genuine.headers:
        for value in ("", "ä", "\ud800", "9" * 5000, "v1,", "t=,v1=", genuine.headers[header][:-4]):
            bent = replace(genuine, headers={**genuine.headers, header: value})
            assert refused(scheme, bent, [secret]) == "bad_signature"


def test_one_of_several_stated_signatures_fits() -> None:
    genuine = standard()
    stated = genuine.headers["webhook-signature"]
    for several in (f"v1,AAAA {stated}", f"v2,x {stated} v1a,zzz", f"v1,%%% {stated}"):
        headers = {**genuine.headers, "webhook-signature": several}
        signatures.verify(STANDARD_WEBHOOKS, replace(genuine, headers=headers), [STANDARD_SECRET], "")
    old = {**genuine.headers, "webhook-signature": stated.replace("v1,", "v2,")}
    assert refused(STANDARD_WEBHOOKS, replace(genuine, headers=old), [STANDARD_SECRET]) == "bad_signature"


def test_a_header_of_a_thousand_signatures_is_read_no_further_than_the_first_few() -> None:
    genuine = standard()
    stated = " ".join(["v1,AAAA"] * 1000 + [genuine.headers["webhook-signature"]])
    headers = {**genuine.headers, "webhook-signature": stated}
    assert refused(STANDARD_WEBHOOKS, replace(genuine, headers=headers), [STANDARD_SECRET]) == "bad_signature"


def test_a_scheme_is_a_reader_a_digest_and_a_key() -> None:
    scheme = Scheme(body_signed("x-signature", decode=hex_bytes), "sha1")
    request = RawRequest("POST", "/", {"x-signature": hmac_of(b"s", BODY, "sha1").hex()}, BODY)
    signatures.verify(scheme, request, ["s"], "")
    assert not signatures.is_genuine(scheme._replace(digest="sha256"), request, ["s"])
    assert not signatures.is_genuine(Scheme(lambda _: Stated((), b"")), request, ["s"])


@pytest.mark.skipif(not PUBLISHED, reason="the published payloads are not beside this checkout")
@pytest.mark.parametrize("scheme", ["standard_webhooks", "bigcommerce"])
def test_published_vectors(scheme: str) -> None:
    schemes = {"standard_webhooks": STANDARD_WEBHOOKS, "bigcommerce": STANDARD_WEBHOOKS._replace(key=str.encode)}
    vectors = json.loads((PAYLOADS / "hmac_vectors.json").read_text())[scheme]
    assert vectors
    for vector in vectors:
        headers = {
            "webhook-id": vector["webhook_id"],
            "webhook-timestamp": str(vector["webhook_timestamp"]),
            "webhook-signature": vector["signature"],
        }
        received_at = vector["webhook_timestamp"] * 1000
        request = RawRequest("POST", "/", headers, vector["body"].encode(), received_at=received_at)
        assert signatures.is_genuine(schemes[scheme], request, [vector["secret"]]) is vector["valid"], vector
