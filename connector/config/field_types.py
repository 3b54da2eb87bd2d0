"""Which values of a profile a field may show, and the type each has when the file does not say."""

import re
from typing import get_args

from adapters.destination import FieldType
from connector.domain import Channel

FIELD_TYPES: tuple[str, ...] = get_args(FieldType)

_NUMBERS = "orders_count total_spent average_order_value cart_items cart_total"
_DATETIMES = "first_order_at last_order_at last_viewed_at cart_updated_at created_at updated_at"
_BOOLEANS = "verified_email tax_exempt"
_LISTS = "cart_lines cart_products last_viewed_products tags"

KNOWN_TRAITS: dict[str, FieldType] = {
    **dict.fromkeys(_NUMBERS.split(), "number"),
    **dict.fromkeys(_DATETIMES.split(), "datetime"),
    **dict.fromkeys(_BOOLEANS.split(), "boolean"),
    **dict.fromkeys(_LISTS.split(), "list"),
}

_TRAIT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+){0,4}")


def fault_of(path: str) -> str | None:
    """What is wrong with a field's `from`, or None."""
    root, _, rest = path.partition(".")
    if root == "traits" and _TRAIT.fullmatch(rest):
        return None
    if root == "consent" and rest in get_args(Channel):
        return None
    return (
        f'"{path[:80]}" is not a value of a profile; write traits. and the name of a trait, '
        "such as traits.total_spent, or consent. and a channel, such as consent.email"
    )


def type_of(path: str) -> FieldType:
    """The type of the value at a path: text unless it is known to be another."""
    root, _, rest = path.partition(".")
    return KNOWN_TRAITS.get(rest, "text") if root == "traits" else "text"


def label_of(name: str) -> str:
    """`Total spent` of `total_spent`: the label of a field when the file gives none."""
    return name.replace("_", " ").strip().capitalize() or name
