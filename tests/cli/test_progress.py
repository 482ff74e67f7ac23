from __future__ import annotations

import subprocess
import sys

import pytest

from edge_agent.cli.progress import ProgressBar


def test_a_bar_is_drawn_on_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("sending", 100, shown=True) as bar:
        bar.show(50, "12 acked")
    told = capsys.readouterr()
    assert "sending" in told.err
    assert "12 acked" in told.err
    assert told.out == ""


def test_without_a_terminal_there_is_none_and_rich_is_not_even_imported() -> None:
    script = """
import sys
from edge_agent.cli.progress import ProgressBar
with ProgressBar("sending", 100) as bar:
    bar.show(50, "x")
print("rich" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"False\n", b"")
