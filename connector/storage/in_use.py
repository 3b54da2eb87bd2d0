"""Who works on a data directory: any number of processes at once, or one that puts a backup in its place."""

import fcntl
from io import BufferedWriter
from pathlib import Path

from connector.errors import ConfigurationError

_LOCK = "in-use.lock"
UNFINISHED = "restore.unfinished"
"""A file that lies in the data directory from before a restore moves anything until all of it is in its place."""


class InUse:
    """A hold on a data directory, as a lock on a file in it: the system lets go of it when its process is killed."""

    def __init__(self, file: BufferedWriter) -> None:
        self._file = file

    def give_back(self) -> None:
        self._file.close()


def share(folder: Path) -> InUse:
    """A hold beside those of other processes. ConfigurationError while a restore is under way, or was cut off: an
    empty database would be made in the place of the one that is missing."""
    held = InUse(_locked(folder, fcntl.LOCK_SH, f"a backup is being restored into {folder}; start when that is done"))
    if (folder / UNFINISHED).exists():
        held.give_back()
        raise ConfigurationError(
            f"a restore into {folder} was cut off; run `storecue db restore` again, with --force: what was there "
            "before lies in a folder in it"
        )
    return held


def alone(folder: Path) -> InUse:
    """A hold that no other process has one beside. ConfigurationError when one works on the folder."""
    return InUse(_locked(folder, fcntl.LOCK_EX, f"StoreCue works on {folder}; stop it, and all its commands, first"))


def _locked(folder: Path, how: int, refusal: str) -> BufferedWriter:
    try:
        file = (folder / _LOCK).open("wb")
    except OSError as error:
        raise ConfigurationError(
            f"the data directory {folder} cannot be written to ({error.strerror}); give the user that runs StoreCue "
            "the right to, or name another with --data or STORECUE_DATA"
        ) from error
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigurationError(refusal) from None
    return file
