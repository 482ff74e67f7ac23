"""`edge-agent check --deep` adds three opinions to the checker's, and reads the card itself.

`check` reads every live page, through the kernel's memory, where what was read or written lately
still is. Deep down, in this order:

1. Everything is read from the device, free pages too: what cannot be read is found before it is
   needed. The kernel is asked to forget the file first, so that the card answers and not memory.
2. LMDB's own verifier walks the file: each page is either live or free, and none is both.
3. Every record is decoded the way readers do, and its time held against the block's.

Pure Python all of it: a damaged file cannot crash who looks at it. The store must not be in use.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lmdb import verify as lmdb_verify

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, KeyRing, key_id
from edge_agent.store.format import keys
from edge_agent.store.format.block import Block, decode_block
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.values.record import ERASED
from edge_agent.values.stream_names import stream_problem

Progress = Callable[[int, int], None]

_PIECE = 1024 * 1024
_SECTOR = 4096
_PROBLEMS_MAX = 100


@dataclass(slots=True)
class Deep:
    """What was found: sentences; bytes read from the device, records decoded, blocks that are
    sealed with a key that was not given.
    """

    problems: list[str] = field(default_factory=list)
    bytes: int = 0
    records: int = 0
    sealed: int = 0

    def problem(self, text: str) -> None:
        """Note one; a hundred are enough to know."""
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(text)


def look_deep(data: Path, progress: Progress, seals: KeyRing = OPEN) -> Deep:
    """All three, of the file ``data``; ``progress`` is told over all of them.

    Raises OSError where there is nothing to read.
    """
    found = Deep()
    size = max(data.stat().st_size, 1)
    read_device(data, found, lambda done: progress(done // 2, size))
    _ask_lmdb(data, found)
    halfway = size // 2
    decode_all(data, found, lambda done: progress(halfway + min(done, size) // 2, size), seals)
    progress(size, size)
    return found


def _ask_lmdb(data: Path, found: Deep) -> None:
    if struct.calcsize("P") < 8:
        return  # It knows files of 64-bit machines only.
    try:
        problems = lmdb_verify.verify(str(data))  # type: ignore[no-untyped-call]  # has no types
    except lmdb_verify.VerifyError as error:
        problems = [error]
    for problem in problems:
        found.problem(f"LMDB's verifier: {problem}")


def read_device(data: Path, found: Deep, tell: Callable[[int], None]) -> None:
    """Read every byte from the device."""
    descriptor = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for place in range(0, size, _PIECE):
            length = min(_PIECE, size - place)
            for begin, error in _unreadable(descriptor, place, length):
                found.problem(f"bytes {begin} to {begin + _SECTOR} cannot be read: {error}")
            found.bytes += length
            # What was read once is not needed again, and would push out what others need.
            os.posix_fadvise(descriptor, place, length, os.POSIX_FADV_DONTNEED)
            tell(place + length)
    finally:
        os.close(descriptor)


def decode_all(data: Path, found: Deep, tell: Callable[[int], None], seals: KeyRing = OPEN) -> None:
    """Decode every record of every block, as readers do."""
    done = 0
    with PageFile(data) as pages:
        try:
            # What is wrong with the tree has been told by those before.
            for node in pages.nodes(pages.meta.main.root, lambda problem: None):
                if not node.key.startswith(keys.BLOCK):
                    continue
                try:
                    value = pages.value(node)
                    done += len(value)
                    first = keys.block_first(node.key)
                    log = f"#{node.key[1]}"
                    block = decode_block(log, first, node.key, memoryview(value))
                    if block.sealed and key_id(block.payload) not in seals.ids:
                        found.sealed += 1
                        continue
                    _records(decode_block(log, first, node.key, memoryview(value), seals), found)
                except StoreDamaged as error:
                    found.problem(str(error))
                tell(done)
        except StoreDamaged as error:
            found.problem(str(error))


def _records(block: Block, found: Deep) -> None:
    where = f"block {block.first} of log {block.log}"
    for view in block.runs():
        problem = stream_problem(view.stream.removeprefix("$"))
        if problem is not None:
            found.problem(f"{where}: {problem}")
        if not view.source and view.stream != ERASED and block.origin is None:
            found.problem(f"{where}: nobody sent {view.stream}")
    count = 0
    for record in block.records():
        count += 1
        outside = not block.time_min_ns <= record.time_ns <= block.time_max_ns
        # A peer's word about its block is taken as it was given; a place has no time.
        if outside and block.origin is None and record.stream != ERASED:
            found.problem(f"{where}: record {record.seq} lies outside the block's times")
    if count != block.count:
        found.problem(f"{where} has {count} records, its header says {block.count}")
    found.records += count


def _unreadable(descriptor: int, place: int, length: int) -> Iterator[tuple[int, str]]:
    """Where in a piece nothing comes back, sector by sector, and why."""
    try:
        if len(os.pread(descriptor, length, place)) == length:
            return
    except OSError:
        pass
    for begin in range(place, place + length, _SECTOR):
        try:
            os.pread(descriptor, _SECTOR, begin)
        except OSError as error:
            yield begin, error.strerror or str(error)
