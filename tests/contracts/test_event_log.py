"""What every log promises: durable, partitioned, in order; its position moves with the effects or not at all."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select

from connector.errors import Fenced, NotDurable
from connector.inbox.runner import positions, run_once
from connector.ports import EventLog, New, Rec
from connector.storage.database import Database
from connector.storage.tables import delivery, log_position
from tests.brokers import kafka as kafka
from tests.logs import PARTS, PLACES, KafkaPlace, Place, Surroundings, append_side_by_side

effects = Table("effect", MetaData(), Column("id", Integer, primary_key=True), Column("delivery_id", Text))


def new(number: int, key: str | None = None, body: bytes = b"{}") -> New:
    return New(key or f"customer:{number % 7}", "shop", f"d{number}", "orders/create", 1_000 + number, "{}", body)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is down here is down, and need not be waited for as long as a real broker."""
    monkeypatch.setattr("connector.inbox.kafka.topic._LOOK", 0.5)
    monkeypatch.setattr("connector.inbox.kafka.writing._CONFIRMED_WITHIN_MS", 1500)


@pytest.fixture(params=PLACES, ids=lambda name: name.replace(",", "").replace(" ", "-"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    here = Surroundings(
        tmp_path, lambda: request.getfixturevalue("kafka"), lambda: request.getfixturevalue("new_postgres")()
    )
    place = PLACES[request.param](here)
    place.state.create(effects.metadata)
    yield place
    place.close()


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.log()


def keep(tx: Connection, records: Sequence[Rec]) -> None:
    tx.execute(insert(effects), [{"delivery_id": record.delivery_id} for record in records])


def kept(state: Database) -> list[str]:
    with state.read() as connection:
        return list(connection.execute(select(effects.c.delivery_id).order_by(effects.c.id)).scalars())


def until(met: Callable[[], bool], within: float = 30.0) -> None:
    """Waits for what must come; a log may need seconds to give out its partitions."""
    deadline = time.monotonic() + within
    while not met():
        assert time.monotonic() < deadline, "it did not come in time"


def work(state: Database, log: EventLog, wanted: int, limit: int = 500) -> None:
    """Work off exactly `wanted` records, and see that no more come."""
    done = 0

    def step() -> bool:
        nonlocal done
        done += run_once(state, log, keep, limit=limit, wait=0.05)
        return done >= wanted

    until(step)
    assert done == wanted
    assert run_once(state, log, keep, limit=limit, wait=0.05) == 0


def in_order(ids: Sequence[str], customers: int = 7) -> bool:
    numbers = [int(id_[1:]) for id_ in ids]
    return all(
        (of_one := [number for number in numbers if number % customers == customer]) == sorted(of_one)
        for customer in range(customers)
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_was_appended_is_worked_on_once_and_in_order_per_customer(place: Place, log: EventLog) -> None:
    log.append([new(number) for number in range(50)])
    work(place.state, log, 50, limit=3)
    assert sorted(kept(place.state)) == sorted(f"d{number}" for number in range(50))
    assert in_order(kept(place.state))


def test_a_delivery_comes_back_as_it_was_given(place: Place, log: EventLog) -> None:
    given = [
        New("shop/Ünï", "shop", "id/#1", "orders/create", 1_795_000_000_001, '{"a":"ß"}', bytes(range(256)) * 40),
        New("k", "other", "", "", 0, "{}", b""),
    ]
    log.append(given)
    found: list[Rec] = []
    until(lambda: run_once(place.state, log, lambda _, records: found.extend(records), wait=0.05) < 0 or len(found) > 1)
    assert sorted(record[1:] for record in found) == sorted(tuple(one) for one in given)


def test_many_threads_append_and_nothing_is_missing(place: Place, log: EventLog) -> None:
    append_side_by_side(log, [new(number) for number in range(200)])
    work(place.state, log, 200)
    assert sorted(kept(place.state)) == sorted(f"d{number}" for number in range(200))


def test_what_is_not_durable_is_refused_in_time_and_it_heals(place: Place, log: EventLog) -> None:
    log.append([new(0, "one")])
    place.down()
    try:
        began = time.monotonic()
        with pytest.raises(NotDurable):
            log.append([new(1, "one")], timeout=1.0)
        assert time.monotonic() - began < 3
        with pytest.raises(NotDurable):
            log.check()
    finally:
        place.up()

    def heals() -> bool:
        try:
            log.append([new(2, "one")])
        except NotDurable:
            return False
        return True

    until(heals)
    log.check()
    until(lambda: run_once(place.state, log, keep, wait=0.05) < 0 or {"d0", "d2"} <= set(kept(place.state)))
    # What was refused may have been kept nevertheless: its sender repeats it, under the same id.
    assert [id_ for id_ in dict.fromkeys(kept(place.state)) if id_ != "d1"] == ["d0", "d2"]


def test_whoever_hands_over_waits_for_nothing_and_hears_once(place: Place, log: EventLog) -> None:
    log.append([new(0)])
    heard: list[NotDurable | None] = []
    place.down()
    try:
        began = time.monotonic()
        for number in range(1, 4):
            log.submit([new(number)], heard.append)
        assert time.monotonic() - began < 3  # a wait for each would be three of three seconds
        until(lambda: len(heard) == 3)
        assert all(isinstance(one, NotDurable) for one in heard)
    finally:
        place.up()
    log.submit([], heard.append)
    until(lambda: len(heard) == 4)


def test_close_writes_what_is_queued(place: Place, log: EventLog) -> None:
    heard: list[NotDurable | None] = []
    for number in range(100):
        log.submit([new(number)], heard.append)
    log.close()
    assert heard == [None] * 100
    work(place.state, place.log(), 100)


def test_a_large_body_comes_back(place: Place, log: EventLog) -> None:
    """5 MB that nothing makes smaller, between two others of the same customer."""
    large = os.urandom(5 * 1024 * 1024)
    log.append([new(0, "one"), new(1, "one", large), new(2, "one")])
    found: list[Rec] = []

    def take(tx: Connection, records: Sequence[Rec]) -> None:
        found.extend(records)

    until(lambda: run_once(place.state, log, take, wait=0.05) < 0 or len(found) == 3)
    assert [record.delivery_id for record in found] == ["d0", "d1", "d2"]
    assert found[1].body == large


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_failing_handler_leaves_nothing_and_the_batch_comes_again(place: Place, log: EventLog) -> None:
    log.append([new(number, "one") for number in range(5)])

    def fails(tx: Connection, records: Sequence[Rec]) -> None:
        keep(tx, records)
        raise ValueError("half way")

    def failed() -> bool:
        try:
            run_once(place.state, log, fails, wait=0.05)
        except ValueError:
            return True
        return False

    until(failed)
    assert kept(place.state) == []
    assert sum(positions(place.state).values()) == 0
    work(place.state, log, 5)
    assert kept(place.state) == ["d0", "d1", "d2", "d3", "d4"]


def test_what_failed_comes_again_before_anything_else(place: Place, log: EventLog) -> None:
    log.append([new(number) for number in range(70)])
    failures: list[Rec] = []

    def fails(tx: Connection, records: Sequence[Rec]) -> None:
        failures.append(records[0])
        raise ValueError

    for _ in range(3):
        until(lambda: _raises(lambda: run_once(place.state, log, fails, limit=1, wait=0.05)))
    assert len(set(failures)) == 1
    work(place.state, log, 70)
    assert in_order(kept(place.state))


def _raises(act: Callable[[], object]) -> bool:
    try:
        act()
    except ValueError:
        return True
    return False


def test_a_position_that_another_has_moved_on_is_respected(place: Place, log: EventLog) -> None:
    log.append([new(number, "one") for number in range(4)])
    until(lambda: log.fill(0.05))
    got = log.batch(10)
    assert got is not None
    part, records = got
    log.rewind(part, records[0].pos)
    with place.state.tx() as tx:
        tx.execute(insert(log_position).values(part=part, pos=records[2].pos))
    until(lambda: run_once(place.state, log, keep, wait=0.05) < 0 or len(kept(place.state)) == 2)
    assert kept(place.state) == ["d2", "d3"]
    assert run_once(place.state, log, keep, wait=0.05) == 0


def test_a_worker_that_slept_through_its_turn_is_fenced_and_writes_nothing(place: Place, log: EventLog) -> None:
    """A zombie: it has read the records, and another has worked them off before it goes on."""
    log.append([new(number, "one") for number in range(3)])
    until(lambda: log.fill(0.05))
    other = place.log()
    work(place.state, other, 3)
    written: list[Sequence[Rec]] = []

    def writes(tx: Connection, records: Sequence[Rec]) -> None:
        written.append(records)
        keep(tx, records)

    for _ in range(5):
        run_once(place.state, log, writes, wait=0.05)
    assert written == []
    assert kept(place.state) == ["d0", "d1", "d2"]


def test_a_compare_and_swap_that_misses_raises_fenced(place: Place) -> None:
    from connector.inbox.runner import _advance

    with pytest.raises(Fenced), place.state.tx() as tx:
        _advance(tx, 0, expect=5, to=6)


def test_a_restart_goes_on_where_the_effects_ended(place: Place, log: EventLog) -> None:
    log.append([new(number, "one") for number in range(4)])
    until(lambda: run_once(place.state, log, keep, limit=2, wait=0.05) == 2)
    log.close()
    work(place.state, place.log(), 2)
    assert kept(place.state) == ["d0", "d1", "d2", "d3"]


def test_a_process_that_dies_without_a_word_is_taken_over_from(place: Place, log: EventLog) -> None:
    """It had read everything, worked off a part, and is never heard of again."""
    log.append([new(number) for number in range(40)])
    until(lambda: run_once(place.state, log, keep, limit=2, wait=0.05) == 2)
    work(place.state, place.log(), 38)
    assert sorted(kept(place.state)) == sorted(f"d{number}" for number in range(40))
    assert in_order(kept(place.state))


def test_a_rewind_gives_the_same_again(place: Place, log: EventLog) -> None:
    log.append([new(number, "one") for number in range(6)])
    until(lambda: log.fill(0.05))
    part, first = log.batch(2) or (-1, [])
    _, second = log.batch(2) or (-1, [])
    assert [record.delivery_id for record in (*first, *second)] == ["d0", "d1", "d2", "d3"]
    log.rewind(part, first[1].pos)
    until(lambda: log.fill(0.05))
    again: list[Rec] = []

    def reads() -> bool:
        if log.fill(0.05):
            again.extend((log.batch(10) or (part, []))[1])
        return len(again) == 5

    until(reads)
    assert [record.delivery_id for record in again] == ["d1", "d2", "d3", "d4", "d5"]


def test_gaps_are_no_end(place: Place, log: EventLog) -> None:
    log.append([new(number) for number in range(20)])
    place.gap(1)
    log.append([new(number) for number in range(20, 40)])
    until(lambda: run_once(place.state, log, keep, wait=0.05) < 0 or set(kept(place.state)) >= _twenty)
    found = kept(place.state)
    assert len(found) == len(set(found)) and in_order(found)


_twenty = {f"d{number}" for number in range(20, 40)}


def test_partitions_that_change_hands_lose_and_double_nothing(place: Place, log: EventLog) -> None:
    """Two workers take turns while deliveries come; then one leaves, and the other goes on."""
    numbers = count()
    appended = 0

    def deliver(many: int) -> None:
        nonlocal appended
        log.append([new(next(numbers)) for _ in range(many)])
        appended += many

    deliver(30)
    until(lambda: run_once(place.state, log, keep, limit=5, wait=0.02) > 0)
    other, shares = place.log(), {"first": 0, "second": 0}

    def both() -> bool:
        deliver(1 if appended < 400 else 0)
        shares["first"] += run_once(place.state, log, keep, limit=5, wait=0.01)
        shares["second"] += run_once(place.state, other, keep, limit=5, wait=0.01)
        return shares["second"] >= 10 and shares["first"] >= 10

    until(both)
    other.close()
    deliver(30)
    until(lambda: run_once(place.state, log, keep, wait=0.05) < 0 or len(kept(place.state)) >= appended)
    assert sorted(kept(place.state)) == sorted(f"d{number}" for number in range(appended))
    assert in_order(kept(place.state))


# --- what is kept, and how it stands ----------------------------------------------------------------------------------


def test_what_was_worked_off_can_be_found(place: Place, log: EventLog) -> None:
    from connector.inbox.sql import SqlLog, unpack

    log.append([new(0, "one", b"first"), new(1, "one", os.urandom(1_200_000))])
    work(place.state, log, 2)
    database = log.database if isinstance(log, SqlLog) else place.state
    with database.read() as connection:
        rows = connection.execute(select(delivery).order_by(delivery.c.part, delivery.c.pos)).mappings().all()
    assert [(row["delivery_id"], row["key"], row["received_at"]) for row in rows] == [
        ("d0", "one", 1_000),
        ("d1", "one", 1_001),
    ]
    assert unpack(rows[0]["body"]) == b"first" and len(unpack(rows[1]["body"])) == 1_200_000
    assert {row["part"] for row in rows} == set(positions(place.state))


def test_it_tells_what_waits_and_since_when(place: Place, log: EventLog) -> None:
    assert (log.standing().lag, log.oldest(log.standing())) == (0, None)
    log.append([new(number) for number in range(20)])
    standing = log.standing()
    assert (standing.lag, standing.trouble) == (20, "")
    until(lambda: log.oldest(standing) == 1_000)
    assert len(standing.partitions) == PARTS
    work(place.state, log, 20)
    done = log.standing()
    assert (done.lag, log.oldest(done)) == (0, None)
    assert {part.part: part.head for part in done.partitions if part.head} == positions(place.state)


def test_places_are_what_they_say(place: Place, log: EventLog) -> None:
    """Or one log would be tried twice, and another not at all."""
    assert type(log).__name__ == ("KafkaLog" if isinstance(place, KafkaPlace) else "SqlLog")
    assert log.standing().log
