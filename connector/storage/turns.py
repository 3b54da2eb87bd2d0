"""Whose turn it is: one process at a time for each piece of work that must not be done twice at once."""

import fcntl
import math
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Protocol

from connector.storage.database import Database
from connector.storage.leases import Leases


class Turn(Protocol):
    """The right to do one piece of work, such as to push to one destination.

    database: the state, for whoever has the turn; its write transactions raise Fenced once the turn is another's.
    spent_until: when another process may last have used the limits of what is worked with, by the monotonic clock; None
    when none has.
    """

    @property
    def database(self) -> Database: ...

    @property
    def spent_until(self) -> float | None: ...

    def take(self) -> bool:
        """True when it is ours, now or already. False at least once after it was lost, so that whoever works drops what
        it has in memory."""
        ...

    def left(self) -> float:
        """Seconds for which it stays ours for certain, whatever happens to us."""
        ...

    def give_back(self) -> None:
        """Let another have it."""
        ...


class Turns(Protocol):
    """The turns of one process."""

    def of(self, work: str, name: str) -> Turn:
        """The turn for one piece of work: what is done (push, poll, fetch, stream), and to what."""
        ...

    def announce(self, kind: str) -> None:
        """Let others see this process, as a `worker` for instance, until `close`."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class FileTurn:
    """A turn as a lock on a file beside the database.

    SQLite's processes share a machine, so that the system's own lock will do: it needs no clock, it is free at once
    when its holder is killed, and a holder that lives cannot lose it, so that no write has to be refused.
    """

    spent_until = None

    def __init__(self, database: Database, folder: Path, work: str, name: str) -> None:
        self.database = database
        self._path = folder / f"{work}-{name}.lock"
        self._held: BufferedWriter | None = None

    def take(self) -> bool:
        if self._held is not None:
            return True
        file = self._path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._held = file
        return True

    def left(self) -> float:
        return -math.inf if self._held is None else math.inf

    def give_back(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


class FileTurns:
    """Turns of processes that share a data directory."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def of(self, work: str, name: str) -> FileTurn:
        return FileTurn(self._database, self._folder, work, name)

    def announce(self, kind: str) -> None:
        """Nothing: whoever shares the machine sees its processes."""

    def close(self) -> None:
        """Nothing: the system frees what a process that ends has locked."""


def turns_of(database: Database, folder: Path) -> Turns:
    """The turns of this process: files where processes share a machine, leases where they share a server."""
    return _TURNS[database.dialect](database, folder)


_TURNS: dict[str, Callable[[Database, Path], Turns]] = {
    "sqlite": FileTurns,
    "postgresql": lambda database, _: Leases(database),
}
