"""What a source let pass although it is not as it should be: counted, while the rest of the delivery counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_found: ContextVar[list[str] | None] = ContextVar("noticed", default=None)


def notice(fault: str) -> None:
    """Note a fault, a slug such as `bad_email`, of the delivery that is being read. It says nothing of whose it is."""
    found = _found.get()
    if found is not None:
        found.append(fault)


@contextmanager
def noticing() -> Iterator[list[str]]:
    """The faults that are noted inside the block, by this thread."""
    found: list[str] = []
    before = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(before)
