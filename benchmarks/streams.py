"""Streams: events per second read into the log and published, beside a bare consumer and producer of the same run.

    python -m benchmarks.streams [--events 20000] [--rounds 3]

Kafka is librdkafka's mock cluster in this process, which keeps 5 MB of a partition: 16 partitions, events of about
0.3 KB. The bare consumer decodes nothing and commits each batch, the bare producer waits for all delivery reports.
"""

import argparse
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import structlog

from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.services import Services
from connector.streaming import work_on
from connector.streams import outbox
from tests.brokers import MockKafka

PARTITIONS = 16
PEOPLE = 2_000
CONFIG = """
version: 1
sources: {{site: {{kind: segment_api, secrets: [a-long-secret]}}}}
streams:
  in: {{kind: kafka, topic: {read}, into: site, credentials: {{bootstrap: "{bootstrap}"}}, options: {{group: {group}}}}}
  out: {{kind: kafka, topic: {written}, publish: [events], credentials: {{bootstrap: "{bootstrap}"}}}}
"""
NOON = 1_795_000_000_000


def main() -> None:
    """Prints the medians of what was read and published per second, and the ratios of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rates: dict[str, list[float]] = {"bare consumer": [], "read": [], "bare producer": [], "published": []}
    for number in range(arguments.rounds):
        for name, rate in one_round(number, arguments.events).items():
            rates[name].append(rate)
    for name, values in rates.items():
        print(f"{name:<16}{statistics.median(values):>12,.0f} per second")
    for ours, bare in (("read", "bare consumer"), ("published", "bare producer")):
        print(f"{ours} / {bare}: {statistics.median(rates[ours]) / statistics.median(rates[bare]):.2f}")


def one_round(number: int, count: int) -> dict[str, float]:
    """Events per second of each, on topics of their own."""
    kafka, folder = MockKafka(), Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    names = {"read": f"clicks-{number}", "written": f"facts-{number}", "group": f"group-{number}"}
    for topic in (names["read"], names["written"], "bare"):
        kafka.topic(topic, PARTITIONS)
    services = Services(Settings.from_environment(environ={}, data_dir=folder))
    try:
        wanted = configuration_from(parse(CONFIG.format(bootstrap=kafka.bootstrap, **names)))
        configuration_store.apply(services.database, services.vault, wanted, NOON)
        kafka.produce(names["read"], *(record(n) for n in range(count)))
        bare_read = consume(kafka, names["read"], count)
        streams = services.configuration().streams
        reader = work_on(services, streams["in"])
        read = timed(lambda: reader.step(NOON, 0.1, lambda: False), count)
        reader.close()
        with services.inbox.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM delivery").scalar() == count
        rows = [row(n) for n in range(count)]
        bare_written = produce(kafka, rows)
        with services.database.tx() as tx:
            outbox.Outbox(streams).events(tx, rows, NOON)
        writer = work_on(services, streams["out"])
        written = timed(lambda: writer.step(NOON, 0.0, lambda: False), count)
        writer.close()
    finally:
        services.close()
        shutil.rmtree(folder)
        kafka.close()
    return {"bare consumer": bare_read, "read": read, "bare producer": bare_written, "published": written}


def record(n: int) -> tuple[str, bytes]:
    user = f"user-{n % PEOPLE}"
    event = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": f"message-{n}",
        "userId": user,
        "timestamp": "2026-11-18T10:00:00.000Z",
        "properties": {
            "product_id": str(n % 500),
            "name": "A jacket for rain",
            "price": 129.5,
            "url": "https://a.example",
        },
    }
    return user, orjson.dumps(event)


def row(n: int) -> dict[str, Any]:
    """An event as the line stores it."""
    properties = orjson.dumps(orjson.loads(record(n)[1])["properties"]).decode()
    person = n % PEOPLE
    return {"profile_id": person, "at": NOON, "id": f"e{n}", "name": "Product Viewed", "source": "site", "properties": properties}  # fmt: skip  # noqa: E501


def timed(step: Callable[[], int], count: int) -> float:
    """Events per second of steps, from the first that brings some: joining a group takes what it takes."""
    done = 0
    while not done:
        started = time.perf_counter()
        done = step()
    while done < count:
        done += step()
    return count / (time.perf_counter() - started)


def consume(kafka: MockKafka, topic: str, count: int) -> float:
    """Events per second of a consumer that does nothing but commit."""
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": "bare", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([topic])

    def step() -> int:
        found = consumer.consume(500, 0.1)
        if found:
            consumer.commit(asynchronous=False)
        return len(found)

    rate = timed(step, count)
    consumer.close()
    return rate


def produce(kafka: MockKafka, rows: list[dict[str, Any]]) -> float:
    """Events per second of an idempotent producer with acks=all, as bodies that are ready."""
    bodies = [(str(one["profile_id"]), orjson.dumps(outbox.event(one))) for one in rows]
    settings = {"bootstrap.servers": kafka.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5}
    producer = confluent_kafka.Producer({**settings, "compression.type": "zstd"})
    producer.list_topics("bare")
    started = time.perf_counter()
    for start in range(0, len(bodies), 1000):
        for key, body in bodies[start : start + 1000]:
            producer.produce("bare", key=key, value=body)
        assert producer.flush(30) == 0
    return len(bodies) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
