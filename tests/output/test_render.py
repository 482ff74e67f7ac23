from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from edge_agent.errors import ProtocolError
from edge_agent.output.render import encode_json, to_csv, to_dict, to_json, to_ndjson
from edge_agent.values.record import Record

TIME_NS = 1_795_341_600_250_000_000


def record(fields: dict[str, Any], **rest: Any) -> Record:
    known: dict[str, Any] = {
        "log": "main",
        "seq": 4711,
        "stream": "greenhouse/2",
        "time_ns": TIME_NS,
        "quality": "sensor",
        "stored_ns": TIME_NS,
        "synced": True,
        "source": "pi-7/bme280",
        "source_seq": 3,
    }
    return Record(**(known | rest), fields=fields)


def test_a_record_reads_as_the_protocol_shows_it() -> None:
    assert json.loads(to_json(record({"t": 21.7}))) == {
        "seq": 4711,
        "stream": "greenhouse/2",
        "time": "2026-11-22T10:00:00.25Z",
        "source": "pi-7/bme280",
        "fields": {"t": 21.7},
    }


def test_what_is_out_of_the_ordinary_is_told() -> None:
    odd = record(
        {},
        log="alarms",
        quality="arrival",
        synced=False,
        origin="abc",
        origin_epoch="e",
        origin_log="main",
        origin_seq=7,
    )
    shown = to_dict(odd)
    assert (shown["log"], shown["quality"], shown["synced"]) == ("alarms", "arrival", False)
    assert shown["origin"] == {"agent": "abc", "epoch": "e", "log": "main", "seq": 7}


def test_json_gets_what_it_can_say() -> None:
    fields = {
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "inf": float("-inf"),
        "when": datetime(2026, 11, 22, 10, tzinfo=UTC),
        "extension": msgspec.msgpack.Ext(5, b"ab"),
        "big": 2**64 - 1,
        "deep": {"a": [1, {"b": b"x"}]},
    }
    assert json.loads(to_json(record(fields)))["fields"] == {
        "bytes": "AP8=",
        "nan": None,
        "inf": None,
        "when": "2026-11-22T10:00:00Z",
        "extension": [5, "YWI="],
        "big": 2**64 - 1,
        "deep": {"a": [1, {"b": "eA=="}]},
    }


def test_keys_that_json_cannot_have_become_text() -> None:
    assert json.loads(encode_json({"a": {None: 1, True: 2, (1, 2): 3}})) == {
        "a": {"None": 1, "True": 2, "(1, 2)": 3}
    }


def test_ndjson_has_one_line_per_record_whatever_is_in_it() -> None:
    lines = to_ndjson([record({"a": "one\ntwo"}), record({})]).splitlines()
    assert [json.loads(line)["fields"] for line in lines] == [{"a": "one\ntwo"}, {}]
    assert to_ndjson([]) == b""


def test_csv_has_flat_columns_for_all_fields_that_occur() -> None:
    table = to_csv(
        [
            record({"t": 21.5, "site": 'no,"rth"'}),
            record({"h": 40, "deep": {"a": 1}, "seq": 9, "raw": b"\xff", "ok": True}),
            record({"t": float("nan"), "when": datetime(2026, 1, 1, tzinfo=UTC)}),
        ]
    ).decode()
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert list(rows[0]) == [
        "log", "seq", "stream", "time", "quality", "source", "time_quality",
        "t", "site", "h", "deep", "field.seq", "raw", "ok", "when",
    ]  # fmt: skip
    assert (rows[0]["t"], rows[0]["site"], rows[0]["h"]) == ("21.5", 'no,"rth"', "")
    assert rows[1]["deep"] == '{"a":1}'
    assert (rows[1]["seq"], rows[1]["field.seq"]) == ("4711", "9")
    assert (rows[1]["raw"], rows[1]["ok"]) == ("/w==", "true")
    assert (rows[2]["t"], rows[2]["when"]) == ("", "2026-01-01T00:00:00Z")
    assert rows[0]["time"] == "2026-11-22T10:00:00.25Z"


def test_records_that_have_no_field_in_common_are_no_table_beyond_a_size() -> None:
    apart = [record({f"k{n}": n}) for n in range(3_200)]
    with pytest.raises(ProtocolError, match=r"3,200 different fields .*limit.* ndjson") as found:
        to_csv(apart)
    assert found.value.code == "too_long"
    assert to_csv(apart[:100]).count(b"\n") == 101


def test_how_far_a_time_can_be_trusted_is_told_where_it_is_not_the_sensors_own() -> None:
    assert "time_quality" not in to_dict(record({}))
    for synced, corrected, word in (
        (True, False, "synced"), (False, True, "corrected"), (False, False, "unsynced"),
    ):  # fmt: skip
        shown = to_dict(record({}, quality="arrival", synced=synced, corrected=corrected))
        assert shown["time_quality"] == word
        assert shown.get("synced", True) is synced


def test_no_cell_of_a_csv_begins_a_formula_and_numbers_stay_numbers() -> None:
    table = to_csv([record({"a": "=1+1", "b": -5, "c": -0.5, "d": "-5", "@e": "x\x1b\u202e"})])
    (row,) = csv.DictReader(io.StringIO(str(table, "utf-8"), newline=""))
    told = {"a": "'=1+1", "b": "-5", "c": "-0.5", "d": "-5", "'@e": "x\\x1b\\u202e"}
    assert {key: row[key] for key in told} == told
