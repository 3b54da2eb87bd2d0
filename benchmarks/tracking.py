"""Tracking: durable accepted events per second, one at a time and in batches of 100, beside the webhooks of one run.

    python -m benchmarks.tracking [--seconds 8] [--rounds 3]

One `storecue web` on one core, `wrk` (Debian package) on the other, 32 connections. The webhook is a signed
`orders/create` of about 7 KB, as in benchmarks.ingest; events are those of Segment's clients, of about 0.6 KB, each
with an id of its own.
"""

import argparse
import shutil
import statistics
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import orjson

from benchmarks.ingest import count_kept, load, storecue, write_script
from benchmarks.rules import HEAD

KEY = "sk_benchmark"
BATCH = 100
SOURCE = f"  site: {{kind: segment_api, secrets: [{KEY}]}}\n"


def main() -> None:
    """Prints what was accepted per second of each, and the ratios of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    try:
        write_script(folder).rename(folder / "webhook.lua")
        kinds: dict[str, tuple[Path, int]] = {
            "webhooks": (folder / "webhook.lua", 1),
            "events, one by one": (write_events(folder, "track", 1), 1),
            f"events, {BATCH} a batch": (write_events(folder, "batch", BATCH), BATCH),
        }
        head = HEAD.replace("sources:\n", f"sources:\n{SOURCE}", 1)
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        tails: dict[str, list[float]] = {name: [] for name in kinds}
        with storecue(folder, head=head) as (port, _):
            for script, _ in kinds.values():
                load(port, script, 1)  # warm, and proof that it accepts
            for _ in range(arguments.rounds):
                for name, (script, each) in kinds.items():
                    rate, tail = load(port, script, arguments.seconds)
                    rates[name].append(rate * each)
                    tails[name].append(tail)
        print(f"{'':<24}{'accepted/s':>12}{'p99 ms':>10}")
        for name, values in rates.items():
            print(f"{name:<24}{statistics.median(values):>12.0f}{statistics.median(tails[name]):>10.1f}")
        floor = statistics.median(rates["webhooks"])
        for name, values in rates.items():
            if name != "webhooks":
                print(f"{name} / webhooks: {statistics.median(values) / floor:.2f}")
        print(f"deliveries kept by StoreCue: {count_kept(folder)}")
    finally:
        shutil.rmtree(folder)


def write_events(folder: Path, call: str, count: int) -> Path:
    """The wrk script: `count` events a request, each with an id of its own."""
    body: Any = {"batch": [event(number) for number in range(count)]} if call == "batch" else event(0)
    (folder / f"{call}.json").write_bytes(orjson.dumps({**body, "writeKey": KEY, "sentAt": "2026-11-21T10:00:01Z"}))
    script = folder / f"{call}.lua"
    script.write_text(
        textwrap.dedent(f"""
        local file = io.open("{folder / f"{call}.json"}", "rb")
        local body = file:read("*a")
        local n = 0
        local thread = ""
        function init(args) math.randomseed(os.time()) thread = tostring(os.time()) .. tostring(math.random(1e9)) end
        function request()
            n = n + 1
            local sent = body:gsub("@@", thread .. "-" .. n)
            return wrk.format("POST", "/v1/{call}", {{["Content-Type"] = "application/json"}}, sent)
        end
        """)
    )
    return script


def event(number: int) -> dict[str, Any]:
    """A product view as a site's server tells it. @@ stands for what makes the id a new one."""
    return {
        "type": "track",
        "event": "Product Viewed",
        "messageId": f"@@-{number}",
        "userId": f"user-{number % 50}",
        "timestamp": "2026-11-21T10:00:00.000Z",
        "properties": {
            "product_id": "632910392",
            "sku": "MUG-1",
            "name": "Stoneware mug",
            "price": 19.5,
            "currency": "EUR",
            "url": "https://aurora.example/products/stoneware-mug",
        },
        "context": {
            "page": {"url": "https://aurora.example/products/stoneware-mug", "path": "/products/stoneware-mug"},
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0",
            "locale": "de-DE",
            "library": {"name": "analytics-python", "version": "2.4.0"},
        },
    }


if __name__ == "__main__":
    main()
