"""Buffers of records that are not acked yet: in memory, or in a file that outlives the process.

Records have numbers of the producer's own, from 1, without holes. The number on the wire is
``number + shift``; the shift is found at the first welcome, because only then is it known where
the agent's numbering of this source stands. `MemoryBuffer` starts anew with each process.
`DiskBuffer` (``disk_buffer.py``) is a SQLite file.

A buffer belongs to one task at a time for each verb: one that appends, one that reads, one that
acknowledges.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol


class Buffer(Protocol):
    """First in, first out.

    Attributes:
        first: number of the oldest record that is kept; equals ``next`` when empty.
        next: number that the next record will get.
        size: encoded bytes that are kept.
        epoch: the agent's epoch in which wire numbers mean something; None before first contact.
        shift: wire number less own number.
        durable: whether what is kept survives the process.
        opening: random id of this opening of the buffer.
        before: earlier openings under this epoch and shift, oldest first, each with the number
            that followed its last one.
    """

    first: int
    next: int
    size: int
    epoch: str | None
    shift: int
    durable: bool
    opening: str
    before: tuple[tuple[str, int], ...]

    async def append(self, records: Sequence[bytes]) -> int:
        """Keep encoded records; the number of the last one. Once this returns they are as safe
        as this buffer makes them, and not before may they be sent.
        """
        ...

    async def read(self, number: int, most_records: int, most_bytes: int) -> list[bytes]:
        """Records from ``number`` on, at least one if there is one."""
        ...

    async def acknowledge(self, next_number: int) -> None:
        """Everything before ``next_number`` is done with and may be forgotten."""
        ...

    async def remember(self, epoch: str, shift: int) -> None:
        """Note what a welcome told, before anything is sent under it."""
        ...

    async def aclose(self) -> None:
        """Put everything where it stays."""
        ...


def new_opening() -> str:
    """An id that no other opening of a buffer has."""
    return os.urandom(8).hex()


class MemoryBuffer:
    """A dict by number. Verbs never wait; they are async so that both buffers look the same."""

    durable = False

    def __init__(self) -> None:
        self.first = 1
        self.next = 1
        self.size = 0
        self.epoch: str | None = None
        self.shift = 0
        self.opening = new_opening()
        self.before: tuple[tuple[str, int], ...] = ()
        # A dict and not a deque: sending reads somewhere in the middle, again and again.
        self._records: dict[int, bytes] = {}

    async def append(self, records: Sequence[bytes]) -> int:
        """See `Buffer`."""
        return self.append_now(records)

    def append_now(self, records: Sequence[bytes]) -> int:
        """`append` for callers that cannot wait."""
        self._records.update(enumerate(records, self.next))
        self.next += len(records)
        self.size += sum(map(len, records))
        return self.next - 1

    async def read(self, number: int, most_records: int, most_bytes: int) -> list[bytes]:
        """See `Buffer`."""
        found: list[bytes] = []
        total = 0
        for wanted in range(number, min(number + most_records, self.next)):
            record = self._records[wanted]
            total += len(record)
            if found and total > most_bytes:
                break
            found.append(record)
        return found

    async def acknowledge(self, next_number: int) -> None:
        """See `Buffer`."""
        done = min(next_number, self.next)
        while self.first < done:
            self.size -= len(self._records.pop(self.first))
            self.first += 1

    async def remember(self, epoch: str, shift: int) -> None:
        """See `Buffer`."""
        self.epoch = epoch
        self.shift = shift

    async def aclose(self) -> None:
        """See `Buffer`."""
