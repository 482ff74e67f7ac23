"""Takes the examples out of a page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent.parent.parent / "docs"


class Example(NamedTuple):
    """A fence, the heading above it, and what the next fence says that it prints."""

    title: str
    code: str
    printed: str


def examples_of(page: str, language: str) -> list[Example]:
    """Every fence of that language in ``docs/PAGE``, in order."""
    text = (DOCS / page).read_text()
    found = []
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        for fence in re.finditer(
            rf"^```{language}\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?",
            section,
            re.MULTILINE | re.DOTALL,
        ):
            code, printed = fence.groups(default="")
            found.append(Example(section.partition("\n")[0], code, printed))
    assert len(found) == text.count(f"```{language}\n")
    return found


def table_of(page: str, head: str) -> list[list[str]]:
    """The rows of the table below ``| HEAD |``, without the head."""
    rows = (DOCS / page).read_text().partition(f"\n| {head} |")[2].partition("\n\n")[0]
    lines = rows.split("\n")[2:]
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines]
