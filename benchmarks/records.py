"""The seeded generator: what every benchmark sends.

Each record is a msgpack map of 71 bytes: ``time`` and four fields that drift as real sensors do
(a slow wave and a random walk), all doubles. `DISTINCT` of them are made once and then cycled.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, islice, repeat

import msgpack
import msgspec

DISTINCT = 100_000
RECORD_BYTES = 71
START_S = 1_790_000_000.0


@lru_cache(maxsize=2)
def encoded_records(seed: int = 1, distinct: int = DISTINCT) -> tuple[bytes, ...]:
    """``distinct`` different records, encoded; the same for the same seed."""
    source = random.Random(seed)
    temp, humi, pres, batt = 20.0, 50.0, 1013.0, 4.1
    packer = msgpack.Packer()
    found = []
    for index in range(distinct):
        wave = math.sin(index / 500)
        temp += source.gauss(0, 0.02)
        humi += source.gauss(0, 0.05)
        pres += source.gauss(0, 0.03)
        batt -= 0.000001
        found.append(
            packer.pack(
                {
                    # No sensor is punctual to the microsecond, and a clock that seems to be would
                    # compress twice as well.
                    "time": round(START_S + index * 0.1 + source.uniform(0, 0.02), 6),
                    "temp": round(temp + 4 * wave, 2),
                    "humi": round(humi - 9 * wave, 1),
                    "pres": round(pres, 1),
                    "batt": round(batt, 3),
                }
            )
        )
    assert all(len(record) == RECORD_BYTES for record in found)
    return tuple(found)


def messages(
    count: int, batch: int, seed: int = 1, *, text: bool = False, start: int = 0
) -> list[bytes]:
    """Payloads that hold ``count`` records in all, from record ``start`` of the cycle on.

    With ``batch`` records in each; a batch of 1 is a bare map, more are an array. ``text`` gives
    JSON instead of msgpack.
    """
    if DISTINCT % batch or start % batch:
        raise ValueError(f"batches of {batch} do not fit a cycle of {DISTINCT} from {start}")
    records = _needed(seed, start + count)
    whole, rest = divmod(count, batch)
    found = repeated(_cycle(records, batch, text), start // batch, whole)
    if rest:
        last = repeated(records, start + whole * batch, rest)
        found.append(_payload(last, text, array=batch > 1))
    return found


def checksum(count: int, seed: int = 1, *, start: int = 0) -> int:
    """CRC-32 of the same records as msgpack, joined."""
    records = _needed(seed, start + count)
    crc = 0
    for done in range(0, count, DISTINCT):
        part = repeated(records, start + done, min(DISTINCT, count - done))
        crc = zlib.crc32(b"".join(part), crc)
    return crc


def _needed(seed: int, end: int) -> tuple[bytes, ...]:
    """The cycle, or as many of its tenths as hold ``end`` records: they begin alike."""
    tenth = DISTINCT // 10
    return encoded_records(seed, min(DISTINCT, -(-end // tenth) * tenth))


@lru_cache(maxsize=2)
def _cycle(records: tuple[bytes, ...], batch: int, text: bool) -> tuple[bytes, ...]:
    return tuple(
        _payload(records[start : start + batch], text, array=batch > 1)
        for start in range(0, len(records), batch)
    )


def repeated(items: Sequence[bytes], start: int, count: int) -> list[bytes]:
    """``count`` items from ``start`` on, round and round."""
    first = start % len(items)
    return list(islice(chain.from_iterable(repeat(items)), first, first + count))


def _payload(records: Sequence[bytes], text: bool, *, array: bool) -> bytes:
    payload = array_header(len(records)) + b"".join(records) if array else records[0]
    return msgspec.json.encode(msgspec.msgpack.decode(payload)) if text else payload


def array_header(size: int) -> bytes:
    """The msgpack head of an array of ``size`` elements."""
    return msgpack.Packer().pack_array_header(size)
