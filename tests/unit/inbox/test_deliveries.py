"""Which deliveries were worked on before."""

from pathlib import Path

from connector.inbox.deliveries import fresh
from connector.ports import Rec
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import metadata


def test_a_delivery_is_known_again_whatever_its_id(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "state.db"))
    database.create(metadata)
    records = [Rec(n, "k", "site", id_, "t", 1, "{}", b"{}") for n, id_ in enumerate(("a", "a\0b", "ü'\"\\", ""))]
    for expected in (records, []):
        with database.tx() as tx:
            assert fresh(tx, records, 1) == expected
    database.close()
