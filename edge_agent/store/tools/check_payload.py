"""This module reads payloads for the checker, with as little of the writer's code as possible."""

from __future__ import annotations

from typing import Any

import msgpack

from edge_agent.zstd import zstd


def _runs(payload: bytes, codec: int) -> tuple[int, list[Any]]:
    """Its length once decompressed, and its runs."""
    raw = zstd.decompress(payload) if codec else payload
    return len(raw), msgpack.unpackb(
        raw, strict_map_key=False, unicode_errors="replace", timestamp=0
    )


def payload_problem(payload: bytes, codec: int, raw_len: int, count: int) -> str | None:
    """What is wrong with a block's runs. Raises what zstd and msgpack raise."""
    size, runs = _runs(payload, codec)
    if codec > 1 or size != raw_len:
        return f"it has {size} bytes, not {raw_len}"
    found = offset = 0
    for stream, source, source_seq, arrival_ns, synced, begin, records in runs:
        kinds = (stream, source, source_seq, arrival_ns, synced, begin)
        if [type(kind) for kind in kinds] != [str, str, int, int, bool, int]:
            return f"a run begins with {kinds}"
        if begin < offset or not records or not all(isinstance(map_, dict) for map_ in records):
            return f"the run at offset {begin} is empty, out of order or holds no maps"
        found += len(records)
        offset = begin + len(records)
    return None if found == count else f"{found} records, the header says {count}"


def thinned_problem(payload: bytes, codec: int, covers: int, *, own: bool) -> str | None:
    """What is wrong with the records of a thinned block: those that aggregates say they stand for
    and those kept make up all that it covers, and of our own each is where it was. An aggregate
    that another agent has made may stand for more, one that was erased stands for less.
    """
    total, place, erased = 0, -1, 0
    for stream, source, _, _, _, begin, records in _runs(payload, codec)[1]:
        erased += stream == "$erased"
        is_aggregate = source.startswith("$thin/")
        counts = [record["records"] if is_aggregate else 1 for record in records]
        total += sum(counts)
        if own and (begin <= place or begin + len(records) > covers):
            return f"the record at {begin} is out of place"
        place = begin + len(records) - 1
    if (own and total > covers) or (total < covers and not erased):
        return f"its records stand for {total}, the header says {covers}"
    return None


def occupied(value_bytes: int, page_bytes: int) -> int:
    """What a value counts for: whole pages where it is longer than half of one, else double."""
    if value_bytes + 24 > page_bytes // 2:
        return -(-(value_bytes + 16) // page_bytes) * page_bytes
    return 2 * (value_bytes + 24)
