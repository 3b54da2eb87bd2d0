"""A delivery as a record of the topic: the customer key, a packed body, all else in headers."""

from typing import TYPE_CHECKING, Any, NamedTuple

from connector.ports import New, Rec

if TYPE_CHECKING:
    from confluent_kafka import Message

_CLAIM = "claim"
_TOLD = ("source", "delivery_id", "topic", "received_at", "headers")


class Kept(NamedTuple):
    """A record as read: its offset, what it tells, the packed body, or the id of the claim that has it."""

    offset: int
    key: str
    told: dict[str, str]
    packed: bytes
    claim: str | None

    def record(self, body: bytes) -> Rec:
        told = self.told
        return Rec(
            pos=self.offset,
            key=self.key,
            source=told["source"],
            delivery_id=told["delivery_id"],
            topic=told["topic"],
            received_at=int(told["received_at"]),
            headers=told["headers"],
            body=body,
        )


def headers_of(item: New, claim: str | None = None) -> list[tuple[str, bytes]]:
    """The headers of a delivery's record."""
    found = [(name, str(getattr(item, name)).encode("utf-8", "replace")) for name in _TOLD]
    return found if claim is None else [*found, (_CLAIM, claim.encode())]


def kept(message: "Message") -> Kept | None:
    """What a record is to us; None when it is none of ours."""
    headers: Any = message.headers()  # the library says it may be a dict, and makes a list
    try:
        told = {name: value.decode() for name, value in headers or ()}
        key, packed = message.key(), message.value()
        if not isinstance(key, bytes) or not isinstance(packed, bytes) or not told.keys() >= set(_TOLD):
            return None
        int(told["received_at"])
        return Kept(message.offset() or 0, key.decode(), told, packed, told.get(_CLAIM))
    except (AttributeError, UnicodeDecodeError, ValueError):
        return None
