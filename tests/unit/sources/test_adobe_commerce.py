import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from connector.domain import RawRequest
from connector.errors import DefinitionError, RejectedDelivery
from connector.sources.adobe_commerce import AdobeCommerce

KEY = rsa.generate_private_key(65537, 2048)
PEM = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)
OURS = AdobeCommerce("ours")


def signed(client: str, header: str = "x-adobe-digital-signature-1") -> RawRequest:
    body = json.dumps({"event_id": "1", "event": {"data": {"value": {}}}, "recipient_client_id": client}).encode()
    signature = base64.b64encode(KEY.sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()
    return RawRequest("POST", "/", {header: signature}, body)


@pytest.mark.parametrize("header", ["x-adobe-digital-signature-1", "x-adobe-digital-signature-2"])
def test_either_signature_is_enough(header: str) -> None:
    OURS.verify(signed("ours", header), ["a-token", PEM])


def test_what_was_signed_for_another_customer_of_adobes_is_not_for_us() -> None:
    for source in (OURS, AdobeCommerce()):
        with pytest.raises(RejectedDelivery) as refused:
            source.verify(signed("theirs"), [PEM])
        assert refused.value.status == 401


def test_a_key_is_no_token_and_a_changed_body_is_not_signed() -> None:
    genuine = signed("ours")
    for request in (
        replace(genuine, body=genuine.body + b" "),
        replace(genuine, headers={"x-storecue-token": PEM}),
        replace(genuine, headers={"x-adobe-digital-signature-1": "%%%"}),
        replace(genuine, headers={}),
    ):
        with pytest.raises(RejectedDelivery):
            OURS.verify(request, [PEM, "-----BEGIN NONSENSE"])
    OURS.verify(replace(genuine, headers={}, query="token=hush"), [PEM, "hush"])


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("challenge=8ec8d794-e0ab-42df-9017-e3dada8e84f7", b"8ec8d794-e0ab-42df-9017-e3dada8e84f7"),
        ("token=t&challenge=abc", b"abc"),
        ("challenge=%3Cscript%3E", None),
        ("challenge=", None),
        ("", None),
        ("challenge=" + "x" * 3000, None),
    ],
)
def test_the_challenge_comes_back_as_it_is(query: str, answer: bytes | None) -> None:
    reply = OURS.greet(RawRequest("GET", "/", {}, b"", query), [])
    assert (None if reply is None else reply.body) == answer
    assert OURS.greet(RawRequest("POST", "/", {}, b"", query), []) is None


def test_options_are_checked() -> None:
    with pytest.raises(DefinitionError) as wrong:
        OURS.configured({"client": "x"})
    assert wrong.value.pointer == "/client"
