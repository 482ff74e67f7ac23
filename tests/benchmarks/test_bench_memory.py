"""Memory that grows is said to grow; `test_tiny` runs the section itself."""

from __future__ import annotations

import pytest

from benchmarks.bench_memory import Flood, figures, render

BACKLOG = dict.fromkeys(("idle_mb", "idle_rss_mb", "peak_mb", "growth_mb", "after_rss_mb"), 40.0)


def flooded(per_second: float, above: float = 20.0) -> Flood:
    # Steep at first, then filling by 6 MB a minute, up to ``above``: seconds that do not count.
    warm = [(at / 2, 35.0 + at / 4) for at in range(30)]
    filling = [(at / 2, 35.0 + above - 6 + at / 20) for at in range(30, 121)]
    full = [(at / 2, 36.0 + above) for at in range(121, 240)]
    steady = [(at / 2, 36.0 + above + per_second * (at / 2 - 120)) for at in range(240, 361)]
    return Flood(35.0, [*warm, *filling, *full, *steady], 180.0, 72_000_000, 15.0, 120.0)


def test_a_flat_flood_is_called_flat() -> None:
    found = flooded(0.0)

    assert figures(found) == {"flood_mb": pytest.approx(20), "flood_slope": pytest.approx(0)}
    assert "up to 9 MiB | +6.00 MB/min |" in render(1, BACKLOG, found)
    assert "by some 6 MB more | 21.0 MB |" in render(1, BACKLOG, found)
    assert "+0.00 MB/min, flat" in render(1, BACKLOG, found)
    assert "falls short" not in render(1, BACKLOG, found)


def test_a_flood_that_grows_falls_short_by_what_is_over_flat() -> None:
    assert "+6.00 MB/min, falls short by 5.00" in render(1, BACKLOG, flooded(0.1))


def test_memory_above_the_goal_falls_short_by_the_rest() -> None:
    assert "| 52.5 MB, falls short by 12.5 MB |" in render(1, BACKLOG, flooded(0.0, above=52.5))
