"""Every source has a page, and what it tells to paste into storecue.yaml is valid."""

import re
from pathlib import Path

import pytest

from connector.config.schema import configuration_from
from connector.config.yaml_file import parse
from connector.sources import SOURCES

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted((DOCS / "sources").glob("*.md"))
ELSEWHERE = {"shopify": "README.md", "segment_api": "tracking.md", "rudderstack": "segment.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_tells_to_write_is_valid(page: Path) -> None:
    for example in re.findall(r"```yaml\n(version: 1.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        assert configuration_from(parse(example, folder=Path("/etc/storecue"))).sources, "no source in the example"


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_every_kind_has_a_page_and_its_rows(kind: str) -> None:
    name = ELSEWHERE.get(kind, f"{kind}.md")
    page = DOCS.parent / name if name == "README.md" else DOCS / "sources" / name
    text = page.read_text(encoding="utf-8")
    assert kind in text.lower()
    assert f"`{kind}`" in (DOCS / "configuration.md").read_text(encoding="utf-8")
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert name == "README.md" or f"docs/sources/{name}" in readme
    if kind not in ELSEWHERE:
        assert "## How to check" in text
