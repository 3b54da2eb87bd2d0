"""The cluster of the log: where it is, how it lets us in, and the topic in it."""

from dataclasses import dataclass, field
from typing import Any

from connector.inbox.kafka.client import SECURITY

_RESERVED = 64 * 1024  # bytes of a record for its key and its headers


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is said of the log's Kafka. `repr` shows no secret.

    `record_limit`: bytes of the largest record that the topic takes; larger bodies are kept in the state's database.
    `session`: seconds until a worker that has gone without a word is replaced; `heartbeat`: between two words.
    """

    bootstrap: str
    topic: str = "storecue.deliveries"
    group: str = "storecue"
    security: str = "plaintext"
    mechanism: str = "SCRAM-SHA-512"
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    record_limit: int = 1_000_000  # Kafka's own default is 1,048,588 for a batch
    session: float = 6  # the shortest that brokers allow as they come
    heartbeat: float = 1.8

    @property
    def body_limit(self) -> int:
        """Bytes of the largest packed body that goes into a record."""
        return max(1, self.record_limit - _RESERVED)

    def client(self) -> dict[str, Any]:
        """What every client of the library is told."""
        told = {
            "bootstrap.servers": self.bootstrap,
            "client.id": "storecue",
            "security.protocol": SECURITY[self.security],
            "sasl.mechanism": self.mechanism if self.security.startswith("sasl") else None,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
            "ssl.key.password": self.key_password,
            # By default a client that was refused for long tries once in ten seconds, longer than a sender waits.
            "reconnect.backoff.max.ms": 1000,
        }
        return {name: value for name, value in told.items() if value is not None}
