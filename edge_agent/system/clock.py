"""Honest time: wall clock, boot clock, and whether the wall clock has been set.

A Pi boots in the past. So nothing here offers "the time" alone: a `Reading` always says what the
wall clock shows, how long this boot has lasted, which boot it is, and whether the wall clock was
synced. Order is ``seq``, never time; intervals are measured on the boot clock, never the wall.

When the wall clock is **set**
------------------------------
Somebody outside must have said what time it is, during this boot:

- The kernel says so (adjtimex(2): not STA_UNSYNC). chronyd, ntpd, systemd-timesyncd and PTP's
  ``phc2sys`` see to that while they hear from their source, and so does chronyd for a GPS receiver.
  Whoever merely sets the clock, ``date -s``, ``hwclock --hctosys`` or a script that reads a GPS
  receiver, takes the flag away.
  Where a unit forbids to ask the kernel (ProtectClock=yes), systemd-timedated asks in our place
  (`SystemClock.ask_timedated`, which the agent runs).
- Or a marker exists: `SYNCED_MARKER`, which systemd-timesyncd touches with each answer, or
  `SET_MARKER`, which is for people and their scripts: a board with a battery-backed clock, or a
  clock set by hand, counts from ``touch /run/edge-agent-clock-set`` on. Both lie in ``/run``, which
  does not outlive the boot.

Once set it stays set without its source, for the oscillator is good for seconds a day, until
somebody steps it (`STEP_NS` against the boot clock, which runs on at the same rate): then it must
be said again, by the kernel or by a marker touched since.

Before 2020 (`record.UNSET_CLOCK_BEFORE_NS`) no clock is set, whatever anybody says: nothing has
ever woken there but a board without a clock.

Tests turn a clock of their own by hand; nothing below the edges asks the operating system itself.
"""

from __future__ import annotations

import errno
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Protocol

import trio
from msgspec import Struct

from edge_agent.values.record import UNSET_CLOCK_BEFORE_NS

logger = logging.getLogger(__name__)

