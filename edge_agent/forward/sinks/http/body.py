"""This module makes the body of an HTTP request from a batch.

A record reads as everywhere (docs/http-api.md) plus its stable id, by which the other side
recognises repeats for good::

    {"id": "5f0c…/main/4711", "agent": "9b1d…", "seq": 4711, "stream": "greenhouse/2",
     "time": "2026-11-22T10:00:00.25Z", "source": "pi-7/bme280", "fields": {"t": 21.7},
     "time_quality": "sensor"}

``time_quality`` is how far the time can be trusted (`edge_agent.record.TimeTrust`): what is sent as
``unsynced`` was stored while a clock was not set and what it was off by was not known when the
batch was planned. ``id`` is EPOCH/LOG/SEQ of the agent that stored the record first, ``agent`` is
that agent's id, ``seq`` the position in this agent's log. JSON has no bytes and no NaN: bytes
become base64, NaN and infinities null. In msgpack everything stays as it is, and the body is one
array.

An aggregate that a full log made of its oldest records (source ``$thin/…``) has the id of the last
of them and ``/thinned-CHECKSUM`` behind it: that record may have been sent before, by us or another
agent, and so may another aggregate that ends with it. No id ever stands for two contents.

As ``cloudevents`` the body is a batch of CloudEvents 1.0 in JSON, ``id`` as above::

    {"specversion": "1.0", "id": "5f0c…/main/4711", "source": "urn:edge-agent:9b1d…",
     "type": "edge-agent.record", "subject": "greenhouse/2", "time": "2026-11-22T10:00:00.25Z",
     "datacontenttype": "application/json", "sender": "pi-7/bme280", "timequality": "sensor",
     "data": {"t": 21.7}}

The same records give the same bytes, always: an ``Idempotency-Key`` stands for bytes.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec

from edge_agent.aggregates import THINNED_SOURCE
from edge_agent.config import Format
from edge_agent.record import Record, TimeTrust, format_time
from edge_agent.zstd import zstd

Compression = Literal["none", "gzip", "zstd"]

#: Counts changes of what a body looks like: the same key must not stand for other bytes.
RENDERING = 2
CONTENT_TYPES: dict[Format, str] = {
    "msgpack": "application/msgpack",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "cloudevents": "application/cloudevents-batch+json",
}
#: Of every event.
EVENT_TYPE: Final = "edge-agent.record"
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


class RenderedRecord(msgspec.Struct, frozen=True, gc=False):
    """What the upstream sees; the order of the fields is the order in the text."""

    id: str
    agent: str
    seq: int
    stream: str
    time: str
    source: str
    fields: dict[str, Any]
    time_quality: TimeTrust


class CloudEvent(msgspec.Struct, frozen=True, gc=False):
    """The same as an event; names of attributes have small letters alone."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    sender: str
    timequality: TimeTrust
    data: dict[str, Any]


def _strange(value: object) -> object:
    # msgpack extension types that nobody here knows: their bytes, and what they were called.
    if isinstance(value, msgspec.msgpack.Ext):
        return {"ext": value.code, "data": bytes(value.data)}
    raise TypeError(f"a {type(value).__name__} cannot be rendered")


_json = msgspec.json.Encoder(enc_hook=_strange)
_msgpack = msgspec.msgpack.Encoder(enc_hook=_strange)
json_bytes = _json.encode
json_lines = _json.encode_lines


def rendered(record: Record, agent: str, epoch: str) -> RenderedRecord:
    """One record; ``agent`` and ``epoch`` are ours, for records that were stored here first."""
    if record.origin:
        place = f"{record.origin_epoch}/{record.origin_log}/{record.origin_seq}"
    else:
        place = f"{epoch}/{record.log}/{record.seq}"
    if record.source.startswith(THINNED_SOURCE):
        place += f"/thinned-{blake2b(repr(record.fields).encode(), digest_size=8).hexdigest()}"
    return RenderedRecord(
        place,
        record.origin or agent,
        record.seq,
        record.stream,
        format_time(record.time_ns),
        record.source,
        record.fields,
        record.time_quality,
    )


def encode_body(records: Sequence[RenderedRecord], how: Format, compression: Compression) -> bytes:
    """The body; the same records give the same bytes.

    Raises:
        TypeError, ValueError, OverflowError: a record holds something the format cannot say.
    """
    if how == "msgpack":
        body = _msgpack.encode(records)
    elif how == "json":
        body = _json.encode(records)
    elif how == "cloudevents":
        body = _json.encode([_event(record) for record in records])
    else:
        body = _json.encode_lines(records)
    return compressed(body, compression)


def compressed(body: bytes, compression: Compression) -> bytes:
    """``body`` as it is sent; the same bytes give the same bytes."""
    if compression == "gzip":
        # Without mtime the header would hold the time of day.
        return gzip.compress(body, _GZIP_LEVEL, mtime=0)
    if compression == "zstd":
        return zstd.compress(body, _ZSTD_LEVEL)
    return body


def _event(record: RenderedRecord) -> CloudEvent:
    return CloudEvent(
        "1.0",
        record.id,
        f"urn:edge-agent:{record.agent}",
        EVENT_TYPE,
        record.stream,
        record.time,
        "application/json",
        record.source,
        record.time_quality,
        record.fields,
    )
