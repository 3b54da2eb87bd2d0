"""Recorded deliveries: one JSON file each, with what its source must make of it.

{"why", "received_at", "secrets"?, "headers", "body" (JSON) or "body_text" (the exact text), "claim", "normalised"}

`python tests/contracts/recordings.py FILE...` fills in `claim` and `normalised` of new recordings from the code, for
you to read and correct: the file is the contract, not the code. `headers` are in lower case and hold the true signature
where `secrets` has the secret (the last one); without `secrets` the signature is not looked at.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from connector.clock import parse_instant
from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.ports import Source
from connector.sources import SOURCES

FOLDER = Path(__file__).parent.parent / "recorded" / "sources"
STORE = StoreInfo("Nordlicht", "Europe/Berlin", "EUR")


@dataclass(frozen=True)
class Recording:
    kind: str
    name: str
    document: dict[str, Any]

    @property
    def source(self) -> Source:
        return SOURCES[self.kind]

    @property
    def body(self) -> bytes:
        if "body_text" in self.document:
            return self.document["body_text"].encode()
        return json.dumps(self.document["body"], ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def request(self) -> RawRequest:
        return RawRequest("POST", f"/webhooks/{self.kind}/shop", self.document["headers"], self.body)

    @property
    def delivery(self) -> Delivery:
        claim = self.source.claim(self.request)
        received_at = parse_instant(self.document["received_at"])
        return Delivery("shop", claim.delivery_id, claim.topic, received_at, claim.headers, self.body)

    def claimed(self) -> dict[str, Any]:
        return self.source.claim(self.request)._asdict()

    def normalised(self) -> dict[str, Any]:
        """As JSON, and only what differs from a Normalised that says nothing."""
        silence = asdict(Normalised())
        said = asdict(self.source.normalise(self.delivery, STORE))
        return json.loads(json.dumps({key: value for key, value in said.items() if value != silence[key]}))


def read(path: Path) -> Recording:
    return Recording(path.parent.name, path.stem, json.loads(path.read_text()))


def recordings() -> list[Recording]:
    return [read(path) for path in sorted(FOLDER.glob("*/*.json"))]


def fill(path: Path) -> None:
    recording = read(path)
    document = {**recording.document, "claim": recording.claimed(), "normalised": recording.normalised()}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        fill(Path(argument).resolve())
