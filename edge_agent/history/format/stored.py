"""This module says how values lie in history's file, and what the file says about itself.

It knows nothing of the store, so that the process that answers questions need not load it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import lmdb
import msgspec
from msgspec import Struct

from edge_agent.errors import StoreDamaged
from edge_agent.history.keys import META
from edge_agent.seal import OPEN, KeyRing

#: 2: days are joined into months. What 1 has is read, and joined as it is met.
HISTORY_FORMAT = 2
_FORMATS = (1, HISTORY_FORMAT)
_CRC_BYTES = 4
#: What values are sealed for, and their key.
_PLACE = b"history"


class HistoryHeader(Struct, array_like=True, frozen=True):
    """What history says about itself, as of its last flush.

    ``store_id`` and ``epoch`` are of the store that it digests; ``positions`` are by log;
    ``flushes`` counts them. ``missed`` records were trimmed or damaged before they were digested,
    or of a stream too many.
    """

    format: int
    store_id: str
    epoch: str
    positions: dict[str, int]
    flushes: int
    records: int
    missed: int
    #: Buckets of days up to this one have hours of their own.
    hours_until: int
    #: Ids of the keys that parts and names may be sealed with.
    seals: tuple[bytes, ...] = ()


_HEADER = msgspec.msgpack.Decoder(HistoryHeader)


def read_header(txn: lmdb.Transaction[memoryview]) -> HistoryHeader:
    """What history says about itself. Raises StoreDamaged."""
    raw = txn.get(META)
    if raw is None:
        raise StoreDamaged("it has no header")
    return decode_header(raw)


def decode_header(raw: memoryview) -> HistoryHeader:
    """The header as it is stored. Raises StoreDamaged."""
    try:
        header = _HEADER.decode(checked(META, raw))
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"its header cannot be read: {error}") from error
    if header.format not in _FORMATS:
        raise StoreDamaged(
            f"its format is {header.format}, this version reads up to {HISTORY_FORMAT}"
        )
    return header


def scan(
    txn: lmdb.Transaction[memoryview], begin: bytes, end: bytes = b""
) -> Iterator[tuple[bytes, memoryview]]:
    """Keys from ``begin`` up to ``end`` (or all that begin so), with their values as stored."""
    cursor = txn.cursor()
    if not cursor.set_range(begin):
        return
    for view, raw in cursor:
        key = bytes(view)
        if (key >= end) if end else not key.startswith(begin):
            return
        yield key, raw


def to_store(key: bytes, value: bytes, seals: KeyRing = OPEN) -> bytes:
    """A value as it is stored: sealed where ``seals`` do, and with its checksum."""
    value = seals.sealed(_PLACE + key, value)
    return value + zlib.crc32(value, zlib.crc32(key)).to_bytes(_CRC_BYTES, "big")


def read_value(key: bytes, raw: memoryview, seals: KeyRing = OPEN) -> bytes:
    """The value that was stored. Raises StoreDamaged where its checksum is wrong, or where none of
    ``seals`` opens it.
    """
    return seals.opened(_PLACE + key, checked(key, raw))


def checked(key: bytes, raw: memoryview) -> memoryview:
    """A stored value, sealed or not, without its checksum. Raises StoreDamaged if that is wrong."""
    value = raw[:-_CRC_BYTES]
    found = zlib.crc32(value, zlib.crc32(key))
    if len(raw) < _CRC_BYTES or found != int.from_bytes(raw[-_CRC_BYTES:], "big"):
        raise StoreDamaged("a part of history fails its checksum")
    return value
