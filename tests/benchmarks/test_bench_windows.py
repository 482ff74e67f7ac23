"""What rules cost; `test_tiny` runs the section itself."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_windows import RULES, STREAMS, RuleRow, measure


def test_a_share_of_a_core_is_that_of_all_streams_once_a_second() -> None:
    row = RuleRow("any", records=100, cpu_s=0.01, results=0)
    assert round(row.us) == 100
    assert row.share == STREAMS * 0.0001


def test_every_rule_derives_something_but_absence_of_what_is_there(tmp_path: Path) -> None:
    rows = {
        what: measure(tmp_path / str(place), what, streams=5, seconds=70)
        for place, what in enumerate(RULES)
    }
    assert {what for what, row in rows.items() if row.results} == {
        "windows of 1m", "windows of 10m, every 1m", "an alarm above, with hold",
    }  # fmt: skip
    assert all(row.cpu_s > 0 for row in rows.values())
    assert not list(tmp_path.iterdir())
