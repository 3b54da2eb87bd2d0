"""How our fields become Mailchimp's merge fields: which one holds which, their tags of ten characters, their values."""

import re
from base64 import b32encode
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from adapters.destination import FieldSpec, FieldValue
from adapters.values import slug, text

TEXT_BYTES = 255

# Merge field type that we create, and those that take our values besides, by our field type.
TYPES = {"text": "text", "number": "number", "boolean": "text", "date": "date", "datetime": "date"}
ALSO_FITS = {
    "text": {"dropdown", "radio", "url", "imageurl", "phone", "zip"},
    "number": {"text"},
    "boolean": {"number", "dropdown", "radio"},
    "date": {"text"},
    "datetime": {"text"},
}
_RESERVED_TAGS = {"EMAIL", "DATE", "LIST", "UNSUB", "ARCHIVE", "REWARDS", "FORWARD", "INTERESTS", "IP", "UNIQID"}


class MergeField(NamedTuple):
    """A merge field of the audience: `name` is the label that people see, `tag` the key in member data."""

    tag: str
    name: str
    type: str


def find_field(name: str, fields: Sequence[MergeField]) -> MergeField | None:
    """The merge field that holds our field `name`: known by its label, else by the tag that only we would give."""
    labelled = (field for field in fields if _named(field.name) == name)
    tagged = (field for field in fields if field.tag == _hashed_tag(name, 0))
    return next(labelled, None) or next(tagged, None)


def fits_type(spec: FieldSpec, field: MergeField) -> bool:
    """Whether the merge field takes the values of ours."""
    return field.type == TYPES[spec.type] or field.type in ALSO_FITS[spec.type]


def new_tag(name: str, taken: set[str]) -> str:
    """A free merge tag for a field: its name where that fits (10 characters), else its start and a digest of it."""
    plain = re.sub(r"[^A-Z0-9_]", "", name.upper())
    if 0 < len(plain) <= 10 and plain not in taken | _RESERVED_TAGS:
        return plain
    return next(tag for tag in (_hashed_tag(name, turn) for turn in range(1_000)) if tag not in taken)


def _named(label: str) -> str:
    """The field of ours that a label stands for: ltv for `Value (ltv)` and `ltv`, total_spent for `Total spent`."""
    inner = re.search(r"\(([a-z][a-z0-9_]*)\)$", label)
    if inner:
        return inner[1]
    return label if re.fullmatch(r"[a-z][a-z0-9_]*", label) else slug(label)


def field_label(spec: FieldSpec) -> str:
    """The label to give a merge field: what people call it, and our name where that would not be recognised."""
    if _named(spec.label) == spec.name:
        return spec.label
    both = f"{spec.label} ({spec.name})"
    return both if len(both) <= 50 else spec.name


def _hashed_tag(name: str, turn: int) -> str:
    digest = b32encode(sha256(f"{name}/{turn}".encode()).digest()).decode()
    return f"{re.sub(r'[^A-Z0-9_]', '', name.upper())[:5] or 'F'}_{digest[:4]}"


def merge_value(kind: str, value: FieldValue) -> str | int | float:
    if value is None:
        return ""
    if kind == "number" and isinstance(value, bool | int | float):
        return int(value) if isinstance(value, bool) else value
    return text(value)[:10] if kind == "date" else text(value)


def cut_value(value: str | int | float) -> str | int | float:
    # Mailchimp itself cuts text at 255 bytes without a word, in the middle of a character (2026-07).
    return value.encode()[:TEXT_BYTES].decode(errors="ignore") if isinstance(value, str) else value
