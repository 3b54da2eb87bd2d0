"""What an adapter notes of its jobs outlives the process, by destination."""

from pathlib import Path

import pytest

from connector.storage.database import Database
from connector.storage.migrations import migrate
from connector.sync import store
from connector.sync.under_way import UnderWay


def test_notes_outlive_the_process_until_they_are_struck_out(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/storecue.db"
    database = Database(address)
    migrate(database)
    notes = UnderWay(database, "klaviyo")
    assert notes.get("import", "{}") == "{}"
    notes["import"] = "first"
    notes["import"] = "second"
    UnderWay(database, "other")["import"] = "theirs"
    database.close()

    database = Database(address)
    again = UnderWay(database, "klaviyo")
    assert dict(again) == {"import": "second"}
    assert again.pop("import", None) == "second"
    assert again.pop("import", None) is None
    with pytest.raises(KeyError):
        del again["import"]
    assert len(UnderWay(database, "other")) == 1
    with database.tx() as tx:
        store.forget_account(tx, "other")
    assert not UnderWay(database, "other")
    database.close()
