"""How Shopify's webhooks travel: signed, with their headers, sometimes twice, sometimes late, in no order."""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connector.clock import MINUTE, SECOND, Millis, isoformat
from connector.simulator.bodies import DOMAIN

API_VERSION = "2026-10"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One HTTP request on its way: it arrives `at`. `repeats`: the same webhook id was sent before."""

    at: Millis
    topic: str
    body: bytes
    headers: Mapping[str, str]
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Disorder:
    """Shares of deliveries that go astray, between 0 and 1.

    duplicate: sent again with the same webhook id. late: minutes instead of seconds. twice: a second subscription to
    the topic sends it too, with a webhook id of its own and the same event id (orders/create only).
    """

    duplicate: float = 0.03
    late: float = 0.01
    twice: float = 0.02
    slowest: Millis = 3 * SECOND
    latest: Millis = 20 * MINUTE


NONE = Disorder(duplicate=0, late=0, twice=0, slowest=0)
"""Everything once, at once, in order."""


def sign(body: bytes, secret: str) -> str:
    """The X-Shopify-Hmac-Sha256 of these bytes: base64 of HMAC-SHA256 with the secret's text as key."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON as Shopify writes it: no spaces, slashes and non-ASCII letters escaped. Parsing and dumping it again gives
    other bytes, so a check that does so fails on these."""
    return json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode()


class Courier:
    """Makes webhooks out of what happened. `pace` shortens every delay by that factor."""

    def __init__(self, rng: random.Random, secret: str, disorder: Disorder, pace: float) -> None:
        self._random = rng
        self._secret = secret
        self._disorder = disorder
        self._pace = pace

    def post(self, topic: str, body: Mapping[str, Any], at: Millis) -> list[Webhook]:
        """Every request that tells of this one fact, the first one first."""
        raw = encode(body)
        event_id = self._uuid()
        first = self._webhook(topic, raw, at, event_id)
        sent = [first]
        if self._struck(self._disorder.duplicate):
            later = first.at + self._delay(30 * SECOND)
            sent.append(Webhook(later, topic, raw, first.headers, repeats=True))
        if topic == "orders/create" and self._struck(self._disorder.twice):
            sent.append(self._webhook(topic, raw, at, event_id))
        return sent

    def _webhook(self, topic: str, raw: bytes, at: Millis, event_id: str) -> Webhook:
        late = self._struck(self._disorder.late)
        arrival = at + self._delay(self._disorder.latest if late else self._disorder.slowest)
        triggered = isoformat(at)[:-1] + f"{self._random.randrange(10**6):06d}Z"  # nanoseconds, as Shopify has them
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Shopify-Captain-Hook",
            "X-Shopify-Topic": topic,
            "X-Shopify-Hmac-Sha256": sign(raw, self._secret),
            "X-Shopify-Shop-Domain": DOMAIN,
            "X-Shopify-API-Version": API_VERSION,
            "X-Shopify-Webhook-Id": self._uuid(),
            "X-Shopify-Triggered-At": triggered,
            "X-Shopify-Event-Id": event_id,
        }
        return Webhook(arrival, topic, raw, headers)

    def _struck(self, share: float) -> bool:
        return self._random.random() < share

    def _delay(self, most: Millis) -> Millis:
        return int(self._random.random() * most / self._pace)

    def _uuid(self) -> str:
        bits = self._random.getrandbits
        return f"{bits(32):08x}-{bits(16):04x}-4{bits(12):03x}-a{bits(12):03x}-{bits(48):012x}"
