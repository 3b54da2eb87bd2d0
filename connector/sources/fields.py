"""Schemas of vendors' JSON: marshmallow declares the used fields, a fast twin reads them, marshmallow explains faults.

`Schema.load` costs about 300 us for an order, more than all the rest of its way. So a field is one plain function
(`read`), the twin calls these functions in a flat loop, and only a document that the twin refuses goes through
marshmallow, which finds every fault and where it is. Both run the same functions and cannot disagree.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from connector.clock import Millis
from connector.errors import UnprocessableEvent
from connector.sources.instants import read_instant


class Unreadable(ValueError):
    """A value is not what its field holds. `reason` becomes that of the UnprocessableEvent."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Value(fields.Field[Any]):
    """A field made of one function: gets a JSON value that is not null, raises Unreadable."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__(allow_none=True)
        self.read = read

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        try:
            return self.read(value)
        except Unreadable as fault:
            raise ValidationError(str(fault)) from fault


class Part(fields.Nested):
    """An object within the object."""

    def __init__(self, schema: type[Schema], *, allow_none: bool = True) -> None:
        super().__init__(schema, unknown=EXCLUDE, allow_none=allow_none)
        self.read = Reader(schema).read


class Parts(fields.List[Any]):
    """A list of objects of which the first `most` are read."""

    def __init__(self, schema: type[Schema], *, most: int) -> None:
        super().__init__(Part(schema, allow_none=False), allow_none=True)
        self.most = most
        self._read_one = Reader(schema).read

    def read(self, value: Any) -> list[dict[str, Any]]:
        if type(value) is not list:
            raise Unreadable("bad_type", "must be a list")
        return [self._read_one(one) for one in value[: self.most]]

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return super()._deserialize(value[: self.most] if isinstance(value, list) else value, attr, data, **kwargs)


class Reader:
    """Reads documents by a schema. Built once, at import."""

    def __init__(self, schema: type[Schema]) -> None:
        self._schema = schema(unknown=EXCLUDE)
        self._fields: tuple[tuple[str, Callable[[Any], Any]], ...] = tuple(
            (name, field.read) for name, field in self._schema.fields.items() if isinstance(field, Value | Part | Parts)
        )

    def __call__(self, document: object) -> dict[str, Any]:
        """The used fields that the document has; null stays None. UnprocessableEvent names faults by their pointers."""
        try:
            return self.read(document)
        except Unreadable as fault:
            self._explain(document, fault)

    def read(self, document: object) -> dict[str, Any]:
        """As calling it, but a fault is Unreadable and does not say where."""
        if type(document) is not dict:
            raise Unreadable("bad_type", "must be an object")
        found: dict[str, Any] = {}
        for name, read in self._fields:
            if name in document:
                value = document[name]
                found[name] = None if value is None else read(value)
        return found

    def _explain(self, document: object, fault: Unreadable) -> NoReturn:
        faults = self._schema.validate(document) if isinstance(document, dict) else {}
        listed = [f"{pointer}: {message}" for pointer, message in _pointers(faults, "")]
        raise UnprocessableEvent("; ".join(listed[:5]) or f"/: {fault}", reason=fault.reason) from None


def _pointers(faults: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(faults, dict):
        for name, inner in faults.items():
            yield from _pointers(inner, pointer if name == "_schema" else f"{pointer}/{name}")
    else:
        for message in faults:
            yield pointer or "/", str(message)


# --- what a field may hold --------------------------------------------------------------------------------------------

_AMOUNT = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,12})?")


def text(value: Any) -> str:
    """A text as it is."""
    if type(value) is str:
        return value
    raise Unreadable("bad_type", "must be a text")


def token_text(value: Any) -> str | None:
    """A text that recognises somebody or something: at most 255 characters, None when there are none."""
    stripped = text(value).strip()
    if len(stripped) > 255:
        raise Unreadable("bad_token", "must have at most 255 characters")
    return stripped or None


def id_text(value: Any) -> str | None:
    """An id as text, from a whole number or a text of at most 200 characters; None for 0 and an empty text, which stand
    for nobody. A float has lost its last digits and is none."""
    if type(value) is int and 0 <= value < 2**64:
        return str(value) if value else None
    if type(value) is str and len(stripped := value.strip()) <= 200:
        return stripped if stripped not in ("", "0") else None
    raise Unreadable("bad_id", "must be an id: a whole number or a text of at most 200 characters")


def flag(value: Any) -> bool:
    """True or false."""
    if type(value) is bool:
        return value
    raise Unreadable("bad_type", "must be true or false")


def whole(value: Any) -> int:
    """A whole number, also when written as a text or as 3.0. May be negative."""
    if type(value) is int and -(2**53) < value < 2**53:
        return value
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if type(value) is str and value.removeprefix("-").isdecimal() and len(value) <= 15:
        return int(value)
    raise Unreadable("bad_number", "must be a whole number")


def money(value: Any) -> float | None:
    """An amount in major units from a decimal text or a number; None for an empty text."""
    if type(value) is str:
        if _AMOUNT.fullmatch(value):
            return float(value)
        if not value:
            return None
    elif (type(value) is int or type(value) is float) and abs(value) < 1e15:
        return float(value)
    raise Unreadable("bad_money", "must be an amount such as 12.50")


def instant(value: Any) -> Millis | None:
    """Epoch milliseconds from an ISO 8601 text; None for an empty one."""
    if type(value) is str:
        if not value:
            return None
        try:
            return read_instant(value)
        except ValueError:
            pass
    raise Unreadable("bad_instant", "must be a date and time such as 2026-11-21T10:00:00Z")


def texts(value: Any) -> list[str]:
    """A list of texts, or one text with commas between them: stripped, empty ones left out."""
    parts = value.split(",") if type(value) is str else value
    if type(parts) is not list or not all(type(part) is str for part in parts):
        raise Unreadable("bad_type", "must be a list of texts")
    return [stripped for part in parts if (stripped := part.strip())]
