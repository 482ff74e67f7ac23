"""Figures of several whole runs side by side."""

from __future__ import annotations

from benchmarks import goals
from benchmarks.ranges import figures, table


def results(**found: float) -> str:
    return f"# Results\n\n## Goals\n\n{goals.table(found)}\n\n## Ingest\n\n| a | 1 | 2 | 3 |\n"


def test_figures_are_read_from_a_table_of_goals() -> None:
    found = figures(results(singles_1=1_587_694, vs_redis=2.51, idle_cpu=0.0123))
    assert found == {"singles_1": 1_587_694, "vs_redis": 2.51, "idle_cpu": 0.0123}


def test_lowest_median_and_highest_stand_side_by_side_and_every_run_is_judged() -> None:
    runs = [figures(results(vs_redis=value, singles_1=400_000)) for value in (2.6, 2.29, 2.5)]
    singles, redis = table(runs).splitlines()[2:]
    assert "| 2.29 x | 2.5 x | 2.6 x | 3 | **1 of 3 runs fall short** |" in redis
    assert singles.endswith("| 400,000 /s | 400,000 /s | 400,000 /s | 3 | met |")
