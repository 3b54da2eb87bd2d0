"""What an adapter has under way at its vendor, kept in the database until it has ended."""

from collections.abc import Iterator, MutableMapping

from connector.storage.database import Database
from connector.sync import store


class UnderWay(MutableMapping[str, str]):
    """The notes of one destination's adapter (`jobs` of adapters.destination.Settings): each is on disk when its
    assignment returns."""

    def __init__(self, database: Database, destination: str) -> None:
        self._database = database
        self._destination = destination

    def __getitem__(self, name: str) -> str:
        return self._notes()[name]

    def __setitem__(self, name: str, note: str) -> None:
        with self._database.tx(beside=True) as tx:
            store.note_job(tx, self._destination, name, note)

    def __delitem__(self, name: str) -> None:
        with self._database.tx(beside=True) as tx:
            if not store.strike_job(tx, self._destination, name):
                raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._notes())

    def __len__(self) -> int:
        return len(self._notes())

    def _notes(self) -> dict[str, str]:
        with self._database.read() as connection:
            return store.job_notes(connection, self._destination)
