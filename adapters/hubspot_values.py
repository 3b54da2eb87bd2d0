"""Values as HubSpot's contact properties want them: every one a string; and what a string there says of ours."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from adapters.destination import Change, FieldValue
from adapters.errors import Rejected
from adapters.hubspot_properties import TAGS, options_of
from adapters.values import as_wanted, text

LONGEST_TEXT = 65_536
"""Characters in a text property (2026)."""


def property_values(change: Change, defined: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Every property value as the string HubSpot wants; raises Rejected naming the field that cannot be written.

    One bad value would refuse its whole batch, so what can be told from the definitions is told here.
    """
    names = {"firstname": change.first_name, "lastname": change.last_name}
    properties = {name: fitting(name, value) for name, value in names.items() if value is not None}
    for name, value in change.fields.items():
        if name not in defined:
            raise Rejected(f"HubSpot has no property {name}", field=name, reason="unknown_field")
        kind = str(defined[name].get("type"))
        properties[name] = property_value(name, kind, value)
        chosen = properties[name].split(";") if isinstance(value, list) else [properties[name]]
        if kind == "enumeration" and properties[name] and not {*chosen} <= options_of(defined[name]):
            raise Rejected(f"property {name} has no such option", field=name, reason="unknown_option")
    # The whole value: the property is ours alone, and an option that somebody ticked there by hand goes with it.
    return {**properties, TAGS: ";".join(change.tags)}


def property_value(name: str, kind: str, value: FieldValue) -> str:
    """One value as HubSpot wants it written; "" clears."""
    if value in (None, ""):
        return ""
    if kind == "enumeration" and isinstance(value, list):
        return ";".join(map(text, value))
    written = text(value)
    try:
        if kind == "date":
            return date.fromisoformat(written[:10]).isoformat()
        if kind == "datetime":
            moment = datetime.fromisoformat(written)
            return str(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))
        if kind == "number" and not math.isfinite(float(written)):
            raise ValueError
        if kind == "bool" and written not in ("true", "false"):
            raise ValueError
    except (ValueError, OverflowError):
        kinds = {"datetime": "date-time", "bool": "true or false"}
        message = f"{written[:40]} is no {kinds.get(kind, kind)}"
        raise Rejected(message, field=name, reason="field_type") from None
    return fitting(name, written)


def fitting(name: str, written: str) -> str:
    """The text; raises Rejected when it is longer than a property holds."""
    if len(written) > LONGEST_TEXT:
        message = f"{len(written)} characters: HubSpot's properties hold {LONGEST_TEXT}"
        raise Rejected(message, field=name, reason="too_long")
    return written


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
