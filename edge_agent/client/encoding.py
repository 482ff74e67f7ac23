"""A sensor's values in, encoded records and messages out.

Each record is encoded once, at ``send``, and kept in that form until it is acked; a message is
made by joining encoded records, so that a resend costs no second encoding. A scalar becomes the
record ``{"value": …}`` here, which lets it stand in a batch and take a time or a stream.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgpack

from edge_agent.errors import ProtocolError
from edge_agent.stream_names import stream_problem

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
        return _to_json(record).encode() if form == "json" else encoded
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError("bad_record", f"the record cannot be encoded: {error}") from error


def _plain(value: object) -> object:
    """A value that neither encoding has, as text or a list."""
    if isinstance(value, datetime):
        text = value.isoformat()
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode()
    raise TypeError(f"a record has no place for {_kind(value)}")


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode


def _kind(value: object) -> str:
    return type(value).__name__
