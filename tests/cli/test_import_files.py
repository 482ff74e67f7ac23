"""`edge-agent import`: the way in is tested in tests/forward/carried, real processes in
tests/end_to_end/test_carried_files.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.forward.sinks.file.names import FileName

NAME = FileName("a1", "e1", "main", "stick", 1, 5, 5)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


def test_a_folder_without_a_file_of_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    done = run(tmp_path)
    assert done.exit_code == 65 and "no NDJSON file of a file upstream" in done.stderr
    done = run(tmp_path / "notes.txt")
    assert done.exit_code == 65 and "its name does not say" in done.stderr


@pytest.mark.parametrize("url", ["http://h:1", "ws://", "ws://h/ingest/x", "ws://[h"])
def test_a_url_that_is_no_sensors_port_is_told(tmp_path: Path, url: str) -> None:
    (tmp_path / NAME.text()).write_text("")
    done = run(tmp_path, "--to", url)
    assert done.exit_code == 2 and "--to: expected ws://HOST:PORT" in done.stderr


def test_an_agent_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME.text()).write_text("")
    done = run(tmp_path, "--to", "ws://127.0.0.1:1")
    assert done.exit_code == 69
    assert "Connection refused" in done.stderr and "nothing comes twice" in done.stderr
    assert "0 records brought in" in done.stderr
