from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from click.testing import CliRunner

from edge_agent.cli.common import Failure
from edge_agent.cli.demo.compare import SensorLedger, compare, ledgers_from_json, ledgers_to_json
from edge_agent.cli.demo.demo import Demo, command, tell, verify
from edge_agent.cli.demo.sensors import make_sensors
from edge_agent.cli.demo.view import PlainView
from edge_agent.store import Block, Engine, Entry, LogSettings, StoreSettings
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Record, Run


def test_ctrl_c_ends_it_cleanly_and_a_ledger_that_says_more_is_a_difference(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "edge_agent",
            "demo",
            "--sensors",
            "1",
            "--seconds",
            "12",
            "--keep",
            str(kept),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "the uplink is cut" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    figures = dict(line.rsplit(maxsplit=1) for line in rest.splitlines()[-5:])
    assert figures["lost"] == figures["duplicates"] == "0"
    assert figures["sent"] == figures["acked"] == figures["at the hub"] != "0"

    ledgers = ledgers_from_json((kept / "ledger.json").read_text())
    ledgers["demo/host"].sent.append(1)
    ledgers["demo/host"].acked += 1
    (kept / "ledger.json").write_text(ledgers_to_json(ledgers))
    result = CliRunner().invoke(command, ["--verify", str(kept)])
    assert result.exit_code == 1
    assert "lost                 1" in result.output
    assert "what was acked and what the hub holds differ" in result.output


def test_a_folder_in_use_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = CliRunner().invoke(command, ["--keep", str(tmp_path), "--seconds", "1"])
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_the_verdict_names_examples(capsys: pytest.CaptureFixture[str]) -> None:
    tell(compare({"a": SensorLedger([1, 2], acked=2)}, []))
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["sent", "2"]
    assert told[-2:] == ["  lost: a n=1", "  lost: a n=2"]


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
    verdict = await Demo(tmp_path, make_sensors(2), 4.0, PlainView()).run()
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
