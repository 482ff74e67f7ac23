"""Writes a new file of history: empty, as a copy, or of what was read back of a damaged one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import lmdb
import msgspec

from edge_agent.history import HistoryHeader, to_store
from edge_agent.history.keys import META, SERIES, series_of
from edge_agent.store import open_environment, sync_folder, writing

#: Values that one transaction writes.
_BATCH = 2000
_ENCODER = msgspec.msgpack.Encoder()


def write_new(
    target: Path,
    map_size: int,
    header: HistoryHeader,
    values: Iterable[tuple[bytes, bytes]] = (),
    *,
    clean: bool = True,
) -> tuple[int, int]:
    """Write ``header`` and ``values``, as they are stored and names first, into a file in the new
    folder ``target``, synced; how many parts were written, and how many left out. That are those of
    a stream without a name: nobody can say whose they are, and its number may become another
    stream's. ``clean`` is as for `edge_agent.store.open_environment`.

    Raises:
        OSError, lmdb.Error: the disk refuses.
    """
    target.mkdir(mode=0o700)
    env = open_environment(target, map_size, clean=clean)
    named = set[int]()
    written = left_out = 0
    try:
        waiting = [(META, to_store(META, _ENCODER.encode(header)))]
        for key, raw in values:
            if key[:1] == SERIES:
                named.add(series_of(key))
            elif series_of(key) not in named:
                left_out += 1
                continue
            else:
                written += 1
            waiting.append((key, raw))
            if len(waiting) >= _BATCH:
                _put(env, waiting)
                waiting = []
        _put(env, waiting)
    finally:
        env.close()
    sync_folder(target)
    return written, left_out


def _put(env: lmdb.Environment, values: list[tuple[bytes, bytes]]) -> None:
    with writing(env) as txn:
        for key, value in values:
            txn.put(key, value)
