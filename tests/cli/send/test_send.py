from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.cli.send.send import file_source, stdin_source
from edge_agent.values.stream_names import source_problem
from tests.client.stub import agent_on_a_port


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`main` sets logging up for its process, which here is everybody's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def send(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["send", *arguments], input=text)


def test_a_csv_is_sent_with_its_times(tmp_path: Path) -> None:
    file = tmp_path / "temps.csv"
    file.write_text("date,temp\n2010/01/01 00:00,39.4\n2010/01/01 01:00,39.2\n")
    with agent_on_a_port() as (agent, url):
        arguments = [str(file), "--url", url.removesuffix("/ingest/s"), "--stream", "seattle"]
        arguments += ["--time-column", "date", "--time-format", "%Y/%m/%d %H:%M", "--tz", "UTC"]
        result = send(*arguments)
        assert result.exit_code == 0, result.output
        assert re.search(r"2 of 2 records acked as file/temps.csv-[0-9a-f]{12}\n", result.output)
        source, number, fields = agent.records[0]
        assert (number, fields["temp"]) == (1, 39.4)
        assert source.startswith("file/temps.csv-")
        again = send(*arguments)
        assert "2 of them earlier" in again.output
        assert len(agent.records) == 2


def test_stdin_is_sent_from_a_source_that_nobody_used_before() -> None:
    with agent_on_a_port() as (agent, url):
        for _ in range(2):
            assert send("--url", url, "--source", "", text='{"n": 1}\n').exit_code == 0
        assert [number for _, number, _ in agent.records] == [1, 1]
        assert len({source for source, _, _ in agent.records}) == 2


def test_a_naive_time_without_tz_names_line_and_column_and_exits_with_65(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("when,t\n2010-01-01T00:00,1\n")
    with agent_on_a_port() as (_, url):
        result = send(str(file), "--url", url, "--time-column", "when")
    assert result.exit_code == 65
    assert "line 2: column 'when': '2010-01-01T00:00' has no time zone" in result.output


def test_wrong_usage_says_what_is_right(tmp_path: Path) -> None:
    for arguments, says in [
        (["--url", "ws://h:1"], "--stream greenhouse/1"),
        (["--url", "ws://h:1", "--stream", ""], "--stream greenhouse/1"),
        (["--url", "ws://h:1/ingest/a", "--stream", "b"], "already names a stream"),
        (["--url", "ws://h:1/elsewhere"], "expected ws://HOST:PORT"),
        (["--url", "http://h:1", "--stream", "s"], "a URL like ws://"),
        (["--tz", "Nowhere"], "--tz"),
    ]:
        result = send(*arguments, text="")
        assert result.exit_code in (2, 78), result.output
        assert says in result.output


def test_a_files_source_depends_on_path_first_line_and_stream_alone(tmp_path: Path) -> None:
    path = tmp_path / "a b.csv"
    name = file_source(path, "x,y\n", "s")
    assert name == file_source(path, "x,y\r\n", "s")
    assert name.startswith("file/a_b.csv-")
    assert source_problem(name) is None
    others = {
        file_source(path, "x,z\n", "s"),
        file_source(path, "x,y\n", "t"),
        file_source(tmp_path / "other" / "a b.csv", "x,y\n", "s"),
    }
    assert len(others | {name}) == 4


def test_the_name_for_stdin_is_valid_and_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "höst name")
    assert source_problem(stdin_source()) is None
    assert stdin_source() != stdin_source()
