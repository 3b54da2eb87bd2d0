"""Segment and RudderStack as senders: their webhook destinations send the calls of the Segment spec as they are.

What comes directly from their clients is the kind `segment_api`; both mean the same.
"""

import json
from collections.abc import Sequence
from typing import Any

import orjson

from connector.domain import Delivery, Identifier, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Claim
from connector.sources import signatures
from connector.sources.contacts import read_email
from connector.sources.documents import json_bytes, json_object
from connector.sources.filing import delivery_id, key_of
from connector.sources.generic import verifier
from connector.sources.segment_api.calls import BATCH, Call, Grant, split
from connector.sources.segment_api.meaning import meaning
from connector.sources.signatures import Scheme, Stated, hex_bytes

_ERASE = "delete"
_MOST = 4000  # Segment's largest batch
# Numbers as texts: nothing is calculated with them, and a number of a million digits takes minutes to read.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def _read_signature(request: RawRequest) -> Stated:
    """`X-Signature` is the hexadecimal HMAC of the event; of a batch, of its first event alone."""
    signature = hex_bytes(request.headers.get("x-signature", ""))
    if request.body.lstrip()[:1] != b"[":
        return Stated((signature,), request.body)
    return Stated((signature,), first_element(request.body))


def first_element(body: bytes) -> bytes:
    """The raw text of the first item of a JSON list. ValueError when there is none: written anew it would differ."""
    text = body.decode()
    start = text.index("[") + 1
    start += len(text[start : start + 1000]) - len(text[start : start + 1000].lstrip())
    try:
        _, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text[start:end].encode()


_SIGNED = Scheme(_read_signature, "sha1")
_HINT = "Segment shows it as Shared Secret in the settings of the Webhooks destination"


class Segment:
    """The source of kind `segment`: the Webhooks destination, classic and actions."""

    kind = "segment"

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret signed the event, or the first of a batch; RejectedDelivery 401 otherwise."""
        signatures.verify(_SIGNED, request, secrets, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each call. RejectedDelivery 400 for what is no call."""
        try:
            document: Any = orjson.loads(request.body)
        except orjson.JSONDecodeError as fault:
            raise RejectedDelivery(f"the body is not JSON: {fault}", reason="not_json") from None
        events = document if type(document) is list else [document]
        if len(events) > _MOST:
            raise RejectedDelivery(f"a batch may have {_MOST} events", status=413, reason="too_many_events")
        claims: list[Claim] = []
        for event in events:
            if type(event) is dict and event.get("type") == _ERASE:
                claims.append(_erasure(event))
            else:
                if type(event) is dict and "timestamp" in event:
                    event.pop("sentAt", None)  # the clock's skew has been corrected on the way
                claims += split(Call(BATCH, "", {"batch": [event]}), Grant("server"))
        return tuple(claims)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the call means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        if delivery.topic != _ERASE:
            return meaning(delivery, store)
        user = json_object(delivery.body).get("userId")
        if type(user) not in (str, int) or not str(user).strip():
            raise UnprocessableEvent("/userId: is missing", reason="bad_id")
        named = str(user).strip()
        if email := read_email(named):
            who = Identifier("email", email)
        else:
            who = Identifier("customer_id", f"{delivery.source}:{named[:255]}")
        return Normalised(identifiers=(who,), privacy="erase")


def _erasure(event: dict[str, Any]) -> Claim:
    body = json_bytes(event)
    id_ = delivery_id(event.get("messageId") if type(event.get("messageId")) is str else None, _ERASE, body)
    return Claim(id_, _ERASE, key_of("user", str(event.get("userId"))), {}, body)


class RudderStack(Segment):
    """The source of kind `rudderstack`: the webhook destination, which sends a token in a header and signs nothing."""

    kind = "rudderstack"

    def __init__(self) -> None:
        self._verify = verifier("token")

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret is the token; RejectedDelivery 401 otherwise."""
        self._verify(request, secrets)
