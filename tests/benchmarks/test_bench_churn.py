"""Churn runs with few connections; tasks left behind and growth are seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench_churn import TINY, Churned, Sample, Scale, figures, render, run

BEFORE = Sample(0, 30e6, Counter(main=1, pump=1))


def churned(per_thousand: float, tasks: Counter[str]) -> Churned:
    # The first thousand brings two megabytes, as arenas and caches fill.
    samples = [
        Sample(count, 30e6 + 2e6 + per_thousand * count / 1000, BEFORE.tasks)
        for count in range(1000, 6001, 500)
    ]
    samples.insert(0, Sample(500, 31e6, BEFORE.tasks))
    samples[-1] = replace(samples[-1], tasks=tasks)
    scale = Scale(6000, 1000, 500)
    return Churned(scale, BEFORE, samples, {"session": 6000}, 5000, 5500, 20.0)


def test_tiny_churn_leaves_no_task_behind(tmp_path: Path) -> None:
    found = run(tmp_path / "churn", TINY)

    assert found.left.total() == 0, found.left
    assert sum(found.opened.values()) == TINY.connections == 300
    assert [sample.connections for sample in found.samples] == [50, 100, 150, 200, 250, 300]
    assert 0 < found.acked <= found.stored
    assert "## Churn" in render(found)


def test_growth_is_the_slope_after_the_warm_up() -> None:
    steady = churned(900.0, BEFORE.tasks)

    assert figures(steady) == {"churn_bytes": pytest.approx(900), "churn_tasks": 0}
    assert "falls short" not in render(steady)


def test_what_grows_too_fast_falls_short_by_so_much() -> None:
    assert "| 5,024 (falls short by 4,000) |" in render(churned(5024.0, BEFORE.tasks))


def test_a_task_left_behind_is_named() -> None:
    left = churned(0.0, Counter(main=1, pump=3, reader=1))

    assert left.left == Counter(pump=2, reader=1)
    assert figures(left)["churn_tasks"] == 3
    assert "| 2 x pump, 1 x reader |" in render(left)
