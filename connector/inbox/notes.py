"""What a worker is at, noted where it outlives the process: whoever comes after knows over what it died."""

import faulthandler
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import orjson

HANGS_AFTER = 60.0
"""Seconds for one batch, which takes a third of one: longer than any database lets it wait. A worker that was late for
another reason loses its batch and nothing else."""

KILLED = "killed_the_worker"


class Note(NamedTuple):
    """Records of one partition, or a parked one, in one transaction. `deaths`: of workers that had it alone before."""

    part: int
    first: int
    end: int
    records: int
    source: str
    delivery: str  # the first one's id
    parked: bool = False
    deaths: int = 0


class Notes:
    """The notes of the workers on one data directory: our own, and those of the dead.

    Each process has a file of its own and holds a lock on it, which the system lets go of when the process is dead.
    Nothing is forced to the disk: what is written outlives the process, and a machine that went down forgets who was
    at what, which is as well.
    """

    def __init__(self, folder: Path) -> None:
        self.hangs_after: float | None = None
        """Seconds after which this process ends itself; None: never."""
        self.last: Note | None = None
        """What we are at, or were last."""
        self._folder = folder
        self._path = folder / f"worker-{os.getpid()}-{secrets.token_hex(4)}.note"
        self._file: int | None = None

    @contextmanager
    def at(self, note: Note) -> Iterator[None]:
        """Work on these records inside. An exception is no death.

        A regular expression that does not come to an end lets no other thread run, so that the watch is one of C's. It
        writes where every thread stands to stderr, and ends the process; the next worker says over which delivery.
        """
        self.last = note
        with suppress(OSError):  # a full disk: the work may need no room
            if self._file is None:
                self._file = self._made()
            os.pwrite(self._file, orjson.dumps(list(note)) + b"\n", 0)
        if self.hangs_after is not None:
            faulthandler.dump_traceback_later(self.hangs_after, exit=True, file=2)
        try:
            yield
        finally:
            if self.hangs_after is not None:
                faulthandler.cancel_dump_traceback_later()
            if self._file is not None:
                os.ftruncate(self._file, 0)

    def settle(self, tell: Callable[[Note], None]) -> None:
        """Tell what workers that are dead were at, and throw their notes away."""
        for path in self._folder.iterdir():
            if path.suffix != ".note" or path == self._path:
                continue
            with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if line := file.readline():
                    tell(Note(*orjson.loads(line)))
                path.unlink()

    def close(self) -> None:
        """Leave no note behind."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _made(self) -> int:
        """Our own file, locked before anybody can find it."""
        new = self._path.with_suffix(".new")
        file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        new.rename(self._path)
        return file
