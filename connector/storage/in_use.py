"""Who works on a data directory, and on a database on a server: any number of processes at once, or one that puts
another content in its place."""

import fcntl
from io import BufferedWriter
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text

from connector.errors import ConfigurationError
from connector.storage.database import Database

_LOCK = "in-use.lock"
_IN_USE = 0x53746F7266
"""PostgreSQL's advisory lock of those who work on a database. It is its connection's, and ends with it."""
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


class Hold(Protocol):
    """Something held until it is given back, or its process ends."""

    def give_back(self) -> None: ...


class OnServer:
    """A hold on a database on a server, by a connection of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def others(self) -> int:
        """Connections of StoreCue's to this database beside this one, as far as they may be seen."""
        return int(self._connection.execute(_OTHERS).scalar_one())

    def give_back(self) -> None:
        self._connection.close()


class Nothing:
    """In the place of a hold on a SQLite database: the one on its folder is enough."""

    def give_back(self) -> None: ...


def share_database(database: Database) -> Hold:
    """A hold beside those of others. ConfigurationError while somebody holds the database alone."""
    return _on_server(database, "_shared", "another content is being put into this database; start when that is done")


def database_alone(database: Database) -> Hold:
    """A hold that nobody has one beside, and nobody a connection. ConfigurationError when somebody has."""
    held = _on_server(database, "", f"StoreCue works on {database.place}; stop it, and all its commands, first")
    if isinstance(held, OnServer) and (others := held.others()):
        held.give_back()
        # A hold is lost when the server is started anew; the connections of who lost it come back.
        raise ConfigurationError(
            f"StoreCue is connected to {database.place} ({others} connections); stop it, and all its commands, first"
        )
    return held


def _on_server(database: Database, how: str, refusal: str) -> Hold:
    if database.dialect == "sqlite":
        return Nothing()
    connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()  # closing it really ends it
    if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock{how}({_IN_USE})").scalar_one():
        connection.close()
        raise ConfigurationError(refusal)
    return OnServer(connection)


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


_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'storecue'"
    " AND pid <> pg_backend_pid()"
)
