from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.demo.compare import SensorLedger, compare, ledgers_from_json, ledgers_to_json
from edge_agent.cli.demo.demo import command, tell


def test_ctrl_c_ends_it_cleanly_and_a_ledger_that_says_more_is_a_difference(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "demo", "--sensors", "1", "--keep", str(kept)],
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
