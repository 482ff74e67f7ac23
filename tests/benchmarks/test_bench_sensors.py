"""Sensors and silence run on tiny input; what is void gives no figure."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from benchmarks.bench_sensors import IdleRow, SensorsRow, figures, render, section

ROW = SensorsRow("agent", 500, 10_000, 120_000, 25.04, 12, 30, 41, 0.1, 0.3)
SILENT, ALONE = IdleRow(1000, 1.5, 60.0, 0.004, 30), IdleRow(0, 0.0, 33.0, 0.002, 30)


def test_tiny_sensors_run_and_every_record_is_read_back(tmp_path: Path) -> None:
    found = section(tmp_path, tiny=True)

    assert "## Many slow sensors" in found.text
    assert re.search(r"^\| agent, .*\| 20 \| 400 \|", found.text, re.MULTILINE)
    assert re.search(r"^\| trio-websocket [^|]+ \| 5 \| 50 \|", found.text, re.MULTILINE)
    assert re.search(r"^\| 20 \| \d\.\d\d s \| \d+\.\d MB \|", found.text, re.MULTILINE)
    assert 0 < found.figures["sensors_connect_s"] < 30
    assert 10 < found.figures["sensors_idle_mb"] < 200


def test_a_run_whose_load_fell_behind_gives_no_figure() -> None:
    void = replace(ROW, void="void: the load fell behind")

    assert figures(ROW, SILENT, ALONE)["sensors_cpu_us"] == 25.04
    assert not {"sensors_cpu_us", "sensors_p99_ms"} & set(figures(void, SILENT, ALONE))
    assert "| void: the load fell behind |" in render([void], SILENT, ALONE)
    assert "25.0" not in render([void], SILENT, ALONE)


def test_idle_cpu_is_told_in_percent_of_a_core() -> None:
    assert figures(ROW, SILENT, ALONE)["idle_cpu"] == 0.2
    assert "0.20%" in render([ROW], SILENT, ALONE)
