"""The shape of a JSON document: its paths and what type of value stands at each."""

import re
from functools import lru_cache

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
    left: list[tuple[str, Json, int]] = [("", document, DEEPEST)]
    while left:
        path, holder, depth = left.pop()
        for inner_path, inner in _inside(path, holder):
            if inner is None:
                continue
            found.add((inner_path, _TYPES.get(type(inner), "other")))
            if len(found) == MOST_PATHS:
                return found
            if depth > 1 and isinstance(inner, dict | list):
                left.append((inner_path, inner, depth - 1))
    return found


def _inside(path: str, holder: Json) -> list[tuple[str, Json]]:
    if isinstance(holder, dict):
        before = f"{path}." if path else ""
        return [(before + _name(key), inner) for key, inner in holder.items()]
    if isinstance(holder, list):
        path += "[]"
        return [(path, inner) for inner in holder[:20]]  # one is mostly like the other
    return []


@lru_cache(maxsize=4096)
def _name(key: str) -> str:
    return "*" if _NAMES_A_THING.fullmatch(key) else key[:100]
