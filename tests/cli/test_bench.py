"""`edge-agent bench`: small, honest, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import bench
from edge_agent.cli.bench import command, percentile
from edge_agent.system.block_device import IN_MEMORY, file_system_of


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    if file_system_of(tmp_path) in IN_MEMORY:
        pytest.fail("pytest's temporary folder is in memory; give --basetemp on a disk")
    return tmp_path


def test_it_measures_syncs_and_commits_and_cleans_up(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_GROUPS", (1, 1000))
    done = CliRunner().invoke(
        command, ["--store", str(on_disk), "--seconds", "0.1", "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert result["syncs"]["count"] >= 3
    assert 0 < result["syncs"]["median_s"] <= result["syncs"]["longest_s"]
    one, thousand = result["commits"]
    assert thousand["records_per_s"] > one["records_per_s"] > 0
    assert one["median_s"] > 0 and one["records_per_cpu_s"] is not None
    assert list(on_disk.iterdir()) == []


def test_it_reads_as_a_table(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_GROUPS", (10,))
    done = CliRunner().invoke(command, ["--store", str(on_disk), "--seconds", "0.1"])
    assert "one sync" in done.output and "durable records/s" in done.output


def test_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "file_system_of", lambda path: "tmpfs")
    done = CliRunner().invoke(command, ["--store", str(tmp_path)])
    assert done.exit_code == 1 and "in memory" in done.output
    assert list(tmp_path.iterdir()) == []


def test_it_cleans_up_after_a_failure(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_time_commits", fail)
    done = CliRunner().invoke(command, ["--store", str(on_disk), "--seconds", "0.1"])
    assert done.exit_code == 1 and list(on_disk.iterdir()) == []


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert percentile([1.0], 0.5) == 1.0
    assert percentile([float(number) for number in range(1000)], 0.99) == 990.0
