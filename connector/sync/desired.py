"""What each destination should show of a person: a pure function of the profile, its segments and the configuration."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from connector.domain import DestinationConfig, FieldConfig, Json

Contact = dict[str, Any]
"""{"email", "first_name", "last_name", "tags": [slug], "fields": {name: value}, "create": bool,
"subscribed": bool | None}: a JSON object with sorted keys, so that equal states are equal texts."""


def field_values(
    fields: Iterable[FieldConfig], traits: Mapping[str, Json], consent: Mapping[str, str]
) -> dict[str, Json]:
    """The value of every configured field, in its type; None where the person has none."""
    roots: dict[str, Mapping[str, Json]] = {"traits": traits, "consent": consent}
    return {field.name: _typed(_follow(roots, field.source), field.type) for field in fields}


def contact(
    destination: DestinationConfig,
    *,
    email: str,
    traits: Mapping[str, Json],
    consent: Mapping[str, str],
    segments: Iterable[str],
    fields: Mapping[str, Json],
) -> str:
    """The desired Contact as canonical JSON text. `segments` are those the person is in, `fields` as computed above."""
    wanted = destination.segments
    state = consent.get("email")
    subscribed = None if state is None else state == "subscribed"
    policy = destination.create_contacts
    return orjson.dumps(
        {
            "email": email,
            "first_name": traits.get("first_name"),
            "last_name": traits.get("last_name"),
            "tags": sorted(segment for segment in segments if wanted is None or segment in wanted),
            "fields": fields,
            "create": policy == "always" or (policy == "consented" and subscribed is True),
            "subscribed": subscribed,
        },
        option=orjson.OPT_SORT_KEYS,
    ).decode()


def emptied(contact_text: str) -> str:
    """The same contact without tags, not to be made anew: what a profile leaves behind that was merged into one with
    another address."""
    left = orjson.loads(contact_text) | {"tags": [], "create": False}
    left.pop("unsure", None)  # what a lost answer left open is told with whatever comes next
    return orjson.dumps(left, option=orjson.OPT_SORT_KEYS).decode()


def _follow(roots: Mapping[str, Json], path: str) -> Json:
    value: Json = roots
    for step in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _typed(value: Json, wanted: str) -> Json:
    if value is None:
        return None
    return _TYPES[wanted](value)


def _number(value: Json) -> Json:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number - number == 0 else None  # infinities and NaN are no numbers to a vendor


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return orjson.dumps(value).decode()


def _list(value: Json) -> list[Json] | None:
    """What a template can loop over: one value is a list of one, an object one entry."""
    return [_bare(one) for one in (value if isinstance(value, list) else [value]) if one is not None] or None


def _object(value: Json) -> Mapping[str, Json] | None:
    return (_bare(value) or None) if isinstance(value, Mapping) else None


def _bare(value: Json) -> Json:
    """Without the members that have no value: a vendor may keep them or not, and a template shows neither."""
    if isinstance(value, Mapping):
        return {str(name): _bare(one) for name, one in value.items() if one is not None}
    return [_bare(one) for one in value if one is not None] if isinstance(value, list) else value


def _instant(value: Json) -> str | None:
    return value if isinstance(value, str) else None


_TYPES: dict[str, Callable[[Json], Json]] = {
    "text": _text,
    "number": _number,
    "boolean": bool,
    "datetime": _instant,
    "date": lambda value: value[:10] if isinstance(value, str) else None,
    "list": _list,
    "object": _object,
}
