"""How our fields become Mailchimp's merge fields: which one holds which, their tags of ten characters, their values."""

import re
from base64 import b32encode
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

import orjson

from adapters.destination import Fate, FieldSpec, FieldValue, Fit
from adapters.errors import Rejected
from adapters.http import Http
from adapters.shape import count, records, word
from adapters.values import slug, text

TEXT_BYTES = 255
"""Mailchimp cuts longer texts without a word, in the middle of a character (2026-07)."""

_SLOTS, _MORE_SLOTS = 30, 80  # by plan; only Premium has more, so an audience that has more shows the plan

# Merge field type that we create, and those that take our values besides, by our field type.
TYPES: Mapping[str, str] = {
    "text": "text",
    "number": "number",
    "boolean": "text",
    "date": "date",
    "datetime": "date",
    "list": "text",
}
_ALSO_FITS: Mapping[str, Collection[str]] = {
    "text": ("dropdown", "radio", "url", "imageurl", "phone", "zip"),
    "number": ("text",),
    "boolean": ("number", "dropdown", "radio"),
    "date": ("text",),
    "datetime": ("text",),
}
# Tags with a meaning of their own, in mails or as the fields that every new audience has: a person's name is written to
# FNAME and LNAME, and MERGE3 is another name of the field with id 3.
_RESERVED_TAGS = re.compile(
    "EMAIL|EMAIL_TYPE|EMAILTYPE|DATE|LIST|UNSUB|ARCHIVE|REWARDS|FORWARD|INTERESTS|IP|UNIQID|USER|USER_URL|SUBJECT|TO|IF"
    r"|IFNOT|ELSE|ELSEIF|END|FNAME|LNAME|ADDRESS|PHONE|BIRTHDAY|MERGE\d+"
)


_PERSONS = ("FNAME", "LNAME")


class MergeField(NamedTuple):
    """A merge field of the audience: `name` is the label that people see, `tag` the key in member data; both can be
    changed at Mailchimp, `id` stays (0 when it was not told)."""

    tag: str
    name: str
    type: str
    id: int = 0


class MergeFields:
    """The merge fields of one audience, and which of them holds which of our fields.

    The map from our names to the ids of merge fields is written to `notes`, so that a field that somebody gives
    another label or tag at Mailchimp is still ours. What the map does not know is found by its label, or by the tag
    that only we would give; so a map that is lost is made again.
    """

    def __init__(self, http: Http, path: str, slots: int | None, notes: MutableMapping[str, str]) -> None:
        self._http = http
        self._path = f"{path}/merge-fields"
        self._slots = slots
        self._notes, self._note = notes, f"merge_fields of {path.rpartition('/')[2]}"
        self._there: list[MergeField] | None = None

    def holding(self, names: Collection[str]) -> dict[str, MergeField]:
        """Our names -> the merge fields that hold them, without those that the audience lacks. Asks Mailchimp again
        when one is missing, once."""
        found: dict[str, MergeField] = {}
        for fresh in (False, True):
            found = self._found(names, self._all(fresh=fresh))
            if len(found) == len(names):
                break
        return found

    def tags(self) -> set[str]:
        return {field.tag for field in self._all()}

    def forget(self) -> None:
        """Read them again at the next look: one of them is not there any more."""
        self._there = None

    def provision(self, specs: Sequence[FieldSpec]) -> list[str]:
        """Makes what is missing; one line per field. Raises Rejected, before anything is made, for what cannot be."""
        there = self._all(fresh=True)
        found = self._found([spec.name for spec in specs], there)
        for spec in specs:
            if message := _misfit(spec, found.get(spec.name)):
                raise Rejected(f"{spec.name}: {message}", field=spec.name, reason="field_type")
        missing = [spec for spec in specs if spec.name not in found]
        room = self._room(there)
        if len(missing) > room:
            names = ", ".join(spec.name for spec in missing[room:])
            raise Rejected(
                f"{self._full(there)}: no room for {names}. Remove a merge field or push fewer fields (Premium plans: "
                f"option merge_field_slots {_MORE_SLOTS})",
                field=missing[-1].name,
                reason="no_slot",
            )
        made = []
        for spec in missing:
            tag = new_tag(spec.name, {field.tag for field in there})
            body = {"tag": tag, "name": field_label(spec), "type": TYPES[spec.type], "required": False, "public": False}
            data = self._http.call("POST", self._path, body=body, repeatable=False).data
            field = MergeField(word(data, "tag") or tag, body["name"], body["type"], count(data, "merge_id"))  # type: ignore[arg-type]
            there.append(field)
            self._remember({spec.name: field})
            made.append(f"merge field {field.tag} ({field.name})")
        return made

    def foresee(
        self, specs: Sequence[FieldSpec], beyond: Literal["cut", "left_out"]
    ) -> tuple[list[Fit], tuple[int, int]]:
        """What `provision` would make of each field, and how many slots are needed and free. `beyond`: what becomes of
        texts that are too long."""
        there = self._all(fresh=True)
        found = self._found([spec.name for spec in specs], there)
        room, needed, fits = self._room(there), 0, list[Fit]()
        for spec in specs:
            field = found.get(spec.name)
            needed += field is None and spec.type in TYPES
            kind = TYPES.get(spec.type, spec.type) if field is None else field.type
            fate: Fate = "created" if field is None else "exists"
            message = _misfit(spec, field)
            if not message and field is None and needed > room:
                message = f"{self._full(there)}: no room"
            longest = None if kind in ("number", "date") else TEXT_BYTES
            fits.append(
                Fit(spec.name, "refused" if message else fate, f"merge field, {kind}", message, longest, beyond)
            )
        return fits, (needed, room)

    def _all(self, *, fresh: bool = False) -> list[MergeField]:
        if self._there is None or fresh:
            names = ",".join(f"merge_fields.{name}" for name in ("merge_id", "tag", "name", "type"))
            data = self._http.call("GET", self._path, query={"count": 1000, "fields": names}).data
            self._there = [
                MergeField(word(field, "tag"), word(field, "name"), word(field, "type"), count(field, "merge_id"))
                for field in records(data, "merge_fields")
            ]
        return self._there

    def _found(self, names: Collection[str], there: Sequence[MergeField]) -> dict[str, MergeField]:
        found = match_fields(names, there, self._known())
        self._remember(found)
        return found

    def _known(self) -> dict[str, int]:
        known: dict[str, int] = orjson.loads(self._notes.get(self._note, "{}"))
        return known

    def _remember(self, found: Mapping[str, MergeField]) -> None:
        known = self._known()
        news = known | {name: field.id for name, field in found.items() if field.id}
        if news != known:
            self._notes[self._note] = orjson.dumps(news, option=orjson.OPT_SORT_KEYS).decode()

    def _room(self, there: Sequence[MergeField]) -> int:
        slots = self._slots or (_MORE_SLOTS if len(there) > _SLOTS else _SLOTS)
        return max(0, slots - len(there))

    def _full(self, there: Sequence[MergeField]) -> str:
        return f"the audience has {len(there)} of {len(there) + self._room(there)} merge fields"


