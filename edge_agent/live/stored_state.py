"""A rule's memory as the bytes that are stored with its position.

A state is rewritten whole at each commit that holds something of its rule's, so it is compressed:
field names and times repeat themselves, and it becomes a third or less. What has many numbers packs
like ones beside one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from edge_agent.store import STATE_BYTES_MAX
from edge_agent.zstd import zstd

#: What zstd's frames begin with; no state of a version that did not compress does.
_MAGIC = b"\x28\xb5\x2f\xfd"
_LEVEL = 1


def pack_state(values: Callable[[], object], make_smaller: Callable[[], None]) -> bytes:
    """``values()`` as at most `STATE_BYTES_MAX` bytes; ``make_smaller`` is called until it fits."""
    while len(state := zstd.compress(msgpack.packb(values()), _LEVEL)) > STATE_BYTES_MAX:
        make_smaller()
    return state


def unpack_state(state: bytes) -> Any:
    """What `pack_state` was given, lists in the place of tuples."""
    if state.startswith(_MAGIC):
        state = zstd.decompress(state)
    return msgpack.unpackb(state, strict_map_key=False)
