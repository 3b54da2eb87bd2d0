"""`python -m benchmarks.backfill [customers ...]`: what the past of a large shop costs in CPU time and memory, which
must not grow with the shop.

The JSONL files of bulk operations are generated once, not kept in memory, and served by the fake Admin API in this
process; a fresh process for each size fetches them: loads, sorts, puts together, and appends to a real log (SQLite with
synchronous=FULL). With --line the worker's line works them off as well.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from connector.clock import DAY, Millis, isoformat
from connector.simulator.shopify_admin import FakeShopifyAdmin, Operation
from connector.simulator.shopify_things import large
from connector.sources.shopify.admin import queries

_AT: Millis = 1_795_000_000_000
_CONFIG = """
version: 1
sources:
  shop:
    kind: shopify
    secrets: [hush]
    admin:
      {{shop: aurora.myshopify.com, client_id: client, client_secret: hush, base_url: '{url}', allow_insecure: true}}
segments:
  buyers: {{when: {{trait: orders_count, ">=": 1}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("customers", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--orders", type=int, default=5, help="of each customer")
    parser.add_argument("--line", action="store_true", help="work off what was fetched, too")
    wants = parser.parse_args()
    for customers in wants.customers:
        with FakeShopifyAdmin(clock=lambda: _AT, restore=1e9) as admin:
            size = _prepare(admin, customers, wants.orders)
            child = multiprocessing.get_context("spawn").Pool(1)
            found = child.apply(_fetch, (admin.url, wants.line))
            child.close()
            child.join()
        things = customers * (1 + wants.orders)
        print(
            f"{customers:,} customers, {customers * wants.orders:,} orders, {size / 1e6:,.0f} MB: "
            f"{found['cpu']:.1f} s of CPU ({1e6 * found['cpu'] / things:.0f} us a thing), "
            f"peak {found['peak']:.0f} MB (at the start {found['start']:.0f} MB), {found['wall']:.1f} s",
            flush=True,
        )
        if found["fetched"] != things:
            sys.exit(f"{found['fetched']} of {things} were fetched")


def _prepare(admin: FakeShopifyAdmin, customers: int, orders: int) -> int:
    """The bytes of the two results, which the fake has as if they had been asked for already."""
    files: dict[str, Any] = {}
    for number, kind in enumerate(("customers", "orders"), start=1):
        id_ = f"gid://shopify/BulkOperation/{number}"
        operation = Operation(id_, queries.bulk(kind, None), _AT, 0, "COMPLETED", _AT)
        operation.path = Path(admin._folder.name) / f"{number}.jsonl"
        admin.operations[id_] = operation
        files[kind] = (operation, operation.path.open("w", encoding="utf-8"))
    for customer, bought in large(customers, orders, _AT):
        _write(*files["customers"], customer)
        for one in bought:
            lines = one.pop("lineItems")["nodes"]
            _write(*files["orders"], one)
            for line in lines:
                _write(*files["orders"], {**line, "__parentId": one["id"]})
    total = 0
    for operation, file in files.values():
        file.close()
        operation.size = operation.path.stat().st_size
        total += operation.size
    return total


def _write(operation: Operation, file: Any, thing: dict[str, Any]) -> None:
    file.write(json.dumps(thing, separators=(",", ":")) + "\n")
    operation.objects += 1
    operation.roots += "__parentId" not in thing


def _fetch(url: str, line: bool) -> dict[str, float]:
    from sqlalchemy import update

    from connector.backfill import store, work
    from connector.config import store as configuration_store
    from connector.config.schema import configuration_from
    from connector.config.settings import Settings
    from connector.config.yaml_file import parse
    from connector.services import Services
    from connector.storage.tables import backfill
    from connector.worker import Worker

    with tempfile.TemporaryDirectory() as folder:
        services = Services(Settings.from_environment(environ={"STORECUE_LOG_LEVEL": "error"}, data_dir=Path(folder)))
        wanted = configuration_from(parse(_CONFIG.format(url=url)))
        configuration_store.apply(services.database, services.vault, wanted, _AT)
        worker = Worker(services, lambda: _AT, push=False)
        worker.refresh(force=True)
        if not line:
            work.CROWD = sys.maxsize  # nobody works off what is put there
        with services.database.tx() as tx:
            store.ask(tx, "shop", ["customers", "orders"], None, _AT)
        start, cpu, wall = _peak(), time.process_time(), time.monotonic()
        while True:
            stepped = worker.past.step_backfill()
            if line:
                while worker.step():
                    pass
            if not stepped:
                with services.database.tx() as tx:
                    rows = store.all_of(tx)
                    if all(row["state"] in store.ENDED for row in rows):
                        break
                    tx.execute(update(backfill).values(due_at=_AT))
        found = {
            "cpu": time.process_time() - cpu,
            "wall": time.monotonic() - wall,
            "start": start,
            "peak": _peak(),
            "fetched": sum(row["fetched"] for row in rows),
        }
        for row in rows:
            if row["state"] != "done":
                print(row["state"], row["message"], isoformat(_AT + DAY))
        worker.close()
        services.close()
    return found


def _peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
