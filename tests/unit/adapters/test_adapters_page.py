"""docs/adapters.md: its examples run, and print what it says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from adapters import DESTINATIONS, destination
from connector.simulator.vendors import FakeKlaviyo

PAGE = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text(encoding="utf-8")
FIRST, OTHERS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[PRINTED] = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_prints_what_the_page_says() -> None:
    assert len(FIRST.splitlines()) <= 10 + 1  # ten lines and an empty one
    with FakeKlaviyo(api_key="pk_page") as vendor:
        settings = 'Settings({"api_key": key}'
        assert settings in FIRST
        example = FIRST.replace(settings, f"{settings}, base_url={vendor.url!r}, allow_insecure=True")
        printed = StringIO()
        with redirect_stdout(printed):
            exec(example, {"key": "pk_page"})
        assert printed.getvalue() == PRINTED
        assert vendor.contacts()["ada@example.com"]["tags"] == ["vip"]


def test_the_others_are_opened_alike() -> None:
    opened: dict[str, object] = {"token": "pat-eu1-page", "key": "0123456789abcdef-us21"}
    exec(FIRST.partition("\n\n")[0] + "\n" + OTHERS, opened)
    for name in ("hubspot", "mailchimp"):
        client = opened[name]
        assert client.vendor == name  # type: ignore[attr-defined]
        client.close()  # type: ignore[attr-defined]


def test_every_method_and_vendor_is_told() -> None:
    methods = [name for name, value in vars(destination.Destination).items() if callable(value) and name[0] != "_"]
    missing = [name for name in methods if f"{name}(" not in PAGE]
    assert methods and not missing
    assert all(kind in PAGE for kind in DESTINATIONS)
