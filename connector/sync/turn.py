"""Whose turn it is to push: one sender at a time per destination, so that no older state arrives after a newer one."""

import fcntl
from io import BufferedWriter
from pathlib import Path


class Turn:
    """The right to push to one destination, as a lock on a file beside the database.

    SQLite's processes share a machine, so that the system's own lock will do: it needs no clock, and it is free at once
    when its holder is killed. (A database that machines share will need a lease instead.)
    """

    def __init__(self, folder: Path, destination: str, work: str = "push") -> None:
        self._path = folder / f"{work}-{destination}.lock"
        self._held: BufferedWriter | None = None

    def take(self) -> bool:
        """True when it is ours, now or already."""
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

    def give_back(self) -> None:
        """Let another sender have it."""
        if self._held is not None:
            self._held.close()
            self._held = None
