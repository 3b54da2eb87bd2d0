"""Values as vendors want them written."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from adapters.destination import FieldSpec, FieldValue


def instant(at: int) -> str:
    """RFC 3339 in UTC with milliseconds, of epoch milliseconds."""
    seconds, millis = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def millis(told: str) -> int | None:
    """Epoch milliseconds of an instant as vendors tell it: ISO 8601, UTC without an offset, or milliseconds; None for
    anything else."""
    if told.isascii() and told.isdigit() and 12 <= len(told) <= 14:
        return int(told)
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def text(value: FieldValue) -> str:
    """The value as plain text: "" for None, true/false, numbers without an exponent, lists joined by commas, objects as
    JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format(Decimal(repr(value)).normalize(), "f")
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return value if isinstance(value, str) else ", ".join(map(text, value))


def no_object(vendor: str, spec: FieldSpec) -> str:
    """Why a vendor that has no objects refuses a field; "" when it does not."""
    told = f"{vendor} holds no objects: give the field {spec.name} another type, or show it elsewhere only"
    return told if spec.type == "object" else ""


def same(held: object, written: object) -> bool:
    """True when a vendor holds what was written, though it may write it back otherwise: 12.50 for 12.5, +00:00 for Z,
    "" for nothing, the keys of an object or a list of words in another order."""
    held, written = (None if value in ("", [], {}) else value for value in (held, written))
    if held is None or written is None:
        return held is written
    if isinstance(held, bool) or isinstance(written, bool):
        return str(held).lower() == str(written).lower()
    if isinstance(held, int | float) or isinstance(written, int | float):
        try:
            return Decimal(str(held)) == Decimal(str(written))
        except InvalidOperation:
            return False
    if isinstance(held, list) and isinstance(written, list):
        nested = any(isinstance(one, list | dict) for one in written)
        return held == written if nested else sorted(map(str, held)) == sorted(map(str, written))
    return held == written or (_moment(held) is not None and _moment(held) == _moment(written))


def as_wanted(held: Any, written: object, wanted: FieldValue) -> FieldValue:
    """The wanted value where the vendor holds what was written for it, else what it holds; None for nothing."""
    if same(held, written):
        return wanted
    return None if held in ("", [], {}) else held


def _moment(value: object) -> datetime | None:
    """The instant that an RFC 3339 date-time names; None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value else None
    except ValueError:
        return None
    return moment and moment.replace(tzinfo=moment.tzinfo or UTC)


def slug(name: str) -> str:
    """Lower-case letters, digits and underscores: `Segment Entered` becomes `segment_entered`."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower()).split()
    return "_".join(words)
