"""The threat model and the table for ETSI EN 303 645: complete, and pointing to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
#: How many provisions each chapter of EN 303 645 V2.1.1 has.
PROVISIONS = {
    "5.1": 5, "5.2": 3, "5.3": 16, "5.4": 4, "5.5": 8, "5.6": 9, "5.7": 2, "5.8": 3, "5.9": 3,
    "5.10": 1, "5.11": 4, "5.12": 3, "5.13": 1, "6": 5,
}  # fmt: skip
STATES = {"met", "in part", "integrator", "n/a"}


def rows(page: str) -> list[list[str]]:
    """The cells of every line of every table, without the heads."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_provision_is_there_once_in_order_and_with_a_state() -> None:
    found = [row for row in rows("etsi-en-303-645.md") if re.fullmatch(r"[56][\d.]*-\d+", row[0])]
    wanted = [f"{name}-{n + 1}" for name, count in PROVISIONS.items() for n in range(count)]
    assert [row[0] for row in found] == wanted
    assert {row[2] for row in found} == STATES
    # What is said to be met is shown, or there is nothing to be shown.
    assert not [row[0] for row in found if row[2] in ("met", "in part") and not row[3]]


def test_what_holds_points_to_a_test_or_a_page() -> None:
    text = (DOCS / "threat-model.md").read_text()
    table = text.split("## What holds")[1].split("## What does not")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 15
    assert not [line for line in lines if "`tests/" not in line and "`systemd/" not in line]


@pytest.mark.parametrize("page", ["docs/threat-model.md", "docs/etsi-en-303-645.md", "SECURITY.md"])
def test_files_that_are_named_are_there(page: str) -> None:
    named = set(
        re.findall(r"`((?:tests|systemd|edge_agent)/[\w./@-]+)`", (ROOT / page).read_text())
    )
    assert not [name for name in named if not (ROOT / name).is_file()]
