"""A file's content from records: NDJSON with everything in it, CSV and Parquet for other programs.

CSV and Parquet have a row for each record: ``id``, ``agent``, ``log``, ``seq``, ``stream``,
``time``, ``source``, ``time_quality``, then a column for each field that a record of this file has.
The same records give the same bytes; those of a Parquet file as long as pyarrow stays the same.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from edge_agent.columnar import Kinds, columnar_writer
from edge_agent.config import Upstream
from edge_agent.csv_rows import field_names, write_csv
from edge_agent.forward.sinks.file.lines import Carried, encode_lines, is_plain
from edge_agent.forward.sinks.http.body import compressed, json_bytes, rendered
from edge_agent.printable import cells_problem
from edge_agent.record import Record
from edge_agent.store import Block, Identity

COLUMNS: Final = ("id", "agent", "log", "seq", "stream", "time", "source", "time_quality")
_OF_RECORD: Final = tuple(name for name in COLUMNS if name != "log")
#: Cells of one file: four times what a batch of the largest size can fill. A batch of more goes out
#: in several files, as one does of which a record cannot be said.
CELLS_MAX: Final = 2_000_000
_PACKED: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}


def packed_suffix(upstream: Upstream) -> str:
    """What a name ends with where the content is compressed; Parquet is within itself."""
    return "" if upstream.format == "parquet" else _PACKED[upstream.compression]


def encode_file(given: Sequence[Carried], upstream: Upstream, identity: Identity) -> bytes:
    """The file's bytes.

    Raises:
        TypeError, ValueError, OverflowError: a record holds something that cannot be said, or
            their fields are so different that the table would be nearly empty.
        NotColumnar: pyarrow is missing.
    """
    if upstream.format == "ndjson":
        return compressed(encode_lines(given, identity), upstream.compression)
    rows = [_row(*one, identity) for one in given]
    if upstream.format == "parquet":
        return _parquet(rows)
    names, text = field_names(rows), io.StringIO()
    _check_cells(len(rows), len(names))
    write_csv(rows, names, text, heading=True, own=COLUMNS)
    return compressed(text.getvalue().encode(), upstream.compression)


def _check_cells(rows: int, columns: int) -> None:
    if problem := cells_problem(rows, columns, CELLS_MAX):
        raise ValueError(problem)


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
    _check_cells(len(rows), len(list(kinds.items())))
    with columnar_writer(out, "parquet", kinds, COLUMNS) as writer:
        writer.write(list(rows))
    return out.getvalue()
