from __future__ import annotations

import io

from edge_agent.output.csv_rows import cell, field_names, write_csv

RECORDS = [
    {"seq": 1, "stream": "a", "time": "T", "source": "=s", "fields": {"t": 1.5, "seq": 9}},
    {"seq": 2, "stream": "a", "time": "T", "source": "s", "fields": {"m": {"x": 1}},
     "time_quality": "synced"},
]  # fmt: skip


def test_rows_have_what_is_ours_and_then_the_fields() -> None:
    out = io.StringIO()
    write_csv(RECORDS, field_names(RECORDS), out, heading=True)
    heading, first, second = out.getvalue().splitlines()
    assert heading == "seq,stream,time,source,time_quality,t,field.seq,m"
    assert first == "1,a,T,'=s,sensor,1.5,9,"
    assert second == '2,a,T,s,synced,,,"{""x"":1}"'


def test_own_columns_may_be_others() -> None:
    out = io.StringIO()
    write_csv(RECORDS, [], out, heading=True, own=("stream", "seq"))
    assert out.getvalue() == "stream,seq\na,1\na,2\n"


def test_a_cell_is_text() -> None:
    assert [cell(one) for one in (None, "x", 1, [1])] == ["", "x", "1", "[1]"]
