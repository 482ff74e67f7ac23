"""A file's content from records: NDJSON with everything in it, CSV and Parquet for other programs.

CSV and Parquet have a row for each record: ``id``, ``agent``, ``log``, ``seq``, ``stream``,
``time``, ``source``, ``time_quality``, then a column for each field that a record of this file has.
Where that were too many, the rarest stand together as JSON in a column ``further_fields``.
The same records give the same bytes; those of a Parquet file as long as pyarrow stays the same.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from edge_agent.config import Upstream
from edge_agent.forward.sinks.file.lines import Carried, encode_lines, is_plain
from edge_agent.forward.sinks.http.body import compressed, json_bytes, rendered
from edge_agent.output.columnar import Kinds, columnar_writer
from edge_agent.output.csv_rows import field_names, write_csv
from edge_agent.store import Block, Identity
from edge_agent.values.record import Record
from edge_agent.zstd import zstd

COLUMNS: Final = ("id", "agent", "log", "seq", "stream", "time", "source", "time_quality")
_OF_RECORD: Final = tuple(name for name in COLUMNS if name != "log")
#: Cells of one file, the empty ones included: twice what a batch of the largest size can fill.
#: 10,000 records of a field each that no other has would be a table of 100 million.
CELLS_MAX: Final = 1_000_000
#: So many have their columns, however many rows there are.
COLUMNS_MIN: Final = 64
#: The column of fields that would be too many columns, as JSON.
FURTHER: Final = "further_fields"
_CHECKED: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}
_PACKED: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}


def packed_suffix(upstream: Upstream) -> str:
    """What a name ends with where the content is compressed; Parquet is within itself."""
    return "" if upstream.format == "parquet" else _PACKED[upstream.compression]


def encode_file(given: Sequence[Carried], upstream: Upstream, identity: Identity) -> bytes:
    """The file's bytes.

    Raises:
        TypeError, ValueError, OverflowError: a record holds something that cannot be said.
        NotColumnar: pyarrow is missing.
    """
    if upstream.format == "ndjson":
        return _packed(encode_lines(given, identity), upstream)
    rows = [_row(*one, identity) for one in given]
    _put_together(rows)
    if upstream.format == "parquet":
        return _parquet(rows)
    text = io.StringIO()
    write_csv(rows, field_names(rows), text, heading=True, own=COLUMNS)
    return _packed(text.getvalue().encode(), upstream)


def _packed(content: bytes, upstream: Upstream) -> bytes:
    """``content`` compressed, with a checksum: who reads a stick has nothing else to go by. gzip
    always has one, zstd only where it is asked for.
    """
    if upstream.compression == "zstd":
        return zstd.compress(content, options=_CHECKED)
    return compressed(content, upstream.compression)


def _put_together(rows: list[dict[str, Any]]) -> None:
    """Of fields that are too many for columns, those that the fewest records have go into one."""
    counts = Counter(name for row in rows for name in row["fields"])
    most = max(CELLS_MAX // max(len(rows), 1), COLUMNS_MIN)
    if len(counts) <= most:
        return
    # Of several that are as frequent those that came first, so that it is the same each time.
    own = {name for name, _ in counts.most_common(most - 1)}
    further = FURTHER
    while further in counts:
        further += "_"
    for row in rows:
        fields = row["fields"]
        others = {name: value for name, value in fields.items() if name not in own}
        if others:
            row["fields"] = {name: fields[name] for name in fields if name in own}
            row["fields"][further] = others


def _row(record: Record, _: Block, identity: Identity) -> dict[str, Any]:
    shown = rendered(record, identity.agent_id, identity.epoch)
    row = {name: getattr(shown, name) for name in _OF_RECORD}
    # What has no form in text of its own gets the one that JSON gives it.
    fields = (
        shown.fields if is_plain(shown.fields) else msgspec.json.decode(json_bytes(shown.fields))
    )
    return {**row, "log": record.log, "fields": fields}


def _parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    kinds, out = Kinds(), io.BytesIO()
    kinds.look_at(rows)
    with columnar_writer(out, "parquet", kinds, COLUMNS) as writer:
        writer.write(list(rows))
    return out.getvalue()
