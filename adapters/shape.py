"""What is in an answer, whatever shape it came in: a vendor's mistake is no exception of ours."""

from typing import Any


def dig(value: Any, *path: str | int) -> Any:
    """The value under these keys and positions; None where there is none."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def word(value: Any, *path: str | int) -> str:
    """The text or number under these keys as text; "" for anything else."""
    found = dig(value, *path)
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""


def count(value: Any, *path: str | int) -> int:
    """The whole number under these keys; 0 for anything else."""
    found = dig(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def entries(value: Any, *path: str | int) -> list[Any]:
    """The list under these keys; empty for anything else."""
    found = dig(value, *path)
    return found if isinstance(found, list) else []


def records(value: Any, *path: str | int) -> list[dict[str, Any]]:
    """The objects in the list under these keys."""
    return [record for record in entries(value, *path) if isinstance(record, dict)]


def stated(data: Any, name: str) -> str | None:
    """The text of a member, empty for null; None when there is no such member."""
    return word(data, name) if isinstance(data, dict) and name in data else None