def match_fields(names: Iterable[str], there: Sequence[MergeField], known: Mapping[str, int]) -> dict[str, MergeField]:
    """Our names -> the merge fields that hold them: by the ids in `known`, else by label or tag among those that are no
    other field's of ours."""
    by_id = {field.id: field for field in there if field.id}
    unclaimed = [field for field in there if field.id not in known.values()]
    matched = {name: by_id.get(known.get(name, 0)) or find_field(name, unclaimed) for name in names}
    return {name: field for name, field in matched.items() if field is not None}


def find_field(name: str, fields: Sequence[MergeField]) -> MergeField | None:
    """The merge field that holds our field `name`: known by its label, else by the tag that only we would give."""
    labelled = (field for field in fields if _named(field.name) == name)
    tagged = (field for field in fields if field.tag == _hashed_tag(name, 0))
    return next(labelled, None) or next(tagged, None)


def _misfit(spec: FieldSpec, field: MergeField | None) -> str:
    """Why the audience cannot hold the values of our field, "" when it can."""
    if spec.type not in TYPES:
        return f"a merge field holds no {spec.type}: leave the field out for Mailchimp, or make it a list or texts"
    if field is not None and field.tag in _PERSONS:
        return f"merge field {field.tag} holds the person's own name and is written anyway: give the field another name"
    if field is None or field.type == TYPES[spec.type] or field.type in _ALSO_FITS.get(spec.type, ()):
        return ""
    return f"merge field {field.name} has type {field.type}: give the field another name"


def new_tag(name: str, taken: set[str]) -> str:
    """A free merge tag for a field: its name where that fits (10 characters), else its start and a digest of it."""
    plain = re.sub(r"[^A-Z0-9_]", "", name.upper())
    if 0 < len(plain) <= 10 and plain not in taken and not _RESERVED_TAGS.fullmatch(plain):
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


MergeValue = str | int | float


def merge_value(kind: str, value: FieldValue) -> MergeValue:
    """The value as a merge field of this type takes it."""
    if value is None:
        return ""
    if kind == "number" and isinstance(value, bool | int | float):
        return int(value) if isinstance(value, bool) else value
    return text(value)[:10] if kind == "date" else text(value)


def is_too_long(value: MergeValue) -> bool:
    return isinstance(value, str) and len(value.encode()) > TEXT_BYTES


def cut_value(value: MergeValue) -> MergeValue:
    """The value as far as Mailchimp keeps it, cut at a character."""
    return value.encode()[:TEXT_BYTES].decode(errors="ignore") if isinstance(value, str) else value
