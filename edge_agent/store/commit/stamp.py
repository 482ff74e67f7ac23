"""All write transactions begin here, so that each of them leaves its number in the tree.

LMDB keeps the last two roots, each with the number of the commit that wrote it, and opens the one
with the higher number. Nothing guards that number: one flipped bit, and the older root is used,
which quietly takes back a commit that was acked. So the number is written a second time, under a
checksum of ours and within the tree that the root leads to. `meta_pages` compares the two.

A counter outside the file would need a sync of its own for each commit. This one costs no page,
since it lies in the leaf of the store's other small values, and 2 µs of some hundred: a value of
nine bytes, its checksum, one put. It cannot be ahead of its root or behind it, as a counter beside
the file would be after a power cut: it is durable by the same sync as the tree, and counts only
once a root leads to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import lmdb

from edge_agent.errors import StoreDamaged
from edge_agent.store.format import keys

_CRC_OF_KEY = zlib.crc32(keys.STAMP)
#: msgpack's array of one u64.
_HEAD = b"\x91\xcf"
_BYTES = len(_HEAD) + 8 + 4


@contextmanager
def writing(env: lmdb.Environment) -> Iterator[lmdb.Transaction[bytes]]:
    """A write transaction that is stamped; committed and synced on leaving, unless by an exception.

    Raises what lmdb raises.
    """
    with env.begin(write=True) as txn:
        yield txn
        txn.put(keys.STAMP, encode_stamp(txn.id()))


def encode_stamp(number: int) -> bytes:
    """The value under `keys.STAMP` in the transaction with that number."""
    raw = _HEAD + number.to_bytes(8, "big")
    return raw + zlib.crc32(raw, _CRC_OF_KEY).to_bytes(4, "big")


def decode_stamp(value: bytes) -> int:
    """The transaction's number. Raises StoreDamaged."""
    if len(value) < _BYTES or encode_stamp(int.from_bytes(value[2:10], "big")) != value:
        raise StoreDamaged("the stamp of the last commit fails its checksum")
    return int.from_bytes(value[2:10], "big")
