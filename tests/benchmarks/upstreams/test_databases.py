"""The benchmarks of databases give their figures, and fail where a record is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.upstreams import influx, postgres

FIGURES = {"records_per_second", "cpu_us_per_record", "agent_mb", "peer_records_per_second"}


@pytest.mark.needs("influxd")
def test_influxdb(tmp_path: Path) -> None:
    figures = influx.run(tmp_path, records=40_000)
    assert figures.keys() == FIGURES and all(value > 0 for value in figures.values())


@pytest.mark.needs("postgresql", "psycopg")
def test_postgresql(tmp_path: Path) -> None:
    figures = postgres.run(tmp_path, records=20_000)
    assert figures.keys() == FIGURES and all(value > 0 for value in figures.values())
