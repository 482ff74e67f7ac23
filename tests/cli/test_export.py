from __future__ import annotations

import csv
import json
from pathlib import Path

import msgpack
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.export import command
from tests.cli.people import people_port, record


def export(url: str, file: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(command, [str(file), "--url", url, *arguments])


def test_everything_comes_page_by_page_in_every_format(tmp_path: Path) -> None:
    with people_port() as (people, url):
        people.records, people.page = [record(seq, n=seq) for seq in range(1, 26)], 10
        people.records[-1]["fields"]["late"] = "x"
        for name in ("x.ndjson", "x.csv", "x.msgpack"):
            result = export(url, tmp_path / name)
            assert result.exit_code == 0, result.output
            assert "25 records exported" in result.stderr
        lines = (tmp_path / "x.ndjson").read_text().splitlines()
        assert [json.loads(line) for line in lines] == people.records
        with (tmp_path / "x.msgpack").open("rb") as file:
            assert list(msgpack.Unpacker(file)) == people.records
        with (tmp_path / "x.csv").open(newline="") as text:
            rows = list(csv.DictReader(text))
        assert [row["n"] for row in rows] == [str(n) for n in range(1, 26)]
        assert [row["late"] for row in rows][-2:] == ["", "x"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x.csv", "x.msgpack", "x.ndjson"]


def test_to_stdout(tmp_path: Path) -> None:
    with people_port() as (people, url):
        people.records = [record(1, n=1)]
        assert json.loads(export(url, "-").stdout) == people.records[0]


def test_a_file_that_stood_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text("before")
    with people_port() as (people, url):
        people.refuse = (500, b"")
        assert export(url, file).exit_code == 1
        assert file.read_text() == "before"
        assert [each.name for each in tmp_path.iterdir()] == ["x.ndjson"]
        people.refuse = None
        assert export(url, file).exit_code == 0
        assert file.read_text() == ""


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_nothing_found_is_a_file_all_the_same(tmp_path: Path, form: str) -> None:
    with people_port() as (_, url):
        assert export(url, tmp_path / "x", "--format", form).exit_code == 0
    expected = "seq,stream,time,source,time_quality\n" if form == "csv" else ""
    assert (tmp_path / "x").read_text() == expected


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_that_would_be_nearly_empty_is_refused_with_what_to_do(
    tmp_path: Path, form: str
) -> None:
    with people_port() as (people, url):
        people.records = [{**record(seq), "fields": {f"k{seq}": 1}} for seq in range(1, 3_300)]
        people.page = 5_000
        found = export(url, tmp_path / "x", "--format", form)
    assert found.exit_code == 1 and list(tmp_path.iterdir()) == []
    told = f"{found.output}{found.exception}"
    assert "3,299 different fields" in told and "NDJSON" in told
