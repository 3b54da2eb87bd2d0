"""Filters of lists: a dataclass of wishes becomes conditions, those that are None left out."""

from collections.abc import Callable, Mapping
from operator import eq, ge, lt
from typing import Any

from sqlalchemy import Column, ColumnElement

Compare = Callable[[Any, Any], ColumnElement[bool]]

EQUAL: Compare = eq
SINCE: Compare = ge
UNTIL: Compare = lt


def conditions(wanted: object, compared: Mapping[str, tuple["Column[Any]", Compare]]) -> list[ColumnElement[bool]]:
    """A condition for each attribute of `wanted` that is not None; `compared` gives its column and comparison."""
    wishes = {name: getattr(wanted, name) for name in compared}
    return [compare(column, wishes[name]) for name, (column, compare) in compared.items() if wishes[name] is not None]
