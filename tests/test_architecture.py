"""The architecture checks itself: the order of imports, names, where the clock and the database are asked."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for folder in ("connector", "adapters") for path in (ROOT / folder).rglob("*.py"))
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
VENDORS = re.compile(r"klaviyo|hubspot|mailchimp", re.IGNORECASE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_go_one_way() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert result.returncode == 0, result.stdout


def test_files_are_named_by_what_they_hold() -> None:
    assert [named(path) for path in MODULES if path.stem in NAMELESS] == []


def test_every_module_says_what_it_is() -> None:
    empty = [named(path) for path in MODULES if path.read_text().strip() and not ast.get_docstring(parsed(path))]
    assert empty == []


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


MAY_ASK_THE_CLOCK = ("connector/cli/", "connector/app.py", "connector/worker.py", "connector/clock.py")


def test_only_the_outermost_ask_what_time_it_is() -> None:
    """`time.monotonic` and `perf_counter` measure; they say nothing about when it is."""
    asking = []
    for path in MODULES:
        if named(path).startswith(("connector/simulator", "adapters", *MAY_ASK_THE_CLOCK)):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "time.time",
                "time.time_ns",
                "clock.now",
                "datetime.now",
                "datetime.utcnow",
            ):
                asking.append(f"{named(path)}:{node.lineno}")
    assert asking == []


MAY_NAME_A_VENDOR = ("adapters/", "connector/simulator/")
TABLE_OF_SOURCES = "connector/sources/__init__.py"


def test_vendors_are_named_in_their_own_files_only() -> None:
    """Comments and examples may name them; code may not."""
    found = []
    for path in MODULES:
        if named(path).startswith(MAY_NAME_A_VENDOR) or named(path) == TABLE_OF_SOURCES:
            continue
        if path.parent.name == "sources" and VENDORS.search(path.stem):
            continue
        for node in ast.walk(parsed(path)):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if VENDORS.search(name):
                found.append(f"{named(path)}:{node.lineno} {name}")  # type: ignore[attr-defined]
    assert found == []


@pytest.mark.parametrize("secret_name", ["secret", "token", "signature", "digest"])
def test_secrets_are_never_compared_with_equals(secret_name: str) -> None:
    """Where a stranger's words are compared with ours, which is in web and sources."""
    found = []
    for path in MODULES:
        if not named(path).startswith(("connector/web/", "connector/sources/")):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                plain = [side for side in sides if side.rpartition(".")[2].endswith(secret_name)]
                if plain and not any("api_token.c" in side for side in sides):
                    found.append(f"{named(path)}:{node.lineno} {ast.unparse(node)}")
    assert found == []
