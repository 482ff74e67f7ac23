"""A sensor's values in, encoded records and messages out.

Each record is encoded once, at ``send``, and kept in that form until it is acked; a message is
made by joining encoded records, so that a resend costs no second encoding. A scalar becomes the
record ``{"value": …}`` here, which lets it stand in a batch and take a time or a stream.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgpack

from edge_agent.errors import ProtocolError
from edge_agent.values.stream_names import stream_problem

Format = Literal["msgpack", "json"]
#: What a sensor may hand over: a record's fields, or one value.
Fields = Mapping[str, Any] | float | str | bool
Time = datetime | float | str


def encode_record(
    fields: Fields, form: Format, *, stream: str | None = None, time: Time | None = None
) -> bytes:
    """One record, encoded.

    Args:
        fields: text keys; values that JSON or msgpack can hold. Not changed.
        form: what the session speaks.
        stream: overrides the stream of the URL.
        time: when it was measured; replaces a ``time`` key.

    Raises:
        ProtocolError: ``bad_record``, ``bad_time`` (a time without a zone) or ``bad_stream``;
            nothing that this catches needs a connection to be found out.
    """
    if isinstance(fields, Mapping):
        record: Mapping[str, Any] = fields
        moment = fields.get("time") if time is None else time
    elif isinstance(fields, (int, float, str)):
        record, moment = {"value": fields}, time
    else:
        raise ProtocolError(
            "bad_record", f"a record is a map or a number, text or bool, not {_kind(fields)}"
        )
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise ProtocolError("bad_time", f"time: {moment.isoformat()} has no time zone")
    if stream is not None:
        problem = stream_problem(stream)
        if problem is not None:
            raise ProtocolError("bad_stream", problem)
    if time is not None or stream is not None:
        record = dict(record)
        if time is not None:
            record["time"] = time
        if stream is not None:
            record["stream"] = stream
    return _encode(record, form)


def encode_message(records: Sequence[bytes], form: Format) -> str | bytes:
    """The message that carries ``records`` (at least one): alone as it is, several as an array."""
    if form == "json":
        if len(records) == 1:
            return records[0].decode()
        return "[" + b",".join(records).decode() + "]"
    if len(records) == 1:
        return records[0]
    return msgpack.Packer().pack_array_header(len(records)) + b"".join(records)


def joining_bytes(count: int, form: Format) -> int:
    """At most how many bytes a message of ``count`` records has beside theirs."""
    return count + 1 if form == "json" else 5


def _encode(record: Mapping[str, Any], form: Format) -> bytes:
    try:
        if type(record) is not dict:
            record = dict(record)
        for key in record:
            if type(key) is not str:
                raise ProtocolError("bad_record", f"a record's keys are text, not {_kind(key)}")
        # Also before JSON: it refuses what only JSON could say, such as numbers beyond 64 bits.
        encoded = msgpack.packb(record, datetime=True, default=_plain)
        return _json(record).encode() if form == "json" else encoded
    except (TypeError, ValueError, OverflowError, RecursionError, BufferError) as error:
        raise ProtocolError("bad_record", f"the record cannot be encoded: {error}") from error


def _json(record: dict[str, Any]) -> str:
    try:
        return _to_json(record)
    except (TypeError, ValueError):
        # JSON has neither NaN nor keys that are no text; they are rare, and not looked for.
        return _to_json(_for_json(record))


def _for_json(value: object) -> object:
    """A value with null for NaN and the infinities, and text for keys, as JSON has them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            key if key is None or isinstance(key, (str, int, float)) else _plain(key): _for_json(
                each
            )
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_for_json(each) for each in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _for_json(_plain(value))


def _plain(value: object) -> object:
    """A value that neither encoding has, as text, a list or a map."""
    if isinstance(value, datetime) and (value.utcoffset() or _MINUTE) % _MINUTE:
        # No time of ours has a zone with seconds.
        value = value.astimezone(UTC)
    if isinstance(value, (date, time)):
        text = value.isoformat()
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in fields(value))
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, int):
        raise OverflowError("a whole number has at most 64 bits")
    raise TypeError(f"a record has no place for {_kind(value)}")


def _duration(value: timedelta) -> str:
    """A length of time as ISO 8601 writes it: P1DT2.5S."""
    size = abs(value)
    seconds = f"{size.seconds}.{size.microseconds:06}".rstrip("0").rstrip(".")
    days = f"{size.days}D" if size.days or seconds == "0" else ""
    sign = "-" if value != size else ""
    return f"{sign}P{days}" + ("" if seconds == "0" else f"T{seconds}S")


_MINUTE = timedelta(minutes=1)
_to_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
).encode


def _kind(value: object) -> str:
    return type(value).__name__
