"""`{event: Order Completed, within: 30d, count: {">=": 3}}`: what a person did, how often, how much, first and last.

An event counts from its instant until `within` has passed: windows are half open, (now - within, now].
"""

from collections.abc import Mapping
from typing import Final

from connector.domain import Json
from connector.segments.comparisons import OPERATORS, bounds, comparisons
from connector.segments.condition import Condition
from connector.segments.conditions.event_count import AtLeast
from connector.segments.conditions.event_ends import EndCondition
from connector.segments.conditions.event_figure import FigureCondition
from connector.segments.conditions.event_window import event_parts
from connector.segments.reading import Place, mapping, name, number

FIGURES: Final = ("count", "sum", "average", "min", "max", "first", "last")
KEYS: Final = ("event", "where", "within", *FIGURES)
_NUMERIC: Final = ("=", "!=", "<", "<=", ">", ">=")


def read(place: Place, rule: Mapping[str, Json]) -> Condition:
    """The condition that a rule with the key `event` means."""
    mapping(place, rule, KEYS, "an event condition")
    event, where, length = event_parts(place, rule)
    figures = [key for key in FIGURES if key in rule]
    if len(figures) > 1:
        raise place.at(figures[1]).wrong(f"one event condition has one of {', '.join(FIGURES)}: use all for several")
    if not figures:
        return AtLeast(event, where, length, 1)
    kind = figures[0]
    here = place.at(kind)
    if kind in ("first", "last"):
        asked = mapping(here, rule[kind], ("of", *OPERATORS), kind)
        of = name(here.at("of"), asked.get("of", "at"), "a property's name")
        return EndCondition(event, where, length, kind, of, comparisons(here, asked))
    over = "distinct" if kind == "count" else "of"
    asked = mapping(here, rule[kind], (over, *_NUMERIC), kind)
    needed = kind != "count" or "distinct" in asked
    figured = name(here.at(over), asked.get(over), "the property to compute with") if needed else None
    compared = [(key, number(here.at(key), value)) for key, value in asked.items() if key in _NUMERIC]
    if not compared:
        raise here.wrong(f"say what to compare with, by one of: {', '.join(_NUMERIC)}")
    if figured is None and len(compared) == 1:
        simple = _simple_count(*compared[0])
        if simple is not None and simple[0] > 0:
            return AtLeast(event, where, length, simple[0], fewer=simple[1])
    limits = tuple(bounds(operator, x, scaled=kind != "count") for operator, x in compared)
    words = " and ".join(f"{operator} {x}" for operator, x in compared)
    return FigureCondition(event, where, length, kind, figured, limits, words)


def _simple_count(operator: str, x: float) -> tuple[int, bool] | None:
    """A count compared with a whole number as (at least this many, turned round)."""
    if x != int(x):
        return None
    return {
        ">=": (int(x), False),
        ">": (int(x) + 1, False),
        "<": (int(x), True),
        "<=": (int(x) + 1, True),
    }.get(operator)
