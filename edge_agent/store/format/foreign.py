"""This module checks a peer's payload before it is stored as it came, and renames its streams.

Where the microseconds go, for a block of 2,800 records of 71 bytes that arrived as 28 messages
(200 KB, 19 KB as stored): 87 decompressing, 106 for msgspec to step over every record, 13 for the
runs. They must: a payload that is not one would be found out by each reader instead, and a block
that has fewer records than it claims would shift the numbers of all behind it. A block of 10
records takes 10, of which 7 are zstd's context, which its binding makes anew for each frame.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.store.format.codec import RAW, decompress
from edge_agent.store.format.payload import RAW_BYTES_MAX, heads_of, join_runs, raw_runs
from edge_agent.store.format.record_maps import array_count
from edge_agent.values.record import ForeignBlock
from edge_agent.values.stream_names import stream_problem


def check_payload(codec: int, raw_len: int, payload: bytes, count: int) -> set[str]:
    """Whether a payload from a peer may be stored as it came; its streams, as its origin calls
    them.

    Checks the length it claims, that it decompresses to just that, its structure, its number of
    records, names of streams and that offsets rise. Records themselves are not decoded: a reader
    bears with a map that it cannot understand.

    Raises:
        ProtocolError: ``bad_block``, with the reason.
    """
    try:
        if not 0 < raw_len <= RAW_BYTES_MAX:
            raise StoreDamaged(f"a block of {raw_len} bytes; the limit is {RAW_BYTES_MAX}")
        found = offset = 0
        streams = set()
        for head in heads_of(decompress(codec, payload, raw_len)):
            streams.add(head.stream)
            records = array_count(head.records)
            if records == 0 or head.offset < offset or not 0 <= head.arrival_ns < 2**63:
                raise StoreDamaged("a run without records, out of order or without a time")
            offset = head.offset + records
            found += records
        for stream in streams:
            problem = stream_problem(stream.removeprefix("$"))
            if problem is not None:
                raise StoreDamaged(problem)
        if found != count:
            raise StoreDamaged(f"a block that claims {count} records has {found}")
        return streams
    except StoreDamaged as error:
        raise ProtocolError("bad_block", str(error), 1007) from error


def without_streams(block: ForeignBlock, keep: Callable[[str], bool]) -> ForeignBlock | None:
    """A checked block with those of its streams alone, as its origin calls them, that ``keep``
    wants; None where nothing is left.
    """
    raw = decompress(block.codec, block.payload, block.raw_len)
    kept = [
        (array_count(head.records), piece)
        for head, piece in zip(heads_of(raw), raw_runs(raw), strict=True)
        if keep(head.stream)
    ]
    if not kept:
        return None
    payload = join_runs([piece for _, piece in kept])
    count = sum(count for count, _ in kept)
    return structs.replace(block, count=count, codec=RAW, raw_len=len(payload), payload=payload)


def foreign_stream(stream: str, agent: str) -> str:
    """What another agent's own stream ``$x`` is called here."""
    if not stream.startswith("$") or stream.startswith("$agents/"):
        return stream
    return f"$agents/{agent}/{stream[1:]}"
