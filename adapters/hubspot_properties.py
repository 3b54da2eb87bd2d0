"""How our fields become HubSpot's contact properties: types, definitions, and values as the strings it wants."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adapters.destination import Change, FieldSpec, FieldValue, Fit
from adapters.errors import Rejected
from adapters.shape import dig
from adapters.values import as_wanted, text

GROUP = "storecue"
TAGS = "storecue_tags"

# type and fieldType of a property, by our field type.
TYPES = {
    "text": ("string", "text"),
    "number": ("number", "number"),
    "boolean": ("bool", "booleancheckbox"),
    "date": ("date", "date"),
    "datetime": ("datetime", "date"),
}
# Property types that take our values besides the one we would create, by our field type.
_ALSO_FITS = {"text": {"enumeration", "phone_number"}, "boolean": {"enumeration"}, "datetime": {"date"}}

OPTION_KEYS = ("label", "value", "displayOrder", "hidden", "description")

OWN_FIELDS = (
    FieldSpec("storecue_last_cue", "text", "StoreCue last cue"),
    FieldSpec("storecue_last_cue_at", "datetime", "StoreCue last cue at"),
)


def property_values(change: Change, defined: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Every property value as the string HubSpot wants; raises Rejected naming the field that cannot be written."""
    names = {"firstname": change.first_name, "lastname": change.last_name}
    properties = {name: value for name, value in names.items() if value is not None}
    for name, value in change.fields.items():
        if name not in defined:
            raise Rejected(f"HubSpot has no property {name}", field=name, reason="unknown_field")
        properties[name] = property_value(name, str(defined[name].get("type")), value)
    return {**properties, TAGS: ";".join(change.tags)}


def property_value(name: str, kind: str, value: FieldValue) -> str:
    if kind == "enumeration" and isinstance(value, list):
        return ";".join(value)
    if kind == "date" and isinstance(value, str):
        return value[:10]
    if kind == "datetime" and isinstance(value, str) and value:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Rejected(f"{value[:40]} is no date-time", field=name, reason="field_type") from None
        return str(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))
    return text(value)


def check_type(spec: FieldSpec, defined: Mapping[str, Any] | None) -> None:
    if defined is None:
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


def forecast(spec: FieldSpec, defined: Mapping[str, Any] | None) -> Fit:
    """What would become of a field whose property is defined like this, or not at all."""
    kind = f"property, {TYPES[spec.type][0] if defined is None else defined.get('type')}"
    try:
        check_type(spec, defined)
    except Rejected as error:
        return Fit(spec.name, "refused", kind, error.message)
    return Fit(spec.name, "created" if defined is None else "exists", kind)


def is_checkbox(defined: Mapping[str, Any]) -> bool:
    """Whether a property can hold tags."""
    return defined.get("type") == "enumeration" and defined.get("fieldType") == "checkbox"


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


def new_option(tag: str, order: int) -> dict[str, Any]:
    return {"label": tag, "value": tag, "displayOrder": order, "hidden": False}


def held_value(name: str, kind: str, held: str, wanted: FieldValue) -> FieldValue:
    """The wanted value where the property holds it, else what it holds. A date-time is written in milliseconds and
    read back in RFC 3339."""
    try:
        written, found = property_value(name, kind, wanted), property_value(name, kind, held)
    except Rejected:
        return held or None
    if kind == "enumeration":
        written, found = (";".join(sorted(value.split(";"))) for value in (written, found))
    if kind == "number":
        return as_wanted(held, wanted, wanted)
    return wanted if written == found else held or None
