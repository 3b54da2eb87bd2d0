"""docs/destinations.md: every link leads to a file, every test it names exists, every vendor's recordings are shown."""

import re
from pathlib import Path

import pytest

from adapters import DESTINATIONS

PAGE = Path(__file__).parents[3] / "docs" / "destinations.md"
TEXT = PAGE.read_text(encoding="utf-8")
LINKS = sorted(set(re.findall(r"\]\(([^)#]+)(?:#([a-z0-9_-]+))?\)", TEXT)))


@pytest.mark.parametrize(("place", "name"), LINKS, ids=lambda value: str(value).rsplit("/", 1)[-1])
def test_a_link_leads_somewhere(place: str, name: str) -> None:
    target = (PAGE.parent / place).resolve()
    assert target.is_file()
    if name:
        text = target.read_text(encoding="utf-8")
        assert f"def {name}(" in text if target.suffix == ".py" else f"\n### {name}\n" in text


@pytest.mark.parametrize("kind", sorted(DESTINATIONS.keys() - {"console"}))
def test_every_vendor_has_its_column_and_a_cell_for_every_capability(kind: str) -> None:
    head, _, *rows = (line for line in TEXT.split("\n\n")[2].splitlines())
    column = [cell.strip().lower() for cell in head.split("|")].index(kind)
    assert len(rows) > 20
    assert all(row.split("|")[column].strip() for row in rows)
    assert f"recorded/destinations/{kind}/" in TEXT
