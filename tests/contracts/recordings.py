"""Recorded deliveries: one JSON file each, with what its source must make of it.

{"why", "received_at", "secrets"?, "token"?, "query"?, "origin"?, "options"?, "headers", "body" (JSON) or "body_text"
(the exact text), "claim", "normalised"}. The last two are lists where the request is not exactly one delivery.

`python tests/contracts/recordings.py FILE...` fills in `claim` and `normalised` of new recordings from the code, for
you to read and correct: the file is the contract, not the code. `headers` are in lower case and hold the true signature
where `secrets` has the secret (the last one); without `secrets` the signature is not looked at. With `fetched`, a
topic, in place of `headers` and `claim` it is no request, but a document that we have asked for.
"""

import json
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from connector.clock import parse_instant
from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.ports import Claim, Source
from connector.sources import SOURCES, configured

FOLDER = Path(__file__).parent.parent / "recorded" / "sources"
STORE = StoreInfo("Nordlicht", "Europe/Berlin", "EUR")


@dataclass(frozen=True)
class Recording:
    kind: str
    name: str
    document: dict[str, Any]

    @cached_property
    def source(self) -> Source:
        source = SOURCES[self.kind]
        return configured(source, self.document["options"]) if "options" in self.document else source

    @property
    def body(self) -> bytes:
        if "body_text" in self.document:
            return self.document["body_text"].encode()
        return json.dumps(self.document["body"], ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def request(self) -> RawRequest:
        document = self.document
        path = f"/webhooks/{self.kind}/shop"
        query, origin = document.get("query", ""), document.get("origin", "")
        return RawRequest("POST", path, document["headers"], self.body, query, self.received_at, origin)

    @property
    def received_at(self) -> int:
        return parse_instant(self.document["received_at"])

    @property
    def deliveries(self) -> list[Delivery]:
        if topic := self.document.get("fetched"):
            return [Delivery("shop", f"{topic}:{self.name}", topic, self.received_at, {}, self.body)]
        return [
            Delivery(
                "shop",
                claim.delivery_id,
                claim.topic,
                self.received_at,
                claim.headers,
                self.body if claim.body is None else claim.body,
            )
            for claim in self.source.claim(self.request)
        ]

    def claimed(self) -> Any:
        return _one_or_all([_claimed(claim) for claim in self.source.claim(self.request)])

    def normalised(self) -> Any:
        """As JSON, and only what differs from a Normalised that says nothing."""
        return _one_or_all([_said(self.source.normalise(delivery, STORE)) for delivery in self.deliveries])


def _one_or_all(found: list[dict[str, Any]]) -> Any:
    return found[0] if len(found) == 1 else found


def _claimed(claim: Claim) -> dict[str, Any]:
    said = {key: value for key, value in claim._asdict().items() if value is not None}
    return said if claim.body is None else {**said, "body": claim.body.decode()}


def _said(meant: Normalised) -> dict[str, Any]:
    silence = asdict(Normalised())
    said: dict[str, Any] = json.loads(
        json.dumps({key: value for key, value in asdict(meant).items() if value != silence[key]})
    )
    return said


def read(path: Path) -> Recording:
    return Recording(path.parent.name, path.stem, json.loads(path.read_text()))


def recordings() -> list[Recording]:
    """The requests."""
    return [one for one in _all() if "fetched" not in one.document]


def fetched() -> list[Recording]:
    """The documents that we have asked for."""
    return [one for one in _all() if "fetched" in one.document]


def _all() -> list[Recording]:
    return [read(path) for path in sorted(FOLDER.glob("*/*.json"))]


def fill(path: Path) -> None:
    recording = read(path)
    claim = {} if "fetched" in recording.document else {"claim": recording.claimed()}
    document = {**recording.document, **claim, "normalised": recording.normalised()}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        fill(Path(argument).resolve())
