"""The contact properties that show our fields and tags: what is defined, what can be, how they are made to exist."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.destination import Clock, FieldSpec, Fit, Forecast
from adapters.errors import Rejected, Transient
from adapters.http import Http
from adapters.shape import count, dig, records, word
from adapters.values import no_object

GROUP = "storecue"
TAGS = "storecue_tags"

# type and fieldType of a property, by our field type. An object has none: it is refused before anything is sent.
TYPES = {
    "text": ("string", "text"),
    "number": ("number", "number"),
    "boolean": ("bool", "booleancheckbox"),
    "date": ("date", "date"),
    "datetime": ("datetime", "date"),
    "list": ("string", "text"),
}
# Property types that take our values besides the one we would create, by our field type.
_ALSO_FITS = {
    "text": {"enumeration", "phone_number"},
    "boolean": {"enumeration"},
    "datetime": {"date"},
    "list": {"enumeration"},
}

OWN_FIELDS = (
    FieldSpec("storecue_last_cue", "text", "StoreCue last cue"),
    FieldSpec("storecue_last_cue_at", "datetime", "StoreCue last cue at"),
)

_OPTION_KEYS = ("label", "value", "displayOrder", "hidden", "description")
_LONGEST_OPTION, _MOST_OPTIONS = 3_000, 5_000
_PERSONS = ("email", "firstname", "lastname")  # a field of this name would overwrite the address or a name
_NAME = re.compile(r"(?!hs_)[a-z][a-z0-9_]{0,99}")
_ROUNDS = 3
_MEND_SECONDS = 60.0
_NO_ROOM = (
    "HubSpot has no room for another property: custom properties are limited (10 on Free), delete some or upgrade"
)


class Properties:
    """The contact properties of one account: read once and kept, read again before anything is changed."""

    def __init__(self, http: Http, version: str, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._mending = threading.Lock()
        self._whole_at = float("-inf")
        self.mended = 0
        self._path = f"/crm/properties/{version}/contacts"
        self._limits = f"/crm/limits/{version}/custom-properties"
        self._defined: dict[str, dict[str, Any]] | None = None
        self._fields: dict[str, FieldSpec] = {spec.name: spec for spec in OWN_FIELDS}
        self._tags: set[str] = set()

    def defined(self, *, fresh: bool = False) -> dict[str, dict[str, Any]]:
        """Definitions by name."""
        if self._defined is None or fresh:
            results = records(self._http.call("GET", self._path).data, "results")
            self._defined = {word(found, "name"): found for found in results}
        return self._defined

    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        """Makes group, properties and options exist; one line per thing created. Raises Rejected for what cannot be."""
        check_tags(tags)
        defined = self.defined(fresh=True)
        wanted = [*fields, *OWN_FIELDS]
        for spec in wanted:
            check_field(spec, defined.get(spec.name))
        missing = [spec for spec in wanted if spec.name not in defined]
        created = []
        if missing or TAGS not in defined:
            body = {"name": GROUP, "label": "StoreCue"}
            if self._http.call("POST", f"{self._path}/groups", body=body, expect=(409,)).status != 409:
                created.append(f"property group {GROUP}")
        for spec in missing:
            if self._define(definition(spec)):
                created.append(f"property {spec.name} ({TYPES[spec.type][0]})")
            else:  # somebody was faster, or it lies in the archive
                check_field(spec, self._read(spec.name))
        self._fields |= {spec.name: spec for spec in fields}
        return created + self.ensure_tags(tags)

    def ensure_tags(self, tags: Sequence[str]) -> list[str]:
        """Makes the multi-checkbox and its options exist, keeping every option it has; one line per thing created.

        A PATCH replaces the whole list: so it is read just before, and again afterwards, because somebody may have
        saved the list in the same moment without ours.
        """
        check_tags(tags)
        self._tags.update(tags)
        shown = self.defined().get(TAGS)
        if shown is not None and is_checkbox(shown) and {*tags} <= options_of(shown):
            return []
        created: list[str] = []
        if shown is None:
            options = [new_option(tag, order, ()) for order, tag in enumerate(tags)]
            label = {"name": TAGS, "label": "StoreCue tags", "groupName": GROUP}
            if self._define({**label, "type": "enumeration", "fieldType": "checkbox", "options": options}):
                created += [f"property {TAGS}", *(f"tag {tag}" for tag in tags)]
        for _ in range(_ROUNDS):
            shown = self._read(TAGS)
            if not is_checkbox(shown):
                raise Rejected(f"property {TAGS} exists and is no multiple checkbox", field=TAGS, reason="field_type")
            missing = [tag for tag in tags if tag not in options_of(shown)]
            if not missing:
                return list(dict.fromkeys(created))
            held = records(shown, "options")
            if len(held) + len(missing) > _MOST_OPTIONS:
                raise Rejected(f"{TAGS} has room for {_MOST_OPTIONS} tags", field=TAGS, reason="too_many_tags")
            options = [{key: option[key] for key in _OPTION_KEYS if option.get(key) is not None} for option in held]
            for order, option in enumerate(options):
                option.setdefault("displayOrder", order)  # needed of every option since 2026-03
            labels = {word(option, "label").lower() for option in held}
            options += [new_option(tag, len(held) + order, labels) for order, tag in enumerate(missing)]
            self._http.call("PATCH", f"{self._path}/{TAGS}", body={"options": options})
            created += [f"tag {tag}" for tag in missing]
        raise Transient(f"somebody else keeps changing {TAGS}", retry_after=30.0, reason="options_changed")

    def mend(self, seen: int) -> bool:
        """Makes again what was taken away while we ran; True when that was done, here or by another thread since
        `mended` stood at `seen`. False when all that we know of is there, and for a minute after: a batch refused for
        another reason is divided into many calls, each of which would look again."""
        with self._mending:
            if self.mended > seen:
                return True
            if self._clock.time() < self._whole_at + _MEND_SECONDS:
                return False
            if not self._make_all():
                self._whole_at = self._clock.time()
                return False
            self.mended += 1
            return True

    def _make_all(self) -> list[str]:
        return self.provision([s for s in self._fields.values() if s not in OWN_FIELDS], sorted(self._tags))

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        """What `provision` would do; it changes nothing."""
        defined = self.defined(fresh=True)
        shown = defined.get(TAGS)
        own = sum(name not in defined for name in (TAGS, *(spec.name for spec in OWN_FIELDS)))
        room = self._room()
        fits, needed = [], own
        for spec in fields:
            fit = forecast(spec, defined.get(spec.name))
            if fit.fate == "created":
                needed += 1
                fit = Fit(spec.name, "refused", fit.kind, _NO_ROOM) if room is not None and needed > room else fit
            fits.append(fit)
        slots = None if room is None else (needed, room)
        return Forecast(fits, [forecast_tag(tag, shown) for tag in tags], slots)

    def _room(self) -> int | None:
        """How many more properties contacts may have; None where the key or the plan does not let us ask."""
        answer = self._http.call("GET", self._limits, expect=(403, 404))
        for one in records(answer.data, "byObjectType"):
            if word(one, "objectTypeId") == "0-1":
                left = [count(one, "limit") - count(one, "usage")]
                if count(answer.data, "overallLimit"):
                    left.append(count(answer.data, "overallLimit") - count(answer.data, "overallUsage"))
                return max(0, min(left))
        return None

    def _read(self, name: str) -> dict[str, Any]:
        answer = self._http.call("GET", f"{self._path}/{name}", expect=(404,))
        if answer.status == 404:
            message = f"property {name} lies in HubSpot's archive: restore it there, or give the field another name"
            raise Rejected(message, field=name, reason="archived")
        self.defined()[name] = answer.data
        return answer.data

    def _define(self, definition: dict[str, Any]) -> bool:
        """True when the property was created; False when there is one of that name."""
        try:
            created = self._http.call("POST", self._path, body=definition, expect=(409,)).status != 409
        except Rejected as error:
            if re.search(r"\blimit|maximum", error.message, re.IGNORECASE):
                raise Rejected(_NO_ROOM, field=definition["name"], reason="property_limit") from None
            raise
        if created:
            self.defined()[definition["name"]] = definition
        return created


def check_field(spec: FieldSpec, defined: Mapping[str, Any] | None) -> None:
    """Raises Rejected when a field cannot be shown by the property defined like this, or by a new one for None."""
    if refusal := no_object("HubSpot", spec):
        raise Rejected(refusal, field=spec.name, reason="field_type")
    if spec.name in _PERSONS:
        message = f"property {spec.name} holds the person's own and is written anyway: give the field another name"
        raise Rejected(message, field=spec.name, reason="field_name")
    if defined is None:
        if not _NAME.fullmatch(spec.name):
            message = (
                f"HubSpot takes no property named {spec.name}: lower-case letters, digits and _, from a letter on,"
            )
            raise Rejected(f"{message} at most 100 and not hs_ first", field=spec.name, reason="field_name")
        return
    kind = str(defined.get("type"))
    if kind != TYPES[spec.type][0] and kind not in _ALSO_FITS.get(spec.type, ()):
        message = (
            f"property {spec.name} exists with type {kind}, not {TYPES[spec.type][0]}: give the field another name"
        )
        raise Rejected(message, field=spec.name, reason="field_type")
    if dig(defined, "modificationMetadata", "readOnlyValue"):
        message = f"property {spec.name} is HubSpot's own and read-only: give the field another name"
        raise Rejected(message, field=spec.name, reason="field_type")


def check_tags(tags: Sequence[str]) -> None:
    """Raises Rejected for a tag that no option can hold."""
    for tag in tags:
        if not tag.strip() or ";" in tag or len(tag) > _LONGEST_OPTION:
            message = f"no option of {TAGS} can be {tag[:40]!r}: not empty, no semicolon, at most 3,000 characters"
            raise Rejected(message, field=TAGS, reason="tag_name")


def forecast(spec: FieldSpec, defined: Mapping[str, Any] | None) -> Fit:
    """What would become of a field whose property is defined like this, or not at all."""
    kind = f"property, {TYPES.get(spec.type, ('none',))[0] if defined is None else defined.get('type')}"
    try:
        check_field(spec, defined)
    except Rejected as error:
        return Fit(spec.name, "refused", kind, error.message)
    return Fit(spec.name, "created" if defined is None else "exists", kind)


def forecast_tag(tag: str, shown: Mapping[str, Any] | None) -> Fit:
    """What would become of a tag where `storecue_tags` is defined like this, or not at all."""
    kind = f"option of {TAGS}"
    if shown is not None and not is_checkbox(shown):
        return Fit(tag, "refused", kind, f"property {TAGS} exists and is no multiple checkbox")
    try:
        check_tags([tag])
    except Rejected as error:
        return Fit(tag, "refused", kind, error.message)
    return Fit(tag, "exists" if shown is not None and tag in options_of(shown) else "created", kind)


def is_checkbox(defined: Mapping[str, Any]) -> bool:
    """Whether a property can hold tags."""
    return defined.get("type") == "enumeration" and defined.get("fieldType") == "checkbox"


def options_of(defined: Mapping[str, Any]) -> set[str]:
    return {word(option, "value") for option in records(defined, "options")}


def definition(spec: FieldSpec) -> dict[str, Any]:
    kind, field_type = TYPES[spec.type]
    definition: dict[str, Any] = {"name": spec.name, "label": spec.label, "groupName": GROUP}
    definition |= {"type": kind, "fieldType": field_type}
    if kind == "bool":
        definition["options"] = [
            {"label": "Yes", "value": "true", "displayOrder": 0, "hidden": False},
            {"label": "No", "value": "false", "displayOrder": 1, "hidden": False},
        ]
    return definition


def new_option(tag: str, order: int, labels: set[str] | tuple[()]) -> dict[str, Any]:
    """An option of that value; its label is another where `labels` (in lower case) has it: they must be unique."""
    label = f"{tag} (StoreCue)" if tag.lower() in labels else tag
    return {"label": label, "value": tag, "displayOrder": order, "hidden": False}
