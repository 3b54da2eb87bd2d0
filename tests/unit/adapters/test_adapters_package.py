"""The package as others meet it: light to import, free of the connector, one entry per vendor."""

import subprocess
import sys
from typing import Any

import pytest

from adapters import DESTINATIONS
from adapters.destination import Change, Cue, Membership, Settings

CREDENTIALS = {"api_key": "0123456789abcdef-us21", "access_token": "pat-1"}


def test_importing_it_loads_neither_the_connector_nor_what_only_a_call_needs() -> None:
    script = "import sys, adapters; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "adapters" in loaded
    assert not {"connector", "requests", "urllib3", "tenacity", "sqlalchemy", "flask", "asyncio"} & set(loaded)


@pytest.mark.parametrize("kind", DESTINATIONS)
def test_a_destination_opens_without_a_call_and_keeps_its_key_to_itself(kind: str, clock: Any) -> None:
    destination = DESTINATIONS[kind](Settings(CREDENTIALS, list_id="a1b2c3"), clock)
    assert destination.vendor == kind
    assert destination.limits.batch >= 1
    assert not [key for key in CREDENTIALS.values() if key in repr(destination) + repr(vars(destination))]
    assert (destination.apply([]), destination.send([]), destination.update_list("1", [])) == ([], [], [])
    destination.close()


def test_the_console_prints_what_it_would_do(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    console = DESTINATIONS["console"](Settings({}, options={"name": "dry"}), clock)
    fields = {"total_spent": 12.5}
    change = Change("c1", "ada@example.com", "shop:1", tags_added=("vip",), tags_removed=("bf",), fields=fields)
    cue = Cue("q1", "ada@example.com", "shop:1", "Segment Entered", 0, {"segment": "vip"})
    outcomes = console.apply([change]) + console.send([cue])
    outcomes += console.update_list(console.ensure_list("VIP", None), [Membership("m1", "ada@example.com", None, True)])
    console.forget("ada@example.com")
    assert [(outcome.key, outcome.status) for outcome in outcomes] == [(k, "applied") for k in ("c1", "q1", "m1")]
    assert capsys.readouterr().out.splitlines() == [
        "[dry] contact ada@example.com +vip -bf total_spent=12.5",
        "[dry] cue ada@example.com Segment Entered segment=vip",
        "[dry] list ada@example.com +VIP",
        "[dry] forget ada@example.com",
    ]
