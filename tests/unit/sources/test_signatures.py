import base64
import hashlib

import pytest

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.sources.shopify import Shopify

BODY = b'{"note":"a\\/b \\u00e9 \xc3\xa9"}'
SECRET = "shpss_ours"


def signed(body: bytes, secret: str) -> str:
    """HMAC-SHA256 by RFC 2104, written out so that the test does not share the code it tests."""
    key = secret.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + body).digest()
    return base64.b64encode(hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()).decode()


def request(body: bytes = BODY, **headers: str) -> RawRequest:
    return RawRequest("POST", "/", {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize("header", ["x_shopify_hmac_sha256", "shopify_hmac_sha256"])
def test_both_spellings_of_the_header(header: str) -> None:
    Shopify().verify(request(**{header: signed(BODY, SECRET)}), [SECRET])


def test_any_of_several_secrets_fits() -> None:
    genuine = request(x_shopify_hmac_sha256=signed(BODY, SECRET))
    Shopify().verify(genuine, ["newest", SECRET])
    Shopify().verify(genuine, [SECRET, "newest"])


def test_an_empty_body_can_be_signed() -> None:
    Shopify().verify(request(b"", x_shopify_hmac_sha256=signed(b"", SECRET)), [SECRET])


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "nonsense",
        signed(BODY, SECRET)[:-4],
        signed(BODY, SECRET) + "AAAA",
        signed(BODY, SECRET).lower(),
        signed(BODY + b"\n", SECRET),
        base64.b64encode(b"").decode(),
        hashlib.sha256(BODY).hexdigest(),
        "ü" * 44,
        "\ud800",
    ],
)
def test_anything_else_is_refused_and_says_where_secrets_are_found(signature: str) -> None:
    with pytest.raises(RejectedDelivery) as refused:
        Shopify().verify(request(x_shopify_hmac_sha256=signature), [SECRET])
    assert refused.value.status == 401
    assert refused.value.reason == "bad_signature"
    assert "client secret" in refused.value.message
    assert "Settings > Notifications" in refused.value.message
    assert SECRET not in refused.value.message
