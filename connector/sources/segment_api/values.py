"""Values of the sender's own making, kept within bounds."""

from typing import Any

from connector.domain import Json

MOST_VALUES = 100  # of one object or list
LONGEST_TEXT = 1000
_DEEPEST = 4


def pruned(value: Any, depth: int = 0) -> Json:
    """The value, with long texts cut, long lists and objects shortened, and what lies too deep left out."""
    if type(value) is str:
        return value[:LONGEST_TEXT]
    if type(value) is dict:
        if depth >= _DEEPEST:
            return None
        items = list(value.items())[:MOST_VALUES]
        return {name[:LONGEST_TEXT]: pruned(inner, depth + 1) for name, inner in items}
    if type(value) is list:
        return None if depth >= _DEEPEST else [pruned(inner, depth + 1) for inner in value[:MOST_VALUES]]
    if type(value) is int and abs(value) >= 2**53:
        return str(value)  # an id: as a number it would be rounded by whoever reads it
    return value
