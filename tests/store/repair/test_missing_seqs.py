from __future__ import annotations

import pytest

from edge_agent.store.repair import missing_seqs as holes_module
from edge_agent.store.repair.missing_seqs import Holes


def test_holes_are_filled_once_and_by_what_fits() -> None:
    holes = Holes(10)
    assert holes.fill(10, 19)
    assert not holes.fill(15, 24)
    assert not holes.fill(1, 5)
    assert holes.fill(40, 49)
    assert holes.missing(10, 49) == 20
    assert holes.lacks(20)
    assert not holes.lacks(45)
    assert not holes.fill(30, 40)
    assert holes.fill(20, 39)
    assert holes.missing(10, 49) == 0
    holes.last = 60
    assert not holes.fill(60, 61)


def test_more_holes_than_are_remembered_are_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holes_module, "_HOLES_MAX", 5)
    holes = Holes(1)
    for first in range(1, 100, 10):
        assert holes.fill(first, first + 4)
    assert holes.lacks(6)
    assert not holes.lacks(16)
    assert holes.missing(1, 100) + holes.forgotten == 50
    assert holes.lacks(96)
    assert holes.lacks(86)
