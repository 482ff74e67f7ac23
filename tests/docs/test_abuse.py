"""docs/abuse.md says what `make abuse` tries."""

from __future__ import annotations

from pathlib import Path

from tests.abuse.groups import GROUPS
from tests.abuse.page import page

ROOT = Path(__file__).parent.parent.parent


def test_the_page_lists_the_cases_as_they_are() -> None:
    anew = "python -m tests.abuse.page > docs/abuse.md"
    assert (ROOT / "docs" / "abuse.md").read_text() == page(), f"write it anew: {anew}"


def test_there_are_as_many_cases_as_promised() -> None:
    names = [case.name for cases in GROUPS.values() for case in cases.all]
    assert len(names) >= 60
    assert len(set(names)) == len(names), "a case is known by its name"
