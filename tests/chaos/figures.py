"""The figures that chaos tests measure: printed by each, and gathered in one table at the end of a run.

`CHAOS=long` (`make chaos`) makes the tests take as long as docs/reliability.md says; `CHAOS_FIGURES` names a file for
the table.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

LONG = os.environ.get("CHAOS") == "long"

Figure = Callable[[str, str], None]
_T = TypeVar("_T")


def profile(short: _T, long: _T) -> _T:
    """What the profile under way takes."""
    return long if LONG else short


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Call it with the row of the table and what was measured: `figure("R1", "214 kills, 0 lost")`."""

    def tell(row: str, measured: str) -> None:
        print(f"{row}: {measured}")
        record_property("figure", (row, measured))

    return tell


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, in the process that all reports come to. tests/conftest.py imports this."""
    told = [
        tuple(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if not told:
        return
    lines = [f"{row:4} {measured}" for row, measured in sorted(told, key=_in_order)]
    terminalreporter.section("figures")
    for line in lines:
        terminalreporter.write_line(line)
    if path := os.environ.get("CHAOS_FIGURES"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("\n".join([f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", *lines]) + "\n")


def _in_order(told: tuple[str, str]) -> tuple[str, int, str]:
    letter, number = re.match(r"(\D*)(\d*)", told[0]).groups()  # type: ignore[union-attr]  # matches anything
    return letter, int(number or 0), told[1]
