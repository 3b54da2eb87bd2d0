"""Signatures: how a sender proves that a delivery is its own. Each source has its scheme; the check is one.

A `Scheme` reads from a request what is stated (signatures, an instant) and which bytes they sign. The raw bytes count:
a body that is parsed and written again is another one.
"""

import binascii
import hmac
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from connector.clock import MINUTE, Millis
from connector.domain import RawRequest
from connector.errors import RejectedDelivery

TOLERANCE: Millis = 5 * MINUTE
"""How old a signature with an instant may be, or how far ahead of our clock: Stripe's and Standard Webhooks' own."""

_MOST_STATED = 16  # signatures in one header: senders state one per key while keys are changed


class Stated(NamedTuple):
    """What a request states: its signatures, the bytes that they sign, and since when."""

    signatures: Sequence[bytes]
    message: bytes
    at: Millis | None = None


class Scheme(NamedTuple):
    """An HMAC. `read` raises ValueError where nothing is stated, `key` where a secret cannot be one."""

    read: Callable[[RawRequest], Stated]
    digest: str = "sha256"
    key: Callable[[str], bytes] = str.encode


def verify(scheme: Scheme, request: RawRequest, secrets: Sequence[str], hint: str) -> None:
    """Returns when one of `secrets` signed the request, and lately; RejectedDelivery 401 with `hint` otherwise."""
    stated = _stated(scheme, request)
    if not _fits(scheme, stated, secrets):
        raise RejectedDelivery(
            f"the signature fits none of this source's secrets. {hint}", status=401, reason="bad_signature"
        )
    refuse_stale(stated.at, request.received_at)


def is_genuine(scheme: Scheme, request: RawRequest, secrets: Sequence[str]) -> bool:
    """True when one of `secrets` signed the request, however long ago."""
    return _fits(scheme, _stated(scheme, request), secrets)


def refuse_stale(at: Millis | None, received_at: Millis, tolerance: Millis = TOLERANCE) -> None:
    """Raises when a signature of that instant is too old to be no replay."""
    if at is not None and abs(received_at - at) > tolerance:
        minutes = tolerance // MINUTE
        raise RejectedDelivery(
            f"the signature is of another time: more than {minutes} minutes from this machine's clock",
            status=401,
            reason="stale_signature",
        )


def _stated(scheme: Scheme, request: RawRequest) -> Stated:
    try:
        return scheme.read(request)
    except ValueError:  # binascii.Error is one
        return Stated((), b"")


def _fits(scheme: Scheme, stated: Stated, secrets: Sequence[str]) -> bool:
    """Every secret is tried on every signature, so that timing does not tell which fits.

    Decoded bytes are compared: two spellings of one base64 text are one signature, and a truncated one is none.
    """
    fits = [
        hmac.compare_digest(signature, hmac.digest(key, stated.message, scheme.digest))
        for key in _keys(scheme, secrets)
        for signature in stated.signatures[:_MOST_STATED]
    ]
    return any(fits)


def _keys(scheme: Scheme, secrets: Sequence[str]) -> list[bytes]:
    keys = []
    for secret in secrets:
        try:
            keys.append(scheme.key(secret))
        except ValueError:
            continue  # a secret that cannot be a key signs nothing
    return keys


# --- what requests state ----------------------------------------------------------------------------------------------


def base64_bytes(text: str) -> bytes:
    """The bytes that a base64 text stands for; ValueError when it is none."""
    return binascii.a2b_base64(text, strict_mode=True)


def hex_bytes(text: str) -> bytes:
    """The bytes that a hexadecimal text stands for; ValueError when it is none."""
    return binascii.a2b_hex(text)


def unix_seconds(text: str) -> Millis:
    """Epoch milliseconds of whole seconds; ValueError for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise ValueError("must be whole seconds since 1970")
    return int(text) * 1000


def body_signed(*headers: str, decode: Callable[[str], bytes] = base64_bytes) -> Callable[[RawRequest], Stated]:
    """A reader of one signature of the raw body, in the first of `headers` that is there."""
    return partial(_read_body_signed, headers, decode)


def _read_body_signed(headers: tuple[str, ...], decode: Callable[[str], bytes], request: RawRequest) -> Stated:
    text = next((request.headers[name] for name in headers if name in request.headers), "")
    return Stated((decode(text),), request.body)


def read_standard_webhook(request: RawRequest) -> Stated:
    """Standard Webhooks 1.0: `v1,<base64>` of `{id}.{timestamp}.{body}`, several with spaces between them."""
    return _standard(request, "v1", base64_bytes)


def read_standard_webhook_v1a(request: RawRequest) -> Stated:
    """The same with `v1a`: Ed25519 signatures, by a key of which the receiver holds the public half."""
    return _standard(request, "v1a", base64_bytes)


def _standard(request: RawRequest, version: str, decode: Callable[[str], bytes]) -> Stated:
    id_ = request.headers.get("webhook-id", "")
    stamp = request.headers.get("webhook-timestamp", "")
    found = []
    for stated in request.headers.get("webhook-signature", "").split(" ")[:_MOST_STATED]:
        kind, _, text = stated.partition(",")
        if kind == version:
            try:
                found.append(decode(text))
            except ValueError:
                continue  # another one may be right
    if not id_:
        raise ValueError("webhook-id is missing")
    return Stated(found, f"{id_}.{stamp}.".encode() + request.body, unix_seconds(stamp))


def standard_webhook_key(secret: str) -> bytes:
    """The key of a `whsec_...` secret; ValueError when it is not base64."""
    return base64_bytes(secret.removeprefix("whsec_"))


def read_stripe(request: RawRequest) -> Stated:
    """`t=1700000000,v1=<hex>,v1=<hex>`, of `{t}.{body}`."""
    stamp, found = "", []
    for part in request.headers.get("stripe-signature", "").split(",")[: _MOST_STATED + 1]:
        name, _, text = part.strip().partition("=")
        if name == "t":
            stamp = text
        elif name == "v1":
            found.append(hex_bytes(text))
    return Stated(found, stamp.encode() + b"." + request.body, unix_seconds(stamp))


def read_stated(
    header: str,
    decode: Callable[[str], bytes],
    prefix: str,
    stamp_header: str | None,
    template: Sequence[str],
    request: RawRequest,
) -> Stated:
    """A signature as an operator describes it: in `header` after `prefix`, over the parts of `template`, which are
    `timestamp`, `body` and what stands between them. With a header of the instant, its age is looked at."""
    text = request.headers.get(header, "")
    if not text.startswith(prefix):
        raise ValueError("the prefix is missing")
    stamp = "" if stamp_header is None else request.headers.get(stamp_header, "")
    parts = {"timestamp": stamp.encode(), "body": request.body}
    message = b"".join(parts[part] if part in parts else part.encode() for part in template)
    at = None if stamp_header is None else unix_seconds(stamp[:-3] if len(stamp) == 13 else stamp)
    return Stated((decode(text.removeprefix(prefix)),), message, at)


STANDARD_WEBHOOKS = Scheme(read_standard_webhook, key=standard_webhook_key)
