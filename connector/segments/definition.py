"""Rules as written, compiled. What is wrong raises DefinitionError with the JSON pointer and what would be right."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from connector.domain import Json, SegmentConfig, StoreInfo
from connector.errors import DefinitionError
from connector.segments.condition import Condition
from connector.segments.conditions import COMBINATIONS, CONDITIONS
from connector.segments.reading import Place, nearest

_DEEPEST = 30


def parse(segments: Mapping[str, SegmentConfig], store: StoreInfo) -> dict[str, Condition]:
    """The compiled condition of each segment, referenced ones before those that refer to them."""
    conditions = {
        id: read(Place("/segments", store, segments.keys()).at(id).at("when"), config.when)
        for id, config in segments.items()
    }
    graph = {id: condition.segments() for id, condition in conditions.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = error.args[1]
        raise DefinitionError(
            f"these segments refer to each other in a circle: {' > '.join(reversed(circle))}",
            pointer=Place("/segments", store, ()).at(circle[-1]).at("when").pointer,
        ) from None
    return {id: conditions[id] for id in order}


def read(place: Place, rule: Json) -> Condition:
    """One rule, compiled."""
    known = [*COMBINATIONS, *CONDITIONS]
    if not isinstance(rule, Mapping) or not rule:
        raise place.wrong(f"a condition is a mapping with one of: {', '.join(known)}")
    if place.pointer.count("/") > 3 + 2 * _DEEPEST:
        raise place.wrong(f"conditions can be nested {_DEEPEST} deep: give a part a segment of its own")
    for key, combine in COMBINATIONS.items():
        if key in rule:
            return combine(place, rule, read)
    for key, compile_rule in CONDITIONS.items():
        if key in rule:
            return compile_rule(place, rule)
    key = str(next(iter(rule)))
    raise place.at(key).wrong(f"{key!r} is no condition: {nearest(key, known)}")
