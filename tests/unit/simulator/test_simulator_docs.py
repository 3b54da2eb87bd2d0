"""The Python of docs/simulators.md runs as it stands."""

import re
from itertools import islice
from pathlib import Path

import requests

from connector.clock import DAY, parse_instant
from connector.simulator.vendors import FakeHubSpot

PAGE = Path(__file__).parents[3] / "docs" / "simulators.md"
FAKE, FAULTS, STORE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_fake_vendor(capsys):
    exec(FAKE, {})
    assert capsys.readouterr().out == "['vip']\n/api/profile-import 201\n"


def test_faults():
    with FakeHubSpot() as vendor:
        exec(FAULTS, {"vendor": vendor})
        vendor.faults.latency = 0
        assert requests.get(vendor.url, timeout=5).status_code == 503
        batch = requests.post(f"{vendor.url}/crm/objects/2026-03/contacts/batch/upsert", timeout=5)
        assert (batch.status_code, batch.headers["Retry-After"]) == (423, "2")


def test_store(capsys):
    end = parse_instant("2026-11-21T10:00:00Z")
    names = {"start_ms": end - 60 * DAY, "end_ms": end}
    exec(STORE, names)
    assert len(capsys.readouterr().out.splitlines()) > 500
    assert len(list(islice(names["shop"].run(end), 10))) == 10
