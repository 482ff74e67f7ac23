"""Honest time: wall clock, boot clock, and whether the wall clock has been set.

A Pi boots in the past. So nothing here offers "the time" alone: a `Reading` always says what the
wall clock shows, how long this boot has lasted, which boot it is, and whether the wall clock was
synced. Order is ``seq``, never time; intervals are measured on the boot clock, never the wall.

Tests turn `ManualClock` by hand; nothing below the edges asks the operating system itself.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

#: systemd-timesyncd and chrony touch this when they have set the clock (systemd-timesyncd(8)).
SYNCED_MARKER = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    """All clocks at one moment.

    Attributes:
        wall_ns: ns since 1970 as the wall clock shows it, right or wrong.
        boot_ns: ns since this boot, suspended time included (CLOCK_BOOTTIME).
        boot_id: 16 bytes that name this boot.
        synced: whether the wall clock has been set from outside during this boot.
    """

    wall_ns: int
    boot_ns: int
    boot_id: bytes
    synced: bool


class Clock(Protocol):
    """What everything that needs time is given."""

    def read(self) -> Reading:
        """All clocks now."""
        ...


class SystemClock:
    """The machine's own clocks.

    ``synced`` asks the kernel (adjtimex: not STA_UNSYNC) through the marker file of
    systemd-timesyncd where that exists; without such a marker the kernel's own flag decides, and
    the answer is cached for ``recheck_s`` seconds, because a file look-up per message is too much.
    """

    def __init__(self, *, recheck_s: float = 5.0) -> None:
        self._boot_id = _read_boot_id()
        self._recheck_ns = int(recheck_s * 1e9)
        self._checked_ns = -self._recheck_ns
        self._synced = False

    def read(self) -> Reading:
        """All clocks now; about 0.5 µs."""
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if boot_ns - self._checked_ns >= self._recheck_ns:
            self._synced = kernel_says_synced() or SYNCED_MARKER.exists()
            self._checked_ns = boot_ns
        return Reading(time.time_ns(), boot_ns, self._boot_id, self._synced)


class ManualClock:
    """A clock that stands until it is turned; for tests and simulations."""

    def __init__(
        self, wall_ns: int = 1_795_341_600_000_000_000, *, synced: bool = True, boot: int = 1
    ) -> None:
        self._now = Reading(wall_ns, 1_000_000_000, boot.to_bytes(16, "big"), synced)

    def read(self) -> Reading:
        """All clocks as they were last set."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on the wall and the boot clock."""
        step = round(seconds * 1e9)
        self._now = replace(
            self._now, wall_ns=self._now.wall_ns + step, boot_ns=self._now.boot_ns + step
        )

    def step_wall(self, wall_ns: int, *, synced: bool | None = None) -> None:
        """Set the wall clock, as NTP or a person does; the boot clock stays."""
        is_synced = self._now.synced if synced is None else synced
        self._now = replace(self._now, wall_ns=wall_ns, synced=is_synced)

    def reboot(self, *, wall_ns: int, synced: bool = False) -> None:
        """A new boot: new id, boot clock at one second, the wall clock wherever it woke."""
        boot = int.from_bytes(self._now.boot_id, "big") + 1
        self._now = Reading(wall_ns, 1_000_000_000, boot.to_bytes(16, "big"), synced)


def kernel_says_synced() -> bool:
    """The kernel's STA_UNSYNC flag, by adjtimex(2) with no mode set, which needs no privilege."""
    import ctypes

    # struct timex is 208 bytes on 64-bit Linux and less on 32-bit; modes=0 only reads. The
    # return value is the clock state; TIME_ERROR (5) means unsynchronised, -1 a refusal.
    buffer = ctypes.create_string_buffer(512)
    try:
        state: int = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    return 0 <= state < 5


def _read_boot_id() -> bytes:
    try:
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError):
        # No procfs: a random id still tells this run's blocks from those of any other run.
        return uuid.uuid4().bytes
