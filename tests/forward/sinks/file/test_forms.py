from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest

from edge_agent.config import Format
from edge_agent.forward.sinks.file.forms import COLUMNS, encode_file, packed_suffix
from edge_agent.forward.sinks.file.lines import Carried, carried
from tests.forward.sinks.file.test_lines import ID, batch_in
from tests.forward.support import upstream


async def given(folder: Path) -> list[Carried]:
    batch = await batch_in(folder)
    return list(carried(batch, batch.records(lambda stream: stream == "greenhouse/1")))


def config(form: Format, compression: str = "none") -> Any:
    return upstream("file:///x", format=form, compression=compression)


async def test_csv_has_a_row_for_each_record_and_a_column_for_each_field(tmp_path: Path) -> None:
    text = encode_file(await given(tmp_path), config("csv"), ID).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert [row["n"] for row in rows] == [str(n) for n in range(7)]
    assert (rows[0]["time"], rows[1]["time_quality"]) == ("2026-11-22T10:00:00.123456Z", "synced")
    assert rows[5]["raw"] == "AP8=" and rows[5]["deep"] == '{"a":[1,null,true]}'


async def test_parquet_has_the_same_columns(tmp_path: Path) -> None:
    data = encode_file(await given(tmp_path), config("parquet", "gzip"), ID)
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    assert tuple(table.column_names[: len(COLUMNS)]) == COLUMNS
    assert table["n"].to_pylist() == list(range(7))
    assert table["time"].cast("int64").to_pylist()[0] == 1_795_341_600_123_456_000


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
async def test_the_same_records_give_the_same_bytes(tmp_path: Path, form: Format) -> None:
    records = await given(tmp_path)
    one = encode_file(records, config(form, "gzip"), ID)
    assert one == encode_file(records, config(form, "gzip"), ID)


async def test_a_name_ends_as_the_content_is_compressed(tmp_path: Path) -> None:
    records = await given(tmp_path)
    packed = encode_file(records, config("csv", "gzip"), ID)
    assert gzip.decompress(packed) == encode_file(records, config("csv"), ID)
    suffixes = [packed_suffix(config("csv", one)) for one in ("none", "gzip", "zstd")]
    assert suffixes == ["", ".gz", ".zst"]
    assert packed_suffix(config("parquet", "gzip")) == ""


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_fields_that_would_be_too_many_columns_stand_together(
    tmp_path: Path, form: Format
) -> None:
    (record, block), *_ = await given(tmp_path)
    fields = [
        {f"k{n}": n, "t": 1.5, "further_fields": "own", "late": n if n > 1000 else None}
        for n in range(2_000)
    ]
    apart: list[Carried] = [(msgspec.structs.replace(record, fields=one), block) for one in fields]
    data = encode_file(apart, config(form), ID)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
    else:
        rows = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    assert len(rows) == 2_000 and len(rows[0]) <= 500 + len(COLUMNS)
    assert all(float(row["t"]) == 1.5 and row["further_fields"] == "own" for row in rows)
    assert float(rows[1500]["late"]) == 1500
    assert (int(rows[5]["k5"]), json.loads(rows[1999]["further_fields_"])) == (5, {"k1999": 1999})
    assert not rows[5]["further_fields_"]
    assert data == encode_file(apart, config(form), ID)
