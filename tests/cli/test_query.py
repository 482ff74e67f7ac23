from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.query import command
from tests.cli.people import people_port, record

TABLE = {
    "columns": ["time", "stream", "t_mean"],
    "rows": [["2026-01-01T00:00:00Z", "a/b", 21.25], ["2026-01-01T00:01:00Z", "a/b", None]],
    "truncated": True,
    "next": None,
    "lag": 7,
}


def ask(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--url", url, *arguments])


def test_records_in_every_format_with_one_that_says_there_are_more() -> None:
    with people_port() as (people, url):
        people.records = [record(1, t=1.5), record(2, t=2.5), record(3, t=3.5)]
        table = ask(url, "--limit", "2")
        assert [line.split()[0] for line in table.stdout.splitlines()] == ["seq", "3", "2"]
        assert "there are more than 2; a larger --limit" in table.stderr
        newest = people.records[::-1]
        assert json.loads(ask(url, "--format", "json").stdout) == newest
        lines = ask(url, "--format", "ndjson").stdout.splitlines()
        assert [json.loads(line) for line in lines] == newest
        assert ask(url, "--format", "csv").stdout.splitlines()[1].endswith(",3.5")


def test_in_the_order_in_which_they_were_stored_where_that_is_asked_for() -> None:
    with people_port() as (people, url):
        people.records = [record(1, t=1.5), record(2, t=2.5), record(3, t=3.5)]
        table = ask(url, "--limit", "2", "--order", "oldest")
        assert [line.split()[0] for line in table.stdout.splitlines()] == ["seq", "1", "2"]
        assert "there are more than 2; a larger --limit" in table.stderr


def test_the_newest_of_several_logs_are_those_with_the_latest_time() -> None:
    with people_port() as (people, url):
        people.records = [record(9, t=1), record(3, "alarms", t=2)]
        people.records[0]["time"] = "2026-01-02T00:00:00.5Z"
        people.records[1]["time"] = "2026-01-02T00:00:00Z"
        lines = ask(url, "--limit", "1", "--format", "ndjson").stdout.splitlines()
        assert [json.loads(line)["seq"] for line in lines] == [9]


def test_a_cell_of_any_length_stretches_no_table() -> None:
    with people_port() as (people, url):
        people.records = [record(1, t="x" * 5000), record(2)]
        people.records[1]["fields"]["y" * 3000] = 1
        table = ask(url)
        assert max(map(len, table.stdout.splitlines())) < 250 and "…" in table.stdout
        assert "x" * 5000 in ask(url, "--format", "json").stdout


def test_options_become_the_question() -> None:
    with people_port() as (people, url):
        ask(url, "--stream", "a/*", "--from", "-1h", "--to", "now", "--filter", "t > 2")
        asked = people.asked[0]
        assert (asked["stream"], asked["from"], asked["to"]) == ("a/*", "-1h", "now")
        assert asked["filter"] == "t > 2"


def test_an_aggregate_gives_figures_per_stream() -> None:
    with people_port() as (people, url):
        people.records = [record(1, t=1.5), record(2, t=2.5)]
        result = ask(url, "--aggregate", "t")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1].split() == ["a/b", "2", "1", "2"]


def test_points_and_figures_are_asked_of_history() -> None:
    with people_port() as (people, url):
        people.table = TABLE
        result = ask(
            url, "--step", "1m", "--aggregate", "mean,max", "--fields", "t,n.a", "--group", "none",
            "--fill", "null", "--order", "newest", "--limit", "5",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        asked = {name: value for name, value in people.asked[0].items() if name != "format"}
        assert asked == {
            "stream": "**", "step": "1m", "aggregate": "mean,max", "fields": "t,n.a",
            "group": "none", "fill": "null", "order": "newest", "limit": "5",
        }  # fmt: skip
        assert "there are more than 2 rows" in result.stderr
        assert "7 records that came last" in result.stderr
        ask(url, "--fields", "t")
        assert "order" not in people.asked[1] and "limit" not in people.asked[1]


def test_an_empty_answer_says_how_far_it_looked() -> None:
    with people_port() as (people, url):
        people.table = TABLE | {"rows": [], "truncated": False, "lag": 0}
        found = ask(url, "--fields", "t")
        assert found.stdout.split() == ["time", "stream", "t_mean"]
        assert "in the last hour; --from -7d looks further back" in found.stderr
        assert "last hour" not in ask(url, "--fields", "t", "--from", "-1d").stderr


def test_an_aggregate_without_a_step_says_what_it_was_taken_for() -> None:
    with people_port() as (_, url):
        found = ask(url, "--aggregate", "mean")
        assert found.exit_code == 0
        assert "--step 1h --aggregate mean" in found.stderr
        assert "--step" not in ask(url, "--aggregate", "t").stderr


def test_more_points_than_one_answer_holds_come_in_several() -> None:
    with people_port() as (people, url):
        people.page = 2
        rows = [[f"2026-01-01T00:00:0{n}Z", "a/b", n] for n in range(5)]
        people.table = TABLE | {"rows": rows, "truncated": False, "lag": 0}
        found = ask(url, "--fields", "t", "--limit", "4", "--format", "csv")
        assert [line.rpartition(",")[2] for line in found.stdout.splitlines()[1:]] == list("0123")
        assert [given["limit"] for given in people.asked] == ["4", "2"]
        assert (
            len(ask(url, "--fields", "t", "--limit", "99", "--format", "csv").stdout.split()) == 6
        )


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_records_and_figures_go_into_a_file_of_columns(form: str, tmp_path: Path) -> None:
    file = tmp_path / "answer"
    with people_port() as (people, url):
        people.records = [record(1, t=1.5), record(2, t=2.5)]
        done = ask(url, "--format", form, "--output", str(file))
        assert done.exit_code == 0 and "2 rows in" in done.stderr and done.stdout == ""
        assert read(file, form)["t"].to_pylist() == [2.5, 1.5]
        people.table = TABLE
        done = ask(url, "--step", "1m", "--fields", "t", "--format", form, "--output", str(file))
        assert done.exit_code == 0, done.output
        found = read(file, form)
        assert found.column_names == ["time", "stream", "t_mean"]
        assert found["t_mean"].to_pylist() == [21.25, None]
        assert str(found["time"].type) == "timestamp[ns, tz=UTC]"


def test_a_file_of_columns_needs_a_name_and_others_take_none(tmp_path: Path) -> None:
    with people_port() as (_, url):
        for words, told in (
            (["--format", "parquet"], "--format parquet needs --output FILE"),
            (
                ["--format", "csv", "--output", "x"],
                "--output FILE is for --format parquet",
            ),
        ):
            done = ask(url, *words)
            assert done.exit_code == 2 and told in done.output
        file = tmp_path / "x"
        done = ask(url, "--aggregate", "t", "--format", "parquet", "--output", str(file))
        assert done.exit_code == 2 and "figures by --step" in done.output and not file.exists()


def read(file: Path, form: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    if form == "parquet":
        return parquet.read_table(file)
    with pa.ipc.open_file(file) as found:
        return found.read_all()
