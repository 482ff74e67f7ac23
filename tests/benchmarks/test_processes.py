from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import processes
from benchmarks.ports import free_port
from benchmarks.processes import ROOT, Server
from tests.patience import PATIENCE_S


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_a_server_that_never_listens_is_ended_and_its_output_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    script = "echo I have other plans; exec sleep 300"

    # A slow machine needs longer until anything is said.
    for patience_s in (0.2, 2.0, PATIENCE_S):
        monkeypatch.setattr(processes, "READY_TIMEOUT_S", patience_s)
        with pytest.raises(RuntimeError, match="not listening") as caught:
            Server(["sh", "-c", script], free_port(), tmp_path)
        if "I have other plans" in str(caught.value):
            break

    assert "I have other plans" in str(caught.value)
    assert children() == before


def test_a_server_that_ends_at_once_is_told_with_its_code(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        Server([sys.executable, "-c", "raise SystemExit(3)"], free_port(), tmp_path)


def test_a_load_whose_starter_has_gone_sends_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", '{"port": 1, "records": 0, "connections": 0}'],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as load:  # fmt: skip
        output, _ = load.communicate("", timeout=30)

    assert (output, load.returncode) == ("ready\n", 0)
