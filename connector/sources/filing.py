"""What claims have in common: the id of a delivery whose sender gives none, a customer key found in the raw bytes, and
keys without an address in them."""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

_LONGEST_ID = 200
_MARKS = frozenset("#@")  # what follows a # says that it is a replay; an address may not be logged


def delivery_id(stated: str | None, topic: str, body: bytes) -> str:
    """The sender's own id, else `body:` and a digest: the same words on the same topic are the same delivery."""
    id_ = (stated or "").strip()
    if 0 < len(id_) <= _LONGEST_ID and not _MARKS & set(id_):
        return id_
    digest = blake2b(id_.encode("utf-8", "replace"), digest_size=16)
    digest.update(topic.encode())
    digest.update(body)
    return f"body:{digest.hexdigest()}"


def email_key(address: bytes) -> str:
    """The customer key of somebody known by e-mail alone. Keys are stored and logged, so it is a hash."""
    return f"email:{blake2b(address.lower(), digest_size=12).hexdigest()}"


def key_of(kind: str, value: str) -> str:
    """`kind:value`, as a hash when there is an address in it."""
    return email_key(value.encode("utf-8", "replace")) if "@" in value else f"{kind}:{value[:_LONGEST_ID]}"


def words_id(stated: str, body: bytes) -> str:
    """The id of a delivery whose sender gives the same one to several: the id, and a digest of the words."""
    return f"{''.join(one for one in stated[:100] if one not in _MARKS)}:{blake2b(body, digest_size=12).hexdigest()}"


class Search(NamedTuple):
    """A value that follows `needle`. `bytes.find` skips most of the body; the pattern then looks at a few bytes."""

    kind: str
    needle: bytes
    value: re.Pattern[bytes]


def search(kind: str, needle: bytes, value: bytes) -> Search:
    """A search whose `value` has the value itself as its first group."""
    return Search(kind, needle, re.compile(value))


NUMBER = rb'\s*:\s*"?(\d{1,20})(?!\d)'
TOKEN = rb'\s*:\s*"([^"\\\s]{1,200})"'
ADDRESS = rb'\s*:\s*"\s*([^"\\\s]{1,64}@[^"\\\s]{1,255})\s*"'
"""What may follow the name of a field in JSON."""


def customer_key(body: bytes, searches: Iterable[Search]) -> str | None:
    """`kind:value` of the first search that finds something; an e-mail (kind `email`) as a hash."""
    for one in searches:
        found = _find(body, one)
        if found is None:
            continue
        if one.kind == "email":
            return email_key(found)
        return f"{one.kind}:{found.decode('utf-8', 'replace')}"
    return None


def _find(body: bytes, one: Search) -> bytes | None:
    needle, value = one.needle, one.value
    at = body.find(needle)
    while at >= 0:
        after = at + len(needle)
        if match := value.match(body, after):
            return match[1]
        at = body.find(needle, after)
    return None
