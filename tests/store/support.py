"""What the store's tests share: runs with known contents, and a way to read a log back."""

from __future__ import annotations

import hashlib
import os
import resource
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack

from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import Block, Engine, Entry, Gap, Numbering, encode_runs
from edge_agent.store.settings import LogSettings, StoreSettings
from edge_agent.values.record import ForeignBlock, Origin, Record, Run

START_NS = 1_795_341_600_000_000_000
MIB = 1024 * 1024
#: Bytes of a page of the stores that are made here, as many as the kernel says: 4 KiB on most
#: machines, 16 KiB on a Raspberry Pi 5. `make test-pages` runs all of this with those.
PAGE = os.sysconf("SC_PAGE_SIZE")
#: What these stores are sealed with: `make test-sealed` runs all of this with a key.
KEYS = KeyRing((bytes(32),), os.urandom) if os.environ.get("EDGE_AGENT_TEST_SEALED") else OPEN


def pack(value: Any) -> bytes:
    packed = msgpack.packb(value)
    assert isinstance(packed, bytes)
    return packed


def sealed(key: bytes, raw: bytes) -> bytes:
    """A value as the store keeps it, for writing behind its back."""
    return raw + zlib.crc32(key + raw).to_bytes(4, "big")


def run(
    count: int = 1,
    *,
    stream: str = "a/1",
    source: str = "pi",
    first: int = 0,
    value: int = 0,
    pad: int = 0,
    time_ns: int = START_NS,
) -> Run:
    """``count`` records ``{"v": value}``, ``{"v": value + 1}`` … of ``pad`` bytes more each."""
    filler = {"pad": hashlib.shake_128(b"%d" % value).digest(pad)} if pad else {}
    body = b"".join(pack({"v": value + i, **filler}) for i in range(count))
    return Run(stream, source, first, time_ns, True, count, body, time_ns, time_ns)


def entry(count: int, first: int, *, restart: bool = False, **kinds: Any) -> Entry:
    """An entry of a numbering source; record number n holds the value n unless told."""
    kinds.setdefault("value", first)
    source = kinds.get("source", "pi")
    numbering = Numbering(source, first, first + count, restart)
    return Entry(runs=(run(count, first=first, **kinds),) if count else (), numbering=numbering)


def foreign(
    count: int, first: int, *, stream: str = "a/1", log: str = "main", value: int | None = None
) -> ForeignBlock:
    """A block as its first agent sends it: ``first`` on, in that agent's own numbering."""
    payload = encode_runs([run(count, stream=stream, value=first if value is None else value)])
    origin = Origin(
        "feedfacecafe", "0" * 16, log, first, bytes(16), 1, START_NS, True, ("feedfacecafe",)
    )
    return ForeignBlock(
        first, first + count - 1, count, 0, len(payload), payload, START_NS, START_NS, origin
    )


def read_all(engine: Engine, log: str = "main", after: int = 0) -> list[Block | Gap]:
    items: list[Block | Gap] = []
    while found := engine.read(log, after, 64 * 1024):
        assert isinstance(found[0], Gap) or found[0].last > after
        items += found
        after = items[-1].last
    return items


def records(engine: Engine, log: str = "main", after: int = 0) -> list[Record]:
    blocks = [item for item in read_all(engine, log, after) if isinstance(item, Block)]
    return [record for block in blocks for record in block.records() if record.seq > after]


def values(engine: Engine, log: str = "main", after: int = 0) -> list[int]:
    return [record.fields["v"] for record in records(engine, log, after)]


def seeded(seed: int) -> Callable[[int], bytes]:
    """Bytes that look random and are the same in every run."""
    counter = 0

    def entropy(size: int) -> bytes:
        nonlocal counter
        counter += 1
        return hashlib.shake_128(b"%d %d" % (seed, counter)).digest(size)

    return entropy


def small(**changes: Any) -> StoreSettings:
    """Settings for a store that is quick to make; one log with 80 % of 4 MiB."""
    changes.setdefault("size", 4 * MIB)
    changes.setdefault("logs", (LogSettings("main", share=0.8),))
    changes.setdefault("keys", KEYS)
    return StoreSettings(**changes)


@contextmanager
def failing_disk() -> Iterator[None]:
    """The kernel refuses this process's writes (EFBIG stands for EIO; LMDB treats them alike)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