#: systemd-timesyncd touches this whenever its source has answered (systemd-timesyncd(8)).
SYNCED_MARKER = Path("/run/systemd/timesync/synchronized")
#: People touch this when they know that the clock is right.
SET_MARKER = Path("/run/edge-agent-clock-set")
#: The wall clock moving by this much against the boot clock was stepped; slewing moves both.
STEP_NS = 1_000_000_000
#: Pauses between two questions to systemd-timedated, which ends 30 s after the last one.
ASK_S, ASK_MAX_S = 5.0, 300.0
#: It may have to be started first.
ANSWER_S = 30.0
_ASK_TIMEDATED = (
    "busctl", "--system", "--timeout=20", "get-property", "org.freedesktop.timedate1",
    "/org/freedesktop/timedate1", "org.freedesktop.timedate1", "NTPSynchronized",
)  # fmt: skip
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Reading(Struct, frozen=True, gc=False):
    """All clocks at one moment. A struct, as one is made for each read of a socket.

    Attributes:
        wall_ns: ns since 1970 as the wall clock shows it, right or wrong.
        boot_ns: ns since this boot, suspended time included (CLOCK_BOOTTIME).
        boot_id: 16 bytes that name this boot.
        synced: whether the wall clock has been set from outside during this boot: see above.
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

    Whether the wall clock is set is looked up again after ``recheck_s`` seconds, because a system
    call and two file look-ups per message are too much.
    """

    def __init__(self, *, recheck_s: float = 5.0) -> None:
        self._boot_id = _read_boot_id()
        self._recheck_ns = int(recheck_s * 1e9)
        self._checked_ns = -self._recheck_ns
        self._synced = False
        #: Wall clock less boot clock when it was last said to be set; None before that.
        self._offset_ns: int | None = None
        #: When each marker was touched, as it was looked at last.
        self._touched: tuple[int, ...] = ()
        #: Whether it has to be said that the clock is set; and whether systemd-timedated did.
        self._is_open = self._is_told = False

    def read(self) -> Reading:
        """All clocks now; about 0.5 µs."""
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if boot_ns - self._checked_ns >= self._recheck_ns:
            self._synced = self._is_set(time.time_ns(), boot_ns)
            self._checked_ns = boot_ns
        return Reading(time.time_ns(), boot_ns, self._boot_id, self._synced)

    def _is_set(self, wall_ns: int, boot_ns: int) -> bool:
        touched = tuple(map(_touched_ns, (SYNCED_MARKER, SET_MARKER)))
        # What was touched in the future was touched before somebody set the clock back.
        is_told = any(0 < at_ns < wall_ns + STEP_NS for at_ns in touched)
        is_touched, self._touched = is_told and touched != self._touched, touched
        self._is_open = False
        offset_ns = wall_ns - boot_ns
        if wall_ns < UNSET_CLOCK_BEFORE_NS:
            self._offset_ns = None
            return False
        was_ns = self._offset_ns
        is_open = was_ns is None or abs(offset_ns - was_ns) >= STEP_NS
        told = kernel_says_synced()
        if is_touched or (is_open and self._is_told if told is None else told):
            self._offset_ns, self._is_told = offset_ns, False
            return True
        if is_open:
            self._offset_ns = None
        self._is_open = is_open
        return not is_open

    async def ask_timedated(self) -> None:
        """Ask systemd-timedated until somebody says that the clock is set: at once, then after
        `ASK_S` and twice as long each time, up to `ASK_MAX_S`. Returns at once where the kernel may
        be asked.
        """
        pause_s, could_ask = ASK_S, True
        while kernel_says_synced() is None:
            # Asking costs a process, so that what is settled is not asked for.
            self.read()
            if not self._is_open:
                pause_s = ASK_S
                await trio.sleep(ASK_S)
                continue
            answer = await timedated_says_synced()
            self._is_told = bool(answer)
            if answer is None and could_ask:
                logger.info(
                    "nobody can be asked whether the clock is set (ProtectClock=yes, and no D-Bus):"
                    " it counts as set once systemd-timesyncd says so, or %s is touched",
                    SET_MARKER,
                )
            could_ask = answer is not None
            await trio.sleep(pause_s)
            pause_s = ASK_S if answer else min(2 * pause_s, ASK_MAX_S)


def kernel_says_synced() -> bool | None:
    """The kernel's STA_UNSYNC flag, by adjtimex(2) with no mode set, which needs no privilege. None
    where a supervisor forbids the call.
    """
    import ctypes

    # struct timex is 208 bytes on 64-bit Linux and less on 32-bit; modes=0 only reads. The
    # return value is the clock state; TIME_ERROR (5) means unsynchronised, -1 a refusal.
    buffer = ctypes.create_string_buffer(512)
    try:
        state: int = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    if state == -1 and ctypes.get_errno() == errno.EPERM:
        return None
    return 0 <= state < 5


async def timedated_says_synced() -> bool | None:
    """The same flag, as systemd-timedated reads it; None where it cannot be asked, False where a
    signal ended who asked.
    """
    # Whatever busctl would tell the supervisor, it is not for us to say.
    env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    with trio.move_on_after(ANSWER_S):
        try:
            done = await trio.run_process(
                _ASK_TIMEDATED, capture_stdout=True, capture_stderr=True, check=False, env=env
            )
        except OSError:
            return None
        # A stop of the service ends it before it has asked, which says nothing of who can be asked.
        if done.returncode > 0:
            return None
        return done.stdout.strip() == b"b true"
    return None


def _touched_ns(marker: Path) -> int:
    """When the file was touched, by whatever clock; 0 where there is none."""
    try:
        # Not 0 where it was touched at midnight in 1970: it is there.
        return marker.stat().st_mtime_ns or 1
    except OSError:
        return 0


def _read_boot_id() -> bytes:
    try:
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError):
        # No procfs: a random id still tells this run's blocks from those of any other run.
        return uuid.uuid4().bytes
