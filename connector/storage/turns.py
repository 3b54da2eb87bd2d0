"""Whose turn it is: one process at a time for each piece of work that must not be done twice at once."""

import fcntl
import math
import os
import socket
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Protocol

from connector.storage.database import Database
from connector.storage.leases import TTL, Held, Leases, Process

WORKS = ("push", "fetch", "stream")
_LOCK = ".lock"
_PROCESS = "process-"


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
        """The turn for one piece of work: what is done (one of WORKS), and to what."""
        ...

    def announce(self, kind: str) -> None:
        """Let others see this process, as a `worker` for instance, until `close`."""
        ...

    def processes(self) -> list[Process]:
        """Those that live and were announced, or hold something."""
        ...

    def held(self) -> list[Held]:
        """Who has which turn."""
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
        self._path = folder / f"{work}-{name}{_LOCK}"
        self._held: BufferedWriter | None = None

    def take(self) -> bool:
        if self._held is not None:
            return True
        self._held = _locked(self._path, _this_process())
        return self._held is not None

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
        self._path = folder
        self._announced: BufferedWriter | None = None

    def of(self, work: str, name: str) -> FileTurn:
        return FileTurn(self._database, self._folder, work, name)

    def announce(self, kind: str) -> None:
        for path, _ in self._files(_PROCESS):
            if not _is_locked(path):
                path.unlink(missing_ok=True)
        self._path = self._folder / f"{_PROCESS}{os.getpid()}{_LOCK}"
        self._announced = _locked(self._path, f"{kind} {_this_process()}")

    def processes(self) -> list[Process]:
        found = []
        for path, _ in self._files(_PROCESS):
            if _is_locked(path):
                kind, _, name = path.read_text().partition(" ")
                found.append(Process(name, kind, int(path.stat().st_mtime * 1000), None))
        return found

    def held(self) -> list[Held]:
        return [
            Held(work, name, path.read_text(), int(path.stat().st_mtime * 1000), None)
            for work in WORKS
            for path, name in self._files(f"{work}-")
            if _is_locked(path)
        ]

    def _files(self, begins: str) -> Iterator[tuple[Path, str]]:
        for path in sorted(self._folder.glob(f"{begins}*{_LOCK}")):
            yield path, path.name.removeprefix(begins).removesuffix(_LOCK)

    def close(self) -> None:
        """The system frees what a process that ends has locked."""
        if self._announced is not None:
            self._announced.close()
            self._path.unlink(missing_ok=True)


def _this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _locked(path: Path, words: str) -> BufferedWriter | None:
    """The file, locked and with these words in it; None when another process has locked it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(words.encode())
    file.flush()
    return file


def _is_locked(path: Path) -> bool:
    """Whoever wants to lock it at this very moment has to try again."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def turns_of(database: Database, folder: Path, seconds: float = TTL) -> Turns:
    """The turns of this process: files where processes share a machine, leases of so many seconds where they share a
    server."""
    return FileTurns(database, folder) if database.dialect == "sqlite" else Leases(database, seconds)
