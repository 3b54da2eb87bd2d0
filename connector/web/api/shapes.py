"""Shapes that several nouns share: instants, pages, the parameters of a list."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from connector.clock import Millis, isoformat, parse_instant

LARGEST_ID = 2**63 - 1
"""The largest id a database can hold."""

_FIRST: Millis = -62_135_596_800_000  # year 1
_LAST: Millis = 253_402_300_799_999  # the end of year 9999; a window of many thousand years ends here


class Instant(fields.Field[Millis]):
    """An instant: RFC 3339 outside, epoch milliseconds inside."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else isoformat(min(max(int(value), _FIRST), _LAST))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Millis:
        try:
            return parse_instant(value.replace(" ", "+"))  # the + of an offset, when it was not escaped in a URL
        except (ValueError, OverflowError, AttributeError):
            raise ValidationError("not an instant such as 2026-11-21T10:00:00Z") from None


class Flag(fields.Boolean):
    """true or false and nothing that might mean it: marshmallow's own takes 1, "yes" and "off" as well."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("not true or false")
        return value


def instant(description: str = "", **options: Any) -> Instant:
    """A documented instant that may be null, as most are."""
    return Instant(
        allow_none=True,
        metadata={"examples": ["2026-11-21T10:00:00.000Z"], **({"description": description} if description else {})},
        **options,
    )


class PageQuery(Schema):
    """Which part of a list."""

    limit = fields.Integer(
        load_default=50, validate=validate.Range(1, 200), metadata={"description": "How many at most."}
    )
    cursor = fields.String(
        validate=validate.Length(1, 1000),
        metadata={"description": "`next` of the page before."},
    )


class Done(Schema):
    """How many objects an action changed."""

    count = fields.Integer(required=True, metadata={"examples": [3]})


class Nothing(Schema):
    """No members."""


def page_of(item: type[Schema], name: str) -> type[Schema]:
    """The schema of a page of `item`."""
    return type(
        name,
        (Schema,),
        {
            "__doc__": "Part of a list.",
            "items": fields.List(fields.Nested(item), required=True),
            "next": fields.String(
                required=True,
                allow_none=True,
                metadata={"description": "Send it as `cursor` to read on; null at the end.", "examples": ["WzQxXQ"]},
            ),
        },
    )
