r"""This module renders records as rows for PostgreSQL's binary COPY. Pure.

A row's key is ``(epoch, log, seq, variant)``: the record's place in the log of the agent that
stored it first, and for an aggregate that a full log made of its oldest records a checksum, as that
record may have been sent before. ``time`` has microseconds, as PostgreSQL does, rounded down;
``time_ns`` is exact. In ``fields`` bytes are base64, NaN and infinities null, as JSON has neither.

A text with the character 0 cannot be stored: its record is refused here, before the server refuses
all of the batch for it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from edge_agent.errors import SinkRefused
from edge_agent.forward.run_columns import UNSAYABLE
from edge_agent.forward.sinks.http.body import strange
from edge_agent.values.aggregates import THINNED_SOURCE
from edge_agent.values.record import Record

#: In the order of a row; the names and types of the table.
COLUMNS: Final = {
    "agent": "text",
    "epoch": "text",
    "log": "text",
    "variant": "text",
    "stream": "text",
    "source": "text",
    "time_quality": "text",
    "seq": "bigint",
    "time": "timestamptz",
    "time_ns": "bigint",
    "fields": "jsonb",
}
#: Of the header of a COPY: no flags, nothing more.
_HEAD: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_pack: Final = struct.Struct(">iqiqiqiB").pack
_JSONB_VERSION: Final = 1
#: 2000-01-01 in microseconds since 1970: where PostgreSQL counts from.
_YEAR_2000_US: Final = 946_684_800_000_000
_HEADS_MAX: Final = 1000
_CHUNK: Final = 1000
#: The character 0 in JSON: its escape, unless the backslash is one that was escaped itself.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_json: Final = msgspec.json.Encoder(enc_hook=strange)


class RenderedRows(NamedTuple):
    """What a batch became: ``number`` rows as a COPY takes them, and the records that cannot be
    stored, by seq with the reason.
    """

    number: int
    body: bytes
    refused: dict[int, str]

    def raise_refused(self) -> None:
        """Raises SinkRefused where there are records that cannot be stored."""
        if self.refused:
            first, reason = next(iter(self.refused.items()))
            raise SinkRefused(f"record {first}: {reason}", records=self.refused)


def render_rows(records: Iterable[Record], agent: str, epoch: str) -> RenderedRows:
    """All of them; ``agent`` and ``epoch`` are ours, for records that were stored here first."""
    pieces, refused, remaining = [_HEAD], dict[int, str](), iter(records)
    heads: dict[tuple[str, ...], bytes] = {}
    while chunk := list(islice(remaining, _CHUNK)):
        for record, fields in zip(chunk, _encoded(chunk, refused), strict=True):
            if fields is None:
                continue
            kind = (
                *(record.stream, record.source, record.time_quality),
                *(record.origin, record.origin_epoch, record.origin_log, record.log),
            )
            head = heads.get(kind)
            if head is None:
                head = _row_head(record, agent, epoch)
                if len(heads) < _HEADS_MAX and not record.source.startswith(THINNED_SOURCE):
                    heads[kind] = head
            seq = record.origin_seq if record.origin else record.seq
            time_ns = record.time_ns
            time_us, size = time_ns // 1000 - _YEAR_2000_US, len(fields) + 1
            pieces += head, _pack(8, seq, 8, time_us, 8, time_ns, size, _JSONB_VERSION), fields
    number = len(pieces) // 3
    return RenderedRows(number, b"".join((*pieces, _END)), refused)


def _encoded(chunk: Sequence[Record], refused: dict[int, str]) -> Sequence[bytes | None]:
    """The fields of each as JSON; None for what goes to ``refused``."""
    try:
        # For all of them at once it takes half as long.
        text = _json.encode_lines([record.fields for record in chunk])
    except UNSAYABLE:
        text = b"\\u0000"
    if b"\\u0000" not in text:
        return text.split(b"\n")[:-1]
    return [_encoded_alone(record, refused) for record in chunk]


def _encoded_alone(record: Record, refused: dict[int, str]) -> bytes | None:
    try:
        fields = _json.encode(record.fields)
    except UNSAYABLE as error:
        refused[record.seq] = f"cannot be written as JSON: {error}"
        return None
    if _NUL.search(fields):
        refused[record.seq] = "a text with the character 0, which PostgreSQL cannot store"
        return None
    return fields


def _row_head(record: Record, agent: str, epoch: str) -> bytes:
    """The number of columns, and those that are text."""
    place = (record.origin_epoch, record.origin_log) if record.origin else (epoch, record.log)
    variant = ""
    if record.source.startswith(THINNED_SOURCE):
        variant = f"thinned-{blake2b(repr(record.fields).encode(), digest_size=8).hexdigest()}"
    kind = (record.stream, record.source, record.time_quality)
    encoded = [text.encode() for text in (record.origin or agent, *place, variant, *kind)]
    parts = (struct.pack(">i", len(one)) + one for one in encoded)
    return struct.pack(">h", len(COLUMNS)) + b"".join(parts)
