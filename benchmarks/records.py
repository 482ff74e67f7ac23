"""The seeded generator: what every benchmark sends.

Each record is a msgpack map of 71 bytes: ``time`` and four fields that drift as real sensors do
(a slow wave and a random walk), all doubles. `DISTINCT` of them are made once and then cycled.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache

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
                    "time": START_S + index * 0.1,
                    "temp": round(temp + 4 * wave, 2),
                    "humi": round(humi - 9 * wave, 1),
                    "pres": round(pres, 1),
                    "batt": round(batt, 3),
                }
            )
        )
    assert all(len(record) == RECORD_BYTES for record in found)
    return tuple(found)


def messages(count: int, batch: int, seed: int = 1, *, text: bool = False) -> list[bytes]:
    """WebSocket payloads that hold ``count`` records in all, ``batch`` in each.

    A batch of 1 is a bare map; more are an array. ``text`` gives JSON instead of msgpack.
    """
    records = encoded_records(seed)
    found: list[bytes] = []
    for start in range(0, count, batch):
        size = min(batch, count - start)
        chosen = [records[(start + index) % len(records)] for index in range(size)]
        payload = chosen[0] if batch == 1 else array_header(size) + b"".join(chosen)
        if text:
            payload = msgspec.json.encode(msgspec.msgpack.decode(payload))
        found.append(payload)
    return found


def array_header(size: int) -> bytes:
    """The msgpack head of an array of ``size`` elements."""
    return msgpack.Packer().pack_array_header(size)
