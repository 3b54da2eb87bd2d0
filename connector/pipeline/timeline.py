"""An entry of a person's timeline: something about them changed."""

import itertools
from collections.abc import Mapping
from random import randrange
from typing import Any

import orjson

from connector.clock import Millis
from connector.domain import Json

_SEQUENCE = itertools.count(randrange(2**30))  # noqa: S311  (tells apart two changes of one person in one ms)


def change(person: int, kind: str, data: Mapping[str, Json], now: Millis) -> dict[str, Any]:
    """A row for the timeline; `kind` is created, merged, consent, traits or segment."""
    return {
        "profile_id": person,
        "at": now,
        "seq": next(_SEQUENCE) % 2**31,
        "kind": kind,
        "data": orjson.dumps(data).decode(),
    }
