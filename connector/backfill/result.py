"""The result of a bulk operation on our disk: loaded piece by piece, put in order, read group by group.

What is in memory is a group, whatever the size of the shop. The parts of a thing (the lines of an order) mostly follow
it; the sources do not promise it. A first look through the file finds those that stand elsewhere, and keeps them in a
small SQLite file beside it, where they are found by their owner.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from adapters.errors import DeliveryError
from connector.clock import Millis
from connector.ports import History, Record

GROUP = 500
"""Things put in line at once."""

_GROUP_BYTES = 4 * 1024 * 1024
_SAFE_EVERY = 8 * 1024 * 1024  # bytes between two promises of the disk


class Result:
    """The file of one kind of thing of one source. It holds customer data: mode 0600, and gone when it is in line."""

    def __init__(self, folder: Path, source: str, kind: str, started_at: Millis) -> None:
        self._folder = folder
        self._begins = f"{source}.{kind}."
        self._path = folder / f"{self._begins}{started_at}.jsonl"
        self._strays = folder / f"{self._begins}{started_at}.strays"

    def has(self, size: int) -> bool:
        """Whether so many bytes are here. They are not when another machine has loaded them."""
        return size == 0 or (self._path.exists() and self._path.stat().st_size >= size)

    def load(self, begins: int, pieces: Iterable[bytes], note: Callable[[int], bool]) -> int | None:
        """The bytes that are here once all pieces have come, of which the first is byte `begins`. `note` hears of bytes
        that the disk has promised to keep; when it says False, this ends with None."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in self._folder.glob(f"{self._begins}*"):  # of a backfill that another machine has brought to its end
            if old not in (self._path, self._strays):
                old.unlink(missing_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(begins)
            file.seek(begins)
            loaded = safe = begins
            try:
                for piece in pieces:
                    file.write(piece)
                    loaded += len(piece)
                    if loaded - safe >= _SAFE_EVERY:
                        safe = _promised(file, loaded)
                        if not note(safe):
                            return None
            except DeliveryError:  # it broke off: what has come is kept, and the next try goes on behind it
                note(_promised(file, loaded))
                raise
            safe = _promised(file, loaded)
        return safe if note(safe) else None

    def sort(self, owner: Callable[[bytes], tuple[str, bool]]) -> int:
        """The number of things in the file; those of their parts that do not follow them are put aside."""
        self._strays.unlink(missing_ok=True)
        strays: sqlite3.Connection | None = None
        current, things = "", 0
        try:
            for _, line in self._lines(0):
                whose, own = owner(line)
                if own:
                    current, things = whose, things + 1
                elif whose != current:
                    if strays is None:
                        strays = self._aside()
                    strays.execute("INSERT INTO part VALUES (?, ?)", (whose, line))
            if strays is not None:
                strays.execute("CREATE INDEX part_owner ON part (owner)")
                strays.execute("COMMIT")
        finally:
            if strays is not None:
                strays.close()
        return things

    def group(self, position: int, kind: str, history: History) -> tuple[Sequence[Record], int | None]:
        """The things from `position` on, as many as make a group, and where the ones after them begin, None at the
        end."""
        group: list[Record] = []
        thing, whose, parts = b"", "", list[bytes]()
        strays = sqlite3.connect(f"{self._strays.as_uri()}?mode=ro", uri=True) if self._strays.exists() else None

        def finish() -> None:
            if thing:
                asides = (
                    strays.execute("SELECT line FROM part WHERE owner = ? ORDER BY rowid", (whose,)) if strays else ()
                )
                group.append(history.record(kind, thing, [*parts, *(line for (line,) in asides)]))

        try:
            for begins, line in self._lines(position):
                owner, own = history.owner(line)
                if own:
                    finish()
                    thing = b""
                    if len(group) >= GROUP or begins - position >= _GROUP_BYTES:
                        return group, begins
                    thing, whose, parts = line, owner, []
                elif thing and owner == whose:
                    parts.append(line)
            finish()
            return group, None
        finally:
            if strays is not None:
                strays.close()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._strays.unlink(missing_ok=True)

    def _lines(self, position: int) -> Iterator[tuple[int, bytes]]:
        """Each line with where it begins; empty ones left out. None at all without a file: nothing was found."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(position)
            for line in file:
                if line.strip():
                    yield position, line
                position += len(line)

    def _aside(self) -> sqlite3.Connection:
        os.close(os.open(self._strays, os.O_RDWR | os.O_CREAT, 0o600))
        strays = sqlite3.connect(self._strays, isolation_level=None)
        strays.execute("PRAGMA journal_mode=OFF")  # after a crash, sorting begins anew
        strays.execute("PRAGMA cache_size=-4096")
        strays.execute("CREATE TABLE part (owner TEXT, line BLOB)")
        strays.execute("BEGIN")
        return strays


def _promised(file: IO[bytes], loaded: int) -> int:
    file.flush()
    os.fsync(file.fileno())
    return loaded
