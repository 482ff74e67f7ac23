"""Every link of the documentation leads somewhere: a file of this repository, and a heading in it.

`make docs` checks the same while it makes the site; here it takes a moment and needs no Sphinx.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    + [*(ROOT / "docs").rglob("*.md")]
)

_FENCE = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def links_of(text: str) -> list[str]:
    """The targets of all links, but for what stands in code."""
    return _LINK.findall(re.sub(r"`[^`]*`", "", _FENCE.sub("", text)))


def anchors_of(text: str) -> set[str]:
    """What a forge, and the site, make of the headings of a page."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = 1
        while slug in found and f"{slug}-{number}" in found:
            number += 1
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in links_of(text):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        path = page.parent / name if name else page
        if path != page and not path.exists():
            yield f"{link}: there is no such file"
        elif anchor and anchor not in anchors_of(text if path == page else path.read_text()):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    assert not [*broken(page, page.read_text())]


@pytest.mark.parametrize(
    "link, is_broken",
    [
        ("glossary.md", False),
        ("glossary.md#what-is-stored", False),
        ("http-api.md#get-apiquery", False),
        ("#words", False),
        ("https://trio.readthedocs.io/", False),
        ("glossaries.md", True),
        ("glossary.md#what-is-not-stored", True),
        ("#sentences", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, is_broken: bool) -> None:
    page = ROOT / "docs" / "imagined.md"
    found = [*broken(page, f"# Words\n\nSee [it]({link}), and in code `[x](nowhere.md)`.\n")]
    assert bool(found) == is_broken


def test_the_index_lists_every_page_and_says_what_is_in_it() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    listed = re.findall(r"^- \[[^]]+\]\((.+?)\):\s\S", index, re.MULTILINE)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages <= set(listed)
    assert len(listed) == len(set(listed)) == index.count("\n- ")


def test_readme_leads_to_the_index() -> None:
    assert "docs/index.md" in links_of((ROOT / "README.md").read_text())
