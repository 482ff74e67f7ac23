"""This module says what the store is told when it is opened, and what it asks of a clock.

The agent builds `StoreSettings` from the configuration; nothing here reads files or the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.copy_signs import LookAtMedium, nowhere

#: The log that always exists and takes what no other log's patterns name.
MAIN = "main"
#: Logs together hold at most this part of the file; the rest is LMDB's headroom. Deleting needs
#: free pages, so a store filled further could not be trimmed any more.
SHARES_MAX = 0.8
#: Largest block before compression, bytes; a reader never decompresses more than this.
BLOCK_BYTES_MAX = 1024 * 1024

WhenFull = Literal["discard-oldest", "thin-oldest", "refuse"]


class Moment(Protocol):
    """All clocks at one moment; `edge_agent.system.clock.Reading` is one."""

    @property
    def wall_ns(self) -> int:
        """Nanoseconds since 1970 as the wall clock shows it."""
        ...

    @property
    def boot_ns(self) -> int:
        """Nanoseconds since this boot."""
        ...

    @property
    def boot_id(self) -> bytes:
        """16 bytes that name this boot."""
        ...

    @property
    def synced(self) -> bool:
        """Whether the wall clock has been set from outside."""
        ...


class StoreClock(Protocol):
    """What tells the store the time; `edge_agent.system.clock.SystemClock` is one."""

    def read(self) -> Moment:
        """All clocks now."""
        ...


@dataclass(frozen=True, slots=True)
class LogSettings:
    """One log: ``patterns`` of the streams that it takes, ``keep_s`` seconds at most, ``share``
    of the store's size (0 to 1), and what happens when that is used up: the oldest records go, or
    give way to aggregates and go when that is not enough, or nothing more is taken.
    """

    name: str
    patterns: tuple[str, ...] = ()
    keep_s: float = 30 * 86_400.0
    when_full: WhenFull = "discard-oldest"
    share: float = 0.7


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """A configured consumer of one log. ``required``: age retention waits for it."""

    name: str
    log: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Everything the store may do, with units.

    Attributes:
        size: bytes reserved for the file, rounded up to 64 KiB.
        block_bytes: largest block before compression.
        compression_level: zstd level; 0 stores blocks as they came.
        quarantine_share: part of ``size`` for quarantine.
        logs: in the order in which their patterns are tried; one is `MAIN`.
        consumers: whom retention considers; anyone else's position holds nothing.
        sources_max: sources whose numbering is remembered.
        source_forgotten_s: seconds after which an unseen source may be forgotten.
        board, machine: fingerprints of this board and installation, "" where it cannot be told
            (`identity.py`).
        medium: what tells where the store's file is (`copy_signs.py`).
        keys: what seals records and opens them (`edge_agent.seal`).
    """

    size: int = 1024 * 1024 * 1024
    block_bytes: int = 256 * 1024
    compression_level: int = 3
    quarantine_share: float = 0.02
    logs: tuple[LogSettings, ...] = (LogSettings(MAIN),)
    consumers: tuple[ConsumerSettings, ...] = ()
    sources_max: int = 10_000
    source_forgotten_s: float = 90 * 86_400.0
    board: str = ""
    machine: str = ""
    medium: LookAtMedium = nowhere
    keys: KeyRing = OPEN
    #: Derived: the file's size as LMDB gets it.
    map_size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        # The configuration has checked all this with better words; here it would be our mistake.
        names = [log.name for log in self.logs]
        assert MAIN in names and len(set(names)) == len(names) <= 200, names
        assert sum(log.share for log in self.logs) <= SHARES_MAX + 1e-9, "shares above 80 %"
        assert 1024 <= self.block_bytes <= BLOCK_BYTES_MAX, self.block_bytes
        # Pages of a Raspberry Pi 5 have 16 KiB, of some ARM kernels 64 KiB; LMDB wants whole ones.
        object.__setattr__(self, "map_size", -(-max(self.size, 512 * 1024) // 65_536) * 65_536)

    def log(self, name: str) -> LogSettings:
        """Settings of a log; one that is no longer configured takes nothing new and yields."""
        for log in self.logs:
            if log.name == name:
                return log
        return LogSettings(name, (), self.log(MAIN).keep_s, "discard-oldest", 0.0)

    def share_bytes(self, name: str) -> int:
        """Bytes that a log may hold."""
        return int(self.log(name).share * self.map_size)

    @property
    def quarantine_bytes(self) -> int:
        """Bytes that quarantine may hold."""
        return int(self.quarantine_share * self.map_size)
