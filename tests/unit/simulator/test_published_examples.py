"""Every published example of a request that the fakes serve is accepted by their schemas."""

import importlib.util
import os
from pathlib import Path

import pytest

from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp
from connector.simulator.vendors.account import FakeVendor

SHARED = Path(os.environ.get("STORECUE_SHARED", Path(__file__).parents[4] / "shared"))
FILE = SHARED / "specs" / "examples.py"
NAMES = {"{list_id}": "a1b2c3d4e5", "{objectType}": "contacts"}


def examples():
    if not FILE.exists():
        return []
    spec = importlib.util.spec_from_file_location("published_examples", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EX


def served(vendor: FakeVendor, method: str, path: str):
    """The route of this request, or None when the fake does not serve it."""
    for name, value in NAMES.items():
        path = path.replace(name, value)
    path = ("/3.0" if vendor.vendor == "mailchimp" else "") + path.replace("{", "").replace("}", "")
    return next((r for r in vendor.routes() if r.method == method and r.pattern.fullmatch(path)), None)


@pytest.mark.skipif(not FILE.exists(), reason="the published examples are not beside this checkout")
@pytest.mark.parametrize(("vendor", "least"), [(FakeKlaviyo, 9), (FakeHubSpot, 20), (FakeMailchimp, 11)])
def test_published_examples_are_accepted(vendor, least):
    fake, seen = vendor(), 0
    for name, whose, _, method, path, _, body in examples():
        if whose != fake.vendor or (route := served(fake, method, path)) is None:
            continue
        seen += 1
        if route.schema is not None:
            problems = [error.message for error in route.schema.iter_errors(body)]
            assert not problems, f"{name}: {problems}"
        else:
            assert body is None, f"{name}: a body is sent that no schema checks"
    assert seen >= least, f"only {seen} examples are served"
