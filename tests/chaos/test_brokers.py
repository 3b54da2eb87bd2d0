"""Faults of brokers: R7. Away and back, too few replicas, members that come and go, while deliveries are appended."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select

from connector.errors import Fenced, NotDurable
from connector.inbox.kafka.cluster import Cluster
from connector.inbox.runner import run_once
from connector.ports import EventLog, New, Rec
from connector.storage.database import sqlite_url
from tests.brokers import MockKafka
from tests.chaos.figures import Figure, profile
from tests.logs import PARTS, KafkaPlace

SECONDS = profile(8, 300)
BROKERS = (1, 2, 3)
FAULTS = ("away", "slow", "replicas", "not the leader", "new leaders", "new coordinator", "nothing")
REFUSALS = {"replicas": 19, "not the leader": 6}  # Kafka's own numbers
effects = Table("effect", MetaData(), Column("id", Integer, primary_key=True), Column("delivery_id", Text))


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    kafka = MockKafka(len(BROKERS))
    yield kafka
    kafka.close()


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request under way for each broker. Where several are and one is refused, brokers refuse those behind it too,
    whose numbers are out of sequence, and librdkafka relies on it: what was accepted later tells it that all before is
    kept. The mock cluster looks at no numbers."""
    client = Cluster.client
    monkeypatch.setattr(Cluster, "client", lambda self: {**client(self), "max.in.flight.requests.per.connection": 1})


@pytest.fixture
def place(tmp_path: Path, kafka: MockKafka) -> Iterator[KafkaPlace]:
    place = KafkaPlace(sqlite_url(tmp_path / "state.db"), kafka)
    place.state.create(effects.metadata)
    yield place
    place.close()


def keep(tx: Connection, records: Sequence[Rec]) -> None:
    tx.execute(insert(effects), [{"delivery_id": record.delivery_id} for record in records])


class Storm:
    """Appends, and works off with members that are ended and replaced, until told to stop."""

    def __init__(self, place: KafkaPlace) -> None:
        self.place = place
        self.calm = threading.Event()
        self.kept: set[str] = set()
        self.refused = self.fenced = self.replaced = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._append, args=(n,)) for n in range(2)]
        self._threads += [threading.Thread(target=self._work, args=(n,)) for n in range(2)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.calm.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _append(self, number: int) -> None:
        log, count = self.place.log(), 0
        while not self.calm.is_set():
            ids = [f"{number}-{count + n}" for n in range(5)]
            count += 5
            try:
                log.append([New(f"c{id_[-1]}", "shop", id_, "orders/create", 1_000, "{}", b"{}") for id_ in ids], 1.0)
            except NotDurable:
                with self._lock:
                    self.refused += len(ids)
                continue
            with self._lock:
                self.kept.update(ids)
            self.calm.wait(0.01)
        log.close()

    def _work(self, number: int) -> None:
        chance, log = random.Random(number), self.place.log()
        ends = time.monotonic() + chance.uniform(2, 4)
        while not self.calm.is_set():
            if time.monotonic() > ends:
                log.close()  # a member that leaves; its partitions go to the other
                log, ends = self.place.log(), time.monotonic() + chance.uniform(2, 4)
                with self._lock:
                    self.replaced += 1
            self.step(log)
        log.close()  # or its partitions would stay with a member that reads no more

    def step(self, log: EventLog) -> None:
        try:
            run_once(self.place.state, log, keep, limit=20, wait=0.05)
        except Fenced:
            with self._lock:
                self.fenced += 1


def test_r7_brokers_that_fail_and_members_that_change_lose_and_double_nothing(
    place: KafkaPlace, kafka: MockKafka, figure: Figure
) -> None:
    chance, faults = random.Random(7), Counter[str]()
    storm = Storm(place)
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        what, broker = chance.choice(FAULTS), chance.choice(BROKERS)
        faults[what] += 1
        if what in REFUSALS:
            kafka.refuse_next(REFUSALS[what])
        elif what == "away":
            kafka.down(broker)
            storm.calm.wait(chance.uniform(0.1, 0.8))
            kafka.up(broker)
        elif what == "slow":
            kafka.answer_after(0.2, broker)
            storm.calm.wait(chance.uniform(0.1, 0.8))
            kafka.answer_after(0.0, broker)
        elif what == "new leaders":
            for part in range(PARTS):
                kafka.lead(place.cluster.topic, part, chance.choice(BROKERS))
        elif what == "new coordinator":
            kafka.coordinate(place.cluster.group, broker)
        storm.calm.wait(0.3)
    storm.end()
    last = place.log()
    deadline = time.monotonic() + 60
    while not storm.kept <= set(done(place)):
        storm.step(last)
        assert time.monotonic() < deadline, f"{len(storm.kept - set(done(place)))} were acknowledged and never came"
    counted = Counter(done(place))
    # The same delivery may be in the topic twice, after an append that was refused and landed; its id tells (`seen`).
    doubled = [id_ for id_, times in counted.items() if times > 1 and id_ in storm.kept]
    assert doubled == []
    for customer in range(10):
        for appender in range(2):
            of_one = [
                int(id_.split("-")[1])
                for id_ in done(place)
                if id_.startswith(f"{appender}-") and id_[-1] == str(customer)
            ]
            assert of_one == sorted(of_one), "out of order"
    figure(
        "R7",
        f"{SECONDS} s: {', '.join(f'{faults[what]} {what}' for what in FAULTS)}, "
        f"{storm.replaced} members replaced, {storm.fenced} fenced: {len(storm.kept):,} acknowledged, "
        "0 lost, 0 doubled, 0 out of order",
    )


def done(place: KafkaPlace) -> list[str]:
    with place.state.read() as connection:
        return list(connection.execute(select(effects.c.delivery_id).order_by(effects.c.id)).scalars())
