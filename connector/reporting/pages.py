"""Pages of a list: read by key and not by offset, so that a page costs the same wherever it lies."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from connector.domain import Json
from connector.errors import ConnectorError

Row = dict[str, Json]
"""One object of a report; instants are epoch milliseconds UTC."""

Key = tuple[int | str, ...]

_MAX_INT = 2**63 - 1  # beyond it SQLite and PostgreSQL have no integer


class BadCursor(ConnectorError):
    """The caller must act: a cursor that no list of ours has made."""

    reason = "cursor"


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. `next` is the cursor of the part that follows, None at the end."""

    items: Sequence[Row]
    next: str | None = None


def cut(rows: Sequence[Row], limit: int, key: Callable[[Row], Key]) -> Page:
    """The page of `rows`, which were read up to one more than `limit`; `key` is what the list is sorted by."""
    if len(rows) <= limit:
        return Page(rows)
    return Page(rows[:limit], encode(key(rows[limit - 1])))


def encode(key: Key) -> str:
    """The cursor that continues after `key`."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def decode(cursor: str, *types: type) -> Key:
    """The key inside a cursor, checked to be of these types. Raises BadCursor."""
    try:
        key = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error) as error:
        raise BadCursor("this is not a cursor") from error
    if not isinstance(key, list) or [type(part) for part in key] != list(types):
        raise BadCursor("this cursor belongs to another list")
    if any(isinstance(part, int) and abs(part) > _MAX_INT for part in key):
        raise BadCursor("this is not a cursor")
    return tuple(key)
