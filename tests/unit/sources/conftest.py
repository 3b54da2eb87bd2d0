"""A delivery in one line, and the recorded order to bend."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.sources.shopify import Shopify

RECEIVED_AT = 1_795_255_205_000  # 2026-11-21T10:00:05Z
_RECORDED = Path(__file__).parents[2] / "recorded" / "sources" / "shopify"

Bodies = Callable[[str], dict[str, Any]]
Normalise = Callable[..., Normalised]


@pytest.fixture
def recorded() -> Bodies:
    """A recorded body by the name of its file."""

    def body(name: str) -> dict[str, Any]:
        return copy.deepcopy(json.loads((_RECORDED / f"{name}.json").read_text())["body"])

    return body


@pytest.fixture
def normalise() -> Normalise:
    """What a body means on a topic: an object, or the exact bytes."""

    def meant(topic: str, body: Any, *, test_orders: bool = False, **headers: str) -> Normalised:
        source = Shopify(test_orders=test_orders)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        [claim] = source.claim(RawRequest("POST", "/", {"x-shopify-topic": topic, **named}, raw))
        delivery = Delivery("shop", claim.delivery_id, claim.topic, RECEIVED_AT, claim.headers, raw)
        return source.normalise(delivery, StoreInfo(currency="EUR"))

    return meant
