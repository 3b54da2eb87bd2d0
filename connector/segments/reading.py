"""Reading a rule as written: where we are in it, and what to say when it is wrong."""

import difflib
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from connector.clock import Millis, parse_duration
from connector.domain import Json, StoreInfo
from connector.errors import DefinitionError


class Place(NamedTuple):
    """A JSON pointer into the segments as written, with the store they belong to and the segments there are."""

    pointer: str
    store: StoreInfo
    segments: Collection[str]

    def at(self, key: str | int) -> "Place":
        """The place of one key or item."""
        return self._replace(pointer=f"{self.pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")

    def wrong(self, message: str) -> DefinitionError:
        """The error that says what would be right here."""
        return DefinitionError(message, pointer=self.pointer)


def nearest(word: str, known: Collection[str]) -> str:
    """A hint: the known word that looks most like this one, else all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"use one of: {', '.join(known)}"


def mapping(place: Place, value: Json, known: Collection[str], what: str) -> Mapping[str, Json]:
    """The mapping that stands here, all of its keys known."""
    if not isinstance(value, Mapping):
        raise place.wrong(f"{what} is a mapping with keys such as {', '.join(list(known)[:3])}")
    for key in value:
        if key not in known:
            raise place.at(key).wrong(f"{key!r} is not known in {what}: {nearest(str(key), known)}")
    return value


def name(place: Place, value: Json, what: str) -> str:
    """The non-empty text that stands here. A double quote or NUL cannot be part of a JSON path, so names have none."""
    if not isinstance(value, str) or not value or '"' in value or "\0" in value or not value.isprintable():
        raise place.wrong(f"{what} is a text, without double quotes")
    return value


def duration(place: Place, value: Json) -> Millis:
    """The length of time that stands here, in milliseconds."""
    try:
        return parse_duration(str(value))
    except ValueError:
        raise place.wrong(f"{value!r} is not a duration: write such as 30m, 48h, 7d or 2w") from None


def number(place: Place, value: Json) -> int | float:
    """The finite number that stands here."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise place.wrong(f"{value!r} is not a number: write such as 3 or 19.90")
    return value
