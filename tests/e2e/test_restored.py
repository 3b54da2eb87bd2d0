"""`storecue db` beside the processes of a StoreCue at work, and what a restored one and the vendors make of it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from connector.simulator.vendors import FakeKlaviyo
from tests.chaos.figures import Figure, profile
from tests.chaos.figures import figure as figure
from tests.e2e.running import Running, Shop, until

CONFIG = """
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  shop: {{kind: shopify, secrets: [hush]}}
destinations:
  klaviyo:
    {{kind: klaviyo, credentials: {{api_key: pk_fake}}, base_url: "{klaviyo}", allow_insecure: true, at_most_every: 0s}}
fields:
  total_spent: {{from: traits.total_spent}}
  orders_count: {{from: traits.orders_count}}
segments:
  vip:
    name: VIP
    when: {{trait: total_spent, ">=": 300}}
"""


def storecue(of: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "connector", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=of.environ)


def held(running: Running) -> bool:
    return bool(running.rows("SELECT 1 FROM account WHERE hold <> ''"))


@pytest.mark.parametrize("backend", profile(["sqlite"], ["sqlite", "postgresql"]))
def test_a_restored_backup_goes_on_where_it_was_and_vendors_are_put_right(
    tmp_path: Path, backend: str, new_postgres: Callable[[], str], figure: Figure
) -> None:
    vendor = FakeKlaviyo(rate_limits=False, job_seconds=0.1)
    vendor.start()
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    places = [{"DATABASE_URL": new_postgres() if backend == "postgresql" else ""} for _ in range(2)]
    first = Running(tmp_path / "first", CONFIG.format(klaviyo=vendor.url), places[0])
    second = Running(tmp_path / "second", CONFIG.format(klaviyo=vendor.url), places[1])
    try:
        up = first.start("up")
        until(first.answers, 20, "storecue up answers")
        shop = Shop(first, threads=2, pause=0.02)  # at work without a pause, but not faster than the worker
        until(lambda: shop.accepted > 150 and vendor.contacts(), 30, "deliveries are accepted and pushed")
        certain = set(shop.book.kept)
        backed_up = storecue(first, "db", "backup", str(tmp_path / "backup"), "--data", str(first.data))
        assert backed_up.returncode == 0, backed_up.stderr
        refused = storecue(first, "db", "restore", str(tmp_path / "backup"), "--data", str(first.data), "--force")
        assert refused.returncode == 2 and "StoreCue works on" in refused.stderr
        until(lambda count=shop.accepted: shop.accepted > count + 100, 30, "work goes on beside and after it")
        shop.close()
        until(first.worked_off, 90, "all is worked off")
        until(first.pushed, 60, "the vendor is told of it")
        first.kill_all(up)

        restored = storecue(second, "db", "restore", str(tmp_path / "backup"), "--data", str(second.data))
        assert restored.returncode == 0, restored.stderr
        shutil.copy2(first.data / "secret.key", second.data / "secret.key")
        checked = storecue(second, "db", "check", "--data", str(second.data))
        assert checked.returncode == 0, checked.stdout
        second.start("up")
        until(second.answers, 20, "the restored one answers")
        until(second.worked_off, 60, "the log is worked off")
        until(second.pushed, 60, "everything is pushed")

        known = {int(id_) for (id_,) in second.rows("SELECT id FROM shop_order")}
        assert {shop.book.sales[id_].order for id_ in certain} <= known
        assert known <= {sale.order for sale in shop.book.sales.values()}
        events = "SELECT count(*), count(DISTINCT json_extract(properties, '$.order_id')) FROM event"
        assert second.rows(events) == [(len(known), len(known))]

        # The vendor was told more than the restored state knows; the read-back finds it and puts it right.
        verified = storecue(second, "verify", "klaviyo", "--all", "--repair", "--data", str(second.data))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        # Where they are many, they wait for a person, as any decision about many does.
        until(lambda: held(second) or second.pushed(), 30, "the repair is held, or pushed")
        if held(second):
            approved = storecue(second, "destination", "approve", "klaviyo", "--yes", "--data", str(second.data))
            assert approved.returncode == 0, approved.stdout + approved.stderr
        until(second.pushed, 60, "what was repaired is pushed")
        shown = vendor.contacts()
        wanted = [json.loads(desired) for (desired,) in second.rows("SELECT desired FROM sync_state")]
        assert wanted
        for contact in wanted:
            for name, value in contact["fields"].items():
                assert float(shown[contact["email"]]["fields"][name]) == float(value), contact
        measured = f"{backend}: {len(certain)} acknowledged before the backup, 0 lost, 0 doubled; contacts put right"
        figure("R22", measured)
    finally:
        first.close()
        second.close()
        vendor.close()
