from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_agent.cli.export import command
from edge_agent.extras import library_needed
from edge_agent.output.columnar import FORMS, Kinds, time_ns_of
from tests.cli.people import people_port, record

FIELDS: list[dict[str, Any]] = [
    {"i": 1, "n": 1, "on": True, "s": "x", "m": {"a": 1}, "mixed": 1, "none": None, "big": 2**70},
    {"i": -5, "n": 1.5, "on": None, "s": None, "m": [1], "mixed": "x", "seq": 9},
]


def made(seq: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {**record(seq), "fields": fields}


def test_each_field_has_the_narrowest_type_that_all_its_values_have() -> None:
    kinds = Kinds()
    kinds.look_at(made(1, fields) for fields in FIELDS)
    assert dict(kinds.items()) == {
        "i": "int64", "n": "float64", "on": "bool_", "s": "string", "m": "json", "mixed": "json",
        "none": "string", "big": "json", "seq": "int64",
    }  # fmt: skip


def test_times_keep_their_nanoseconds() -> None:
    assert time_ns_of("1970-01-01T00:00:01Z") == 10**9
    assert time_ns_of("1969-12-31T23:59:59.5Z") == -500_000_000
    assert time_ns_of("2026-11-22T10:00:00.000000001Z") == 1_795_341_600_000_000_001


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_library_is_told_with_the_way_to_get_it(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with people_port() as (_, url):
        found = CliRunner().invoke(command, [str(tmp_path / f"x.{form}"), "--url", url])
    assert found.exit_code == 1
    assert library_needed("arrow") in str(found.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_records_come_back_from_the_file(tmp_path: Path, form: str) -> None:
    import pyarrow as pa

    file = tmp_path / f"x.{form}"
    with people_port() as (people, url):
        people.records = [made(n, FIELDS[n % 2]) for n in range(25)]
        people.page = 10
        done = CliRunner().invoke(command, [str(file), "--url", url])
        assert done.exit_code == 0, done.output
        if form == "parquet":
            from pyarrow import parquet

            table = parquet.read_table(file)
        else:
            table = pa.ipc.open_file(file).read_all()
        rows = table.to_pylist()
        assert [row["seq"] for row in rows] == list(range(25))
        assert rows[1]["n"] == 1.5 and rows[0]["n"] == 1.0 and rows[0]["m"] == '{"a":1}'
        assert rows[1]["field.seq"] == 9 and rows[0]["on"] is True and rows[0]["log"] == "main"
        people.records = []
        assert CliRunner().invoke(command, [str(file), "--url", url]).exit_code == 0
        out = CliRunner().invoke(command, ["-", "--format", form, "--url", url])
        assert out.exit_code == 2
