"""What is void gives no figure; `test_tiny` runs the section itself."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench_sensors import IdleRow, SensorsRow, figures, render

ROW = SensorsRow("agent", 500, 10_000, 120_000, 25.04, 12, 30, 41, 0.1, 0.3)
SILENT, ALONE = IdleRow(1000, 1.5, 60.0, 0.004, 30), IdleRow(0, 0.0, 33.0, 0.002, 30)


def test_a_run_whose_load_fell_behind_gives_no_figure() -> None:
    void = replace(ROW, void="void: the load fell behind")

    assert figures(ROW, SILENT, ALONE)["sensors_cpu_us"] == 25.04
    assert not {"sensors_cpu_us", "sensors_p99_ms"} & set(figures(void, SILENT, ALONE))
    assert "| void: the load fell behind |" in render([void], SILENT, ALONE)
    assert "25.0" not in render([void], SILENT, ALONE)


def test_idle_cpu_is_told_in_percent_of_a_core() -> None:
    assert figures(ROW, SILENT, ALONE)["idle_cpu"] == 0.2
    assert "0.20%" in render([ROW], SILENT, ALONE)
