"""The shape of a JSON document: its paths and what type of value stands at each."""

import re
from collections.abc import Iterator

from connector.domain import Json

DEEPEST = 6
MOST_PATHS = 600
_TYPES = {dict: "object", list: "list", str: "text", bool: "flag", int: "number", float: "number"}

# Keys that name things and not fields: ids, addresses, dates. Whatever they are, they are one path.
_NAMES_A_THING = re.compile(r"[\d_:.-]+|.*@.*|gid:.*|[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def shape(document: Json) -> set[tuple[str, str]]:
    """(path, type) of everything in a document, such as ("line_items[].price", "text").

    A null says nothing of a type and is left out. No more than MOST_PATHS paths, none deeper than DEEPEST.
    """
    found: set[tuple[str, str]] = set()
    for pair in _walk(document, "", DEEPEST):
        found.add(pair)
        if len(found) == MOST_PATHS:
            break
    return found


def _walk(value: Json, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if path:
        yield path, _TYPES.get(type(value), "other")
    if depth == 0:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            name = "*" if _NAMES_A_THING.fullmatch(key) else key[:100]
            yield from _walk(inner, f"{path}.{name}" if path else name, depth - 1)
    elif isinstance(value, list):
        for inner in value[:20]:  # one is mostly like the other
            yield from _walk(inner, f"{path}[]", depth - 1)
