"""Wear runs on tiny input; what cannot be measured is said, never left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import bench_wear
from benchmarks.bench_wear import (
    OURS,
    SQLITE,
    TINY,
    UNCOMPRESSED,
    WearRow,
    figures,
    render,
    run,
    wrong_pace,
)

ROW = WearRow(OURS, 1000, 1, False, 200, 0.5, 35_500, 0.3)


@pytest.mark.needs("root", "losetup", "mkfs.ext4", "mount", "umount", "sync")
def test_tiny_wear_runs_on_a_device_of_its_own(tmp_path: Path) -> None:
    rows = run(tmp_path, TINY)

    assert [(row.what, row.sources, row.forwarder) for row in rows] == [
        (OURS, 1, False), (OURS, 1, True), (OURS, 50, False), (OURS, 50, True),
        (UNCOMPRESSED, 1, False), (SQLITE, 1, False),
    ]  # fmt: skip
    for row in rows:
        assert not row.void and 1 < row.amplification < 20, row
    # What was compressed is a fraction of what was not; SQLite writes everything twice.
    assert rows[0].amplification < rows[4].amplification and rows[0].disk < rows[4].disk
    assert rows[5].amplification > 2


def test_without_a_device_every_row_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_wear, "why_not", lambda: "needs root, for a loop device")

    rows = run(tmp_path, bench_wear.FULL)

    text = render(rows)
    assert len(rows) == 12 and {row.void for row in rows} == {"needs root, for a loop device"}
    assert text.count("needs root, for a loop device") == 12
    assert figures(rows) == {}


def test_the_goal_is_held_against_the_worst_row() -> None:
    worse = replace(ROW, sources=50, amplification=0.9, disk=0.35)
    others = [
        WearRow(SQLITE, 1000, 1, False, 200, 2.6),
        WearRow(UNCOMPRESSED, 1000, 1, False, 1, 2),
    ]

    assert figures([ROW, worse, *others]) == {"wear_1000": 0.9, "disk_1000": 0.35}
    assert figures([ROW, replace(worse, void="void")]) == {}


@pytest.mark.parametrize(
    "commits, rounds, void", [(200, 200, False), (209, 200, False), (211, 200, True), (4, 6, True)]
)
def test_a_run_with_other_commits_than_it_sent_rounds_is_void(
    commits: int, rounds: int, void: bool
) -> None:
    assert bool(wrong_pace(commits, rounds)) == void
