"""The documentation holds together: links lead somewhere, every page can be found, every command is told of."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from connector.cli import main

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("deploy/**/*.md")]
)


def without_code(page: Path) -> str:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> list[str]:
    """The relative links of a page."""
    found: list[str] = re.findall(r"\]\(<?([^)\s>]+)>?\)", without_code(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """What may stand after the # of a link to a page: headings as GitHub spells them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one) is not None for one in found)
        found.add(f"{slug}-{count}" if count else slug)
    return found


def target(page: Path, link: str) -> Path:
    path = link.partition("#")[0]
    return (page.parent / path).resolve() if path else page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        there, anchor = target(page, link), link.partition("#")[2]
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            dead.append(link)
    assert not dead


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in seen:
            seen.add(page)
            left += [there for link in links(page) if (there := target(page, link)).suffix == ".md"]
    lost = {str(page.relative_to(ROOT)) for page in PAGES} - {str(page.relative_to(ROOT)) for page in seen}
    assert not lost, "link these pages from README.md or from a page that it leads to"


def commands(command: click.Command, path: str) -> Iterator[str]:
    """Each command with the names of its arguments."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        context = click.Context(command)
        arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
        yield " ".join([path, *arguments]).replace("FILE|-", "FILE")  # a | would end the cell


def test_every_command_is_told_of() -> None:
    told = re.findall(r"^\| `(storecue [^`]+)` \| \S", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(commands(main, "storecue"))
