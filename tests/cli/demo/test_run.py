"""Against real processes, for as short as the main job allows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgpack
import pytest

from edge_agent.cli.common import Failure
from edge_agent.cli.demo.run import Demo, verify
from edge_agent.cli.demo.sensors import make_sensors
from edge_agent.cli.demo.view import PlainView
from edge_agent.clock import SystemClock
from edge_agent.record import Record, Run
from edge_agent.store import Block, Engine, Entry, LogSettings, StoreSettings


def hub_store(path: Path) -> Engine:
    settings = StoreSettings(size=64 * 1024 * 1024, logs=(LogSettings("main"),))
    return Engine.open(path, settings, clock=SystemClock(), entropy=os.urandom)


def falsify(path: Path) -> None:
    """Leave one record out of the hub's store and have another one twice."""
    engine = hub_store(path)
    records: list[Record] = []
    after = 0
    while items := engine.read("main", after, 1024 * 1024):
        for item in items:
            after = item.last
            assert isinstance(item, Block)
            records += item.records()
    engine.close()
    shutil.rmtree(path)
    engine = hub_store(path)
    engine.commit([Entry(tuple(_run(each) for each in [*records[1:], records[5]]))])
    engine.close()


def _run(record: Record) -> Run:
    at = record.time_ns
    body: bytes = msgpack.packb({**record.fields, "time": at / 1e9})
    return Run(record.stream, record.source, 0, at, True, 1, body, at, at)


async def test_what_was_acked_is_at_the_hub_once_and_a_falsified_hub_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = await Demo(tmp_path, make_sensors(2), 3.0, PlainView()).run()
    assert verdict.is_clean, verdict
    assert verdict.sent == verdict.acked == verdict.at_hub > 100
    told = capsys.readouterr().out
    assert "the uplink is cut" in told
    assert "the uplink is back" in told

    falsify(tmp_path / "hub")
    falsified = await verify(tmp_path)
    assert (falsified.lost, falsified.duplicates) == (1, 1)
    assert (falsified.altered, falsified.strangers) == (0, 0)
    assert falsified.at_hub == verdict.at_hub
    assert not falsified.is_clean


async def test_a_folder_that_no_demo_left_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="is not what `demo --keep` leaves"):
        await verify(tmp_path)
