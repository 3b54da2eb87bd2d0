"""What a record of a topic means as deliveries: pure. The broker says who may write there, so nothing is verified."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
import structlog

from connector.clock import Millis
from connector.domain import Configuration, RawRequest
from connector.errors import ConnectorError, RejectedDelivery
from connector.ports import Claim, New, Source
from connector.sources.cloudevents import CloudEvents
from connector.sources.filing import delivery_id, key_of
from connector.streams.port import Record

log = structlog.get_logger("streams")

ID_HEADER = "delivery-id"
"""The header by which a writer may give a record an id of its own."""

_STRUCTURED = "application/cloudevents+json"
_ENCODINGS = ("", "identity", "gzip")
_OURS = "body:"  # how an id begins that is a digest of the words: two records with the same words are two deliveries


@dataclass(frozen=True, slots=True)
class Arrival:
    """How records become deliveries of one source. `shop`: `kind:name` of the source whose ids it sends."""

    name: str
    source: Source
    shop: str
    largest: int

    def deliveries(self, record: Record, now: Millis) -> list[New]:
        """The deliveries that a record holds; none for a tombstone. Raises RejectedDelivery for what never can be one.

        The record's key is the customer key, so that what has one key stays in order. Without a key the source finds
        the customer itself. `received_at` is when the record was written: lag must not look like a clock that is slow.
        """
        if record.body is None and not any(name.startswith("ce_") for name in record.headers):
            return []
        body = record.body or b""
        if len(body) > self.largest:
            raise RejectedDelivery(f"the record is larger than {self.largest} bytes", status=413, reason="too_large")
        if (encoding := record.headers.get("content-encoding", "")) not in _ENCODINGS:
            raise RejectedDelivery(f"records packed as {encoding[:40]!r} are not read", reason="content_encoding")
        at = min(record.at or now, now)
        headers = _request_headers(record.headers)
        if self.source.kind == CloudEvents.kind and "ce-id" not in headers:
            headers.setdefault("content-type", _STRUCTURED)
        try:
            claims = self.source.claim(RawRequest("POST", "", headers, body, received_at=at))
        except ConnectorError:
            raise
        except Exception as fault:
            # A fault of ours must not hold up everybody behind it: the record is kept where it can be looked at.
            log.exception("stream.claim_failed", source=self.name)
            raise RejectedDelivery(f"it cannot be filed: {type(fault).__name__}", reason="failed") from fault
        key = None if record.key is None else key_of("key", record.key)
        return [
            New(
                key=f"{self.name}/{claim.key if key is None else key}",
                source=self.name,
                delivery_id=self._id(record, claim, f"/{index}" if len(claims) > 1 else ""),
                topic=claim.topic,
                received_at=at,
                headers=orjson.dumps({**claim.headers, "shop": self.shop} if self.shop else claim.headers).decode(),
                body=body if claim.body is None else claim.body,
            )
            for index, claim in enumerate(claims)
        ]

    def _id(self, record: Record, claim: Claim, part: str) -> str:
        """The writer's id, else the one that the source reads from the words, else the record's place."""
        stated = record.headers.get(ID_HEADER, "")
        if stated:
            return delivery_id(f"{stated}{part}", self.name, stated.encode() + part.encode())
        return f"{record.place}{part}" if claim.delivery_id.startswith(_OURS) else claim.delivery_id


def arrival_of(config: Configuration, name: str, source: Source, largest: int) -> Arrival:
    """How records become deliveries of the source of that name."""
    shop = config.sources.get(config.sources[name].shop or "")
    return Arrival(name, source, f"{shop.kind}:{shop.name}" if shop else "", largest)


def _request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers as a request has them. CloudEvents' are `ce_...` here and `ce-...` there, where they are
    percent-encoded (CloudEvents 1.0.2, Kafka and HTTP protocol bindings)."""
    return {
        (f"ce-{name[3:]}" if name.startswith("ce_") else name): (
            value.replace("%", "%25") if name.startswith("ce_") else value
        )
        for name, value in headers.items()
    }
