"""A record that an upstream refuses for good, as it is set aside in quarantine."""

from __future__ import annotations

import msgspec

from edge_agent.errors import SinkRefused
from edge_agent.store import Quarantined
from edge_agent.values.record import Record


def quarantined(
    record: Record, refusal: SinkRefused, *, consumer: str, log: str, now_ns: int
) -> Quarantined:
    """The entry of a record of ``log`` that the upstream of ``consumer`` refused."""
    reason = refusal.records.get(record.seq) or str(refusal)
    return Quarantined(
        code=f"upstream_{refusal.code}",
        reason=f"{consumer}: {reason}",
        stream=record.stream,
        source=record.source,
        number=record.source_seq,
        arrival_ns=now_ns,
        body=_body(record),
        consumer=consumer,
        log=log,
        seq=record.seq,
    )


def _body(record: Record) -> bytes:
    try:
        return msgspec.msgpack.encode(record.fields)
    except (TypeError, ValueError, OverflowError):
        return repr(record.fields).encode()
