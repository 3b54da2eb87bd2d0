"""Many rows in one statement on PostgreSQL: what is kept is what row after row would have kept."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Connection, LargeBinary, MetaData, Table, Text, event, insert, select

from connector.storage.database import Database
from connector.storage.phrases import among, upsert
from connector.storage.tables import counter, metadata
from connector.storage.tables import event as events

_BLOB = Table("blob", MetaData(), Column("name", Text, primary_key=True), Column("body", LargeBinary))


@pytest.fixture
def database(new_postgres: Callable[[], str]) -> Iterator[Database]:
    made = Database(new_postgres())
    made.create(metadata)
    made.create(_BLOB.metadata)
    yield made
    made.close()


@pytest.fixture
def told(database: Database) -> list[str]:
    """What the server said of each statement."""
    said: list[str] = []

    @event.listens_for(database.engine, "after_cursor_execute")
    def _hear(_connection: Connection, cursor: Any, *_rest: Any) -> None:
        said.append(cursor.statusmessage)

    return said


def row(**news: Any) -> dict[str, Any]:
    return {"profile_id": 1, "at": 2, "id": "a", "name": "n", "day": -3, "properties": "{}", "source": "s"} | news


def test_rows_are_one_statement_and_come_out_as_they_went_in(database: Database, told: list[str]) -> None:
    rows = [
        row(id="quotes", properties='{"title": "\\"it\'s\\" a \\\\ thing"}'),
        row(id="words", name="Größe – 価格 🎈", properties="[null]"),
        row(id="numbers", profile_id=2**62, at=-(2**40), day=0),
    ]
    with database.tx() as tx:
        tx.execute(insert(events), rows)
        assert told[-1] == "INSERT 0 3"
        kept = tx.execute(select(events).order_by(events.c.id)).mappings()
        assert [dict(one) for one in kept] == sorted(rows, key=lambda one: one["id"])


def test_only_what_is_new_counts(database: Database) -> None:
    ignoring = upsert(events).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    with database.tx() as tx:
        assert tx.execute(ignoring, [row(id="a"), row(id="b")]).rowcount == 2
        assert tx.execute(ignoring, [row(id="b"), row(id="c"), row(id="c"), row(id="d")]).rowcount == 2


def test_a_key_that_occurs_again_is_updated_again_in_its_turn(database: Database) -> None:
    add = upsert(counter)
    add = add.on_conflict_do_update(
        index_elements=["name", "label"],
        set_={"count": counter.c.count * 10 + add.excluded.count, "last_at": 7},  # 7 is a parameter of the statement
    )
    rows = [
        {"name": "n", "label": label, "count": count, "last_at": 1}
        for label, count in (("x", 1), ("y", 5), ("x", 2), ("x", 3))
    ]
    with database.tx() as tx:
        tx.execute(add, rows)
        kept = tx.execute(select(counter.c.label, counter.c.count, counter.c.last_at)).all()
        assert sorted(kept) == [("x", 123, 7), ("y", 5, 1)]


def test_nothing_and_bytes_are_kept(database: Database) -> None:
    with database.tx() as tx:
        tx.execute(insert(_BLOB), [{"name": "a", "body": b"\x00\xff"}, {"name": "b", "body": None}])
        assert sorted(tx.execute(select(_BLOB)).all()) == [("a", b"\x00\xff"), ("b", None)]
        tx.execute(insert(metadata.tables["entity"]), [
            {"source": "s", "kind": "k", "id": id_, "profile_id": None, "updated_at": 1, "data": ""} for id_ in "ab"
        ])  # fmt: skip
        assert tx.execute(select(metadata.tables["entity"].c.profile_id)).scalars().all() == [None, None]


def test_a_list_is_one_parameter(database: Database) -> None:
    some = select(events.c.id).where(among(events.c.id, "ids"), among(events.c.profile_id, "people"))
    with database.tx() as tx:
        tx.execute(insert(events), [row(id=id_, profile_id=person) for person, id_ in enumerate(('"', "b", "é", ""))])
        found = tx.execute(some, {"ids": ['"', "é", "", "none"], "people": [0, 2, 3, 2**62]}).scalars().all()
        assert sorted(found) == ["", '"', "é"]
        assert tx.execute(some, {"ids": [], "people": []}).all() == []
