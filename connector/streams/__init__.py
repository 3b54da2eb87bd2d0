"""Streams by kind: one line per broker whose topics are read into a source, or written with what StoreCue knows."""

from connector.streams.kafka import Kafka
from connector.streams.kinesis import Kinesis
from connector.streams.port import Broker

BROKERS: dict[str, type[Broker]] = {
    "kafka": Kafka,
    "kinesis": Kinesis,
}
