"""Records as people and programs get them: JSON, lines of JSON, CSV.

A record reads (docs/http-api.md)::

    {"seq": 4711, "stream": "greenhouse/2", "time": "2026-11-22T10:00:00.25Z",
     "source": "pi-7/bme280", "fields": {"t": 21.7}}

and has, where they say something: ``log`` (unless it is ``main``), ``quality`` (whose clock gave
the time, unless it was the sensor's), ``time_quality`` (how far it can be trusted, likewise:
`edge_agent.values.record.TimeTrust`), ``synced: false`` (our clock was not set when it arrived),
and ``origin`` (the agent that first stored it, with epoch, log and seq: its name for good).

What JSON cannot say becomes what it can: bytes are base64 text, NaN and infinities null, moments
RFC 3339 text, msgpack extensions ``[code, base64]``.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from edge_agent.errors import ProtocolError
from edge_agent.output.printable import cells_problem, csv_text
from edge_agent.values.record import Record, format_time

#: Columns of a CSV in front of the fields.
CSV_COLUMNS = ("log", "seq", "stream", "time", "quality", "source", "time_quality")


def to_dict(record: Record) -> dict[str, Any]:
    """The record as shown above; ``fields`` is the record's own dict, not made fit for JSON."""
    shown: dict[str, Any] = {
        "seq": record.seq,
        "stream": record.stream,
        "time": format_time(record.time_ns),
        "source": record.source,
        "fields": record.fields,
    }
    if record.log != "main":
        shown["log"] = record.log
    if record.quality != "sensor":
        shown["quality"] = record.quality
        shown["time_quality"] = record.time_quality
    if not record.synced:
        shown["synced"] = False
    if record.origin:
        shown["origin"] = {
            "agent": record.origin,
            "epoch": record.origin_epoch,
            "log": record.origin_log,
            "seq": record.origin_seq,
        }
    return shown


def to_json(record: Record, count: int | None = None) -> bytes:
    """One record as one JSON object without line breaks; ``count`` is how many it stands for, where
    it was asked for with a step.
    """
    shown = to_dict(record)
    if count is not None:
        shown["count"] = count
    return encode_json(shown)


def to_ndjson(records: Iterable[Record]) -> bytes:
    """One JSON object per line, the last one ended too."""
    return b"".join(to_json(record) + b"\n" for record in records)


def to_csv(records: Sequence[Record]) -> bytes:
    """RFC 4180 with a heading: `CSV_COLUMNS`, then each field in order of first appearance.

    Maps and arrays are JSON in their cell. A field named like one of our own columns is called
    ``field.NAME``. Text is on one line and no formula (`csv_text`).

    Raises:
        ProtocolError: ``too_long``, they are too many cells (`cells_problem`).
    """
    columns: dict[str, str] = {}
    for record in records:
        for name in record.fields:
            if name not in columns:
                columns[name] = f"field.{name}" if name in CSV_COLUMNS else csv_text(name)
    if problem := cells_problem(len(records), len(columns)):
        raise ProtocolError(
            "too_long", f"{problem}: ask for one stream, for fewer records (limit), or as ndjson"
        )
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow((*CSV_COLUMNS, *columns.values()))
    for record in records:
        fields = record.fields
        own = (
            record.log,
            record.seq,
            record.stream,
            format_time(record.time_ns),
            record.quality,
            record.source,
            record.time_quality,
        )
        writer.writerow([cell_of(one) for one in (*own, *map(fields.get, columns))])
    return target.getvalue().encode()


def encode_json(value: object) -> bytes:
    """Any value made of what records may hold, as JSON."""
    try:
        return msgspec.json.encode(value, enc_hook=_encode_odd)
    except (TypeError, ValueError, RecursionError):
        # Keys that JSON cannot have, deep inside a foreign record: make them text, slowly.
        return msgspec.json.encode(_made_fit(value), enc_hook=_encode_odd)


def cell_of(value: object) -> object:
    """What a CSV shows of a value."""
    if isinstance(value, str):
        return csv_text(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    text = encode_json(value).decode()
    if isinstance(value, datetime):
        return text.strip('"')
    return "" if text == "null" else text


def _encode_odd(value: object) -> object:
    if isinstance(value, msgspec.msgpack.Ext):
        return [value.code, base64.b64encode(bytes(value.data)).decode()]
    return str(value)


def _made_fit(value: object) -> object:
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(key): _made_fit(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_made_fit(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value
