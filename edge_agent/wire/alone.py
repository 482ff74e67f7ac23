"""One usual record as a message of its own, as slow sensors send them: the short way."""

from __future__ import annotations

from edge_agent.errors import ProtocolError
from edge_agent.values.record import Run, resolve_time
from edge_agent.wire.encodings import (
    DECODE_ERRORS,
    JSON,
    MAP_HEADS,
    MSGPACK,
    USUAL_DEPTH,
    size_of,
    to_msgpack,
)
from edge_agent.wire.reading_types import Arrival, Received, WireLimits


def read_alone(
    data: str | bytes, number: int, arrival: Arrival, limits: WireLimits
) -> Received | None:
    """One message that is one usual record without a stream of its own, as slow sensors send
    them; None for all others.

    Does nothing that the `_MessageReader` does not, but without its objects: for one record they
    took three times as long as the record.
    """
    size = size_of(data)
    if size > limits.short_bytes:
        return None
    if limits.record_depth < USUAL_DEPTH:
        return None
    try:
        if type(data) is bytes:  # And no `LongText`.
            if data[:1] not in MAP_HEADS:
                return None
            record, body = MSGPACK.one(data), data
        elif data[:1] == "{":
            record = JSON.one(data)
            body = to_msgpack(record)
        else:
            return None
        if record.get("stream") is not None:
            return None
        if arrival.time_key is not None and arrival.time_key(arrival.stream) is not None:
            return None
        time_ns, _ = resolve_time(record.get("time"), arrival.wall_ns)
    except (*DECODE_ERRORS, ProtocolError):
        return None
    stream, source, wall_ns = arrival.stream, arrival.source, arrival.wall_ns
    run = Run(stream, source, number, wall_ns, arrival.synced, 1, body, time_ns, time_ns)
    return Received((run,), (), 1, size)
