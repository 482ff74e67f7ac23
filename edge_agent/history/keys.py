"""All keys of history's file, by their first byte; integers are big-endian.

Time comes before the series: what is written together lies together, so that a flush of a hundred
streams fills pages one after the other and writes none twice, and what is forgotten is one stretch
from the front. A question seeks once for each hour and stream, which takes 2 µs.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

META = b"\x00"
SERIES = b"\x01"
RAW, MINUTES, HOURS, MONTHS = 0x10, 0x11, 0x12, 0x13
LEVELS = (RAW, MINUTES, HOURS, MONTHS)

HOUR_NS = 3600 * 1_000_000_000
MINUTE_NS = 60 * 1_000_000_000
DAY_NS = 24 * HOUR_NS
#: Days in a month of history, whatever the calendar says.
MONTH_DAYS = 32
MONTH_NS = MONTH_DAYS * DAY_NS
#: What one bucket of each level spans.
BUCKET_NS = {RAW: HOUR_NS, MINUTES: HOUR_NS, HOURS: DAY_NS, MONTHS: MONTH_NS}
PARTS_MAX = 0xFFFF
SERIES_LAST = 0xFFFFFFFF
#: Bucket 0 is the one that begins in 1970; earlier ones come before it, too.
_ZERO = 1 << 31
_KEY = struct.Struct(">BIIH")
KEY_BYTES = _KEY.size
#: Level and bucket.
_BUCKET_BYTES = 5


class PartKey(NamedTuple):
    """Where a part of one stream's bucket is."""

    level: int
    bucket: int
    series: int
    part: int


def part_key(level: int, bucket: int, series: int, part: int) -> bytes:
    """The key in bytes."""
    return _KEY.pack(level, bucket + _ZERO, series, part)


def split_key(key: bytes) -> PartKey:
    """What `part_key` was given."""
    level, bucket, series, part = _KEY.unpack(key)
    return PartKey(level, bucket - _ZERO, series, part)


def bucket_key(level: int, bucket: int) -> bytes:
    """What all keys of a bucket are at or behind."""
    return _KEY.pack(level, min(max(bucket + _ZERO, 0), 2**32 - 1), 0, 0)


def bucket_of(key: bytes) -> bytes:
    """What the keys of one bucket of one level begin with, and no others."""
    return key[:_BUCKET_BYTES]


def series_key(number: int) -> bytes:
    """Where the name of a series is."""
    return SERIES + number.to_bytes(4, "big")


def series_of(key: bytes) -> int:
    """The number in the key of a name or of a part."""
    return int.from_bytes(key[1:], "big") if key[:1] == SERIES else split_key(key).series
