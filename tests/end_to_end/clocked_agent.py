"""The agent under a clock that a test turns: ``python -m tests.end_to_end.clocked_agent run …``.

The file named by ``EDGE_AGENT_TEST_CLOCK`` says what time it is: ``WALL BOOT SYNCED NUMBER``, the
first two in seconds that are added to what the machine's boot clock shows, the third one 0 or 1,
the last one which boot it is. Retention looks at the logs every 50 ms instead of every minute,
because no test waits for a minute, and a file beside the clock grows by one byte with each look.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from edge_agent import agent
from edge_agent.commit import committer
from edge_agent.store import CommitResult, Engine
from edge_agent.system.clock import Reading


class FileClock:
    """What the file says, each time anew."""

    def __init__(self) -> None:
        self._file = Path(os.environ["EDGE_AGENT_TEST_CLOCK"])

    def read(self) -> Reading:
        """See `edge_agent.system.clock.Clock`."""
        wall_s, boot_s, synced, number = (int(text) for text in self._file.read_text().split())
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Reading(
            now_ns + wall_s * 10**9, now_ns + boot_s * 10**9, number.to_bytes(16, "big"),
            bool(synced),
        )  # fmt: skip

    async def ask_timedated(self) -> None:
        """Returns at once: the file says it all."""


def set_clock(file: Path, *, wall_s: int, boot_s: int = 0, synced: bool, number: int = 1) -> None:
    """For the test's side: at once, so that no reader meets half a file."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{wall_s} {boot_s} {int(synced)} {number}")
    fresh.replace(file)


def passes(file: Path) -> int:
    """For the test's side: how often retention has looked at the logs."""
    count = file.with_suffix(".passes")
    return count.stat().st_size if count.exists() else 0


def _count_passes() -> None:
    real_trim = Engine.trim
    count = Path(os.environ["EDGE_AGENT_TEST_CLOCK"]).with_suffix(".passes")

    def trim(self: Engine) -> CommitResult:
        result = real_trim(self)
        with count.open("ab") as file:
            file.write(b".")
        return result

    Engine.trim = trim  # type: ignore[method-assign]  # watched from outside


if __name__ == "__main__":
    agent.SystemClock = FileClock  # type: ignore[attr-defined,assignment]  # its default
    _count_passes()
    committer.TRIM_SECONDS = committer.TRIM_AT_REST_SECONDS = 0.05
    from edge_agent.cli import main

    main()
