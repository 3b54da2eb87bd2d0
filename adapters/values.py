"""Values as vendors want them written."""

from datetime import UTC, datetime
from decimal import Decimal

from adapters.destination import FieldValue


def instant(at: int) -> str:
    """RFC 3339 in UTC with milliseconds, of epoch milliseconds."""
    seconds, millis = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def text(value: FieldValue) -> str:
    """The value as plain text: "" for None, true/false, numbers without an exponent, lists joined by commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format(Decimal(repr(value)).normalize(), "f")
    return value if isinstance(value, str) else ", ".join(value)


def slug(name: str) -> str:
    """Lower-case letters, digits and underscores: `Segment Entered` becomes `segment_entered`."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower()).split()
    return "_".join(words)
