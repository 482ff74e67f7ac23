"""The list of streams as ``/api/streams`` shows it, and last values as metrics.

A list of ten thousand streams with sparklines is megabytes, so that it is made and sent piece by
piece.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from edge_agent.ops.streams import Directory, Seen
from edge_agent.record import format_time

logger = logging.getLogger(__name__)

_PIECE_STREAMS = 250


def stream_pieces(directory: Directory, listing: Sequence[tuple[str, Seen]]) -> Iterator[bytes]:
    """The answer as JSON, in pieces."""
    yield b'{"streams":['
    for begin in range(0, len(listing), _PIECE_STREAMS):
        part = listing[begin : begin + _PIECE_STREAMS]
        told = (msgspec.json.encode(told_stream(directory, *one)) for one in part)
        yield (b"," if begin else b"") + b",".join(told)
    rest = {
        "since": directory.since,
        "skipped": directory.skipped,
        "forgotten": directory.forgotten,
    }
    yield b"]," + msgspec.json.encode(rest)[1:] + b"\n"


def told_stream(directory: Directory, name: str, seen: Seen) -> dict[str, Any]:
    """One stream as it is shown; what its newest record says is empty where it is not known."""
    last = directory.last_of(name)
    return {
        "stream": name,
        "log": seen.log,
        "records": seen.records,
        "last_seq": seen.last_seq,
        "last_stored": format_time(seen.stored_ns),
        "source": seen.source,
        "undated": seen.undated,
        "rate": round(directory.rate(seen), 3),
        "time": None if last is None else format_time(last.time_ns),
        "time_quality": None if last is None else last.trust,
        "last": {} if last is None else last.numbers,
        "spark_field": None if last is None else last.spark_field or None,
        "spark": [] if last is None else list(last.spark),
    }
