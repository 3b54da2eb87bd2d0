"""What one Shopify delivery costs from its bytes to its meaning, on one core: `python -m benchmarks.normalise`.

Prints a table of microseconds per delivery, the best of seven rounds, and beside the fast reader what marshmallow takes
for the same document. Nothing is asserted: the machine's other work shows in every figure, ratios travel better.
"""

import base64
import hmac
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from marshmallow import EXCLUDE
from rich.console import Console
from rich.table import Table

from connector.domain import Delivery, RawRequest, StoreInfo
from connector.sources.shopify import Shopify, schemas

RECORDED = Path(__file__).parent.parent / "tests" / "recorded" / "sources" / "shopify"
NAMES = ("orders_create", "checkouts_create", "carts_create", "customers_create", "web_pixels_product_viewed")
SECRET = "benchmark"


def microseconds(work: Callable[[], object], rounds: int = 7, seconds: float = 0.1) -> float:
    """The best round's time per call."""
    best = float("inf")
    for _ in range(rounds):
        calls, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds:
            for _ in range(20):
                work()
            calls += 20
        best = min(best, spent / calls)
    return best * 1e6


def measure(name: str) -> list[str]:
    recording = json.loads((RECORDED / f"{name}.json").read_text())
    body = orjson.dumps(recording["body"])
    signature = base64.b64encode(hmac.digest(SECRET.encode(), body, "sha256")).decode()
    request = RawRequest("POST", "/", {**recording["headers"], "x-shopify-hmac-sha256": signature}, body)
    source, store = Shopify(), StoreInfo()
    [claim] = source.claim(request)
    delivery = Delivery("shop", claim.delivery_id, claim.topic, 1_795_255_205_000, claim.headers, body)
    steps: list[Callable[[], object]] = [
        lambda: source.verify(request, [SECRET]),
        lambda: source.claim(request),
        lambda: orjson.loads(body),
        lambda: source.normalise(delivery, store),
    ]
    return [name, str(len(body)), *(f"{microseconds(step):.1f}" for step in steps)]


def main() -> None:
    table = Table("delivery", "bytes", "verify", "claim", "orjson", "normalise", title="microseconds per delivery")
    for name in NAMES:
        table.add_row(*measure(name))
    document = json.loads((RECORDED / "orders_create.json").read_text())["body"]
    by_marshmallow = schemas.OrderFields(unknown=EXCLUDE)
    readers = Table("the order's used fields", "us", title="the fast reader and marshmallow")
    readers.add_row("fast reader", f"{microseconds(lambda: schemas.ORDER(document)):.1f}")
    readers.add_row("marshmallow load", f"{microseconds(lambda: by_marshmallow.load(document)):.1f}")
    console = Console(file=sys.stdout)
    console.print(table)
    console.print(readers)


if __name__ == "__main__":
    main()
