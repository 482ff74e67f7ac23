"""The backlog that the drain benchmark makes is what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.bench_drain import SOURCE, fill
from benchmarks.readback import verify
from edge_agent.assembly.wiring import store_settings
from edge_agent.config import Config
from edge_agent.store import Block, Engine
from edge_agent.system.clock import SystemClock


def test_a_backlog_has_blocks_of_the_size_asked_for_and_its_checksum(tmp_path: Path) -> None:
    checksums = fill(tmp_path / "data", 95, 10)
    engine = Engine.open(
        tmp_path / "data", store_settings(Config()), clock=SystemClock(), entropy=os.urandom
    )
    items = engine.read("main", 0, 2**20)
    engine.close()
    assert [item.count for item in items if isinstance(item, Block)] == [10] * 9 + [5]
    verify(tmp_path / "data", 95, checksums)


def test_a_backlog_that_is_not_all_at_the_hub_gets_no_figure(tmp_path: Path) -> None:
    records, checksum = fill(tmp_path / "data", 30, 10)[SOURCE]
    with pytest.raises(SystemExit):
        verify(tmp_path / "data", 31, {SOURCE: [31, checksum]})
    with pytest.raises(SystemExit):
        verify(tmp_path / "data", records, {SOURCE: [records, checksum ^ 1]})
