"""Signatures: how a sender proves that a delivery is its own. Each source has its scheme; the check is one."""

import binascii
import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from connector.domain import RawRequest


class Scheme(NamedTuple):
    """An HMAC of the raw body, sent in the first of `headers` that is there; `decode` makes bytes of its text."""

    headers: tuple[str, ...]
    digest: str
    decode: Callable[[str], bytes]


def base64_bytes(text: str) -> bytes:
    """The bytes that a base64 text stands for; ValueError when it is none."""
    return binascii.a2b_base64(text, strict_mode=True)


def is_genuine(scheme: Scheme, request: RawRequest, secrets: Sequence[str]) -> bool:
    """True when one of `secrets` signed the raw body. Every secret is tried, so that timing does not tell which fits.

    Decoded bytes are compared: two spellings of one base64 text are one signature, and a truncated one is none.
    """
    stated = next((request.headers[name] for name in scheme.headers if name in request.headers), "")
    try:
        signature = scheme.decode(stated)
    except (binascii.Error, ValueError):  # ValueError: characters that are not ASCII
        return False
    fits = [
        hmac.compare_digest(signature, hmac.digest(secret.encode(), request.body, scheme.digest)) for secret in secrets
    ]
    return any(fits)
