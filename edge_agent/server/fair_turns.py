"""Turns keep one peer's unusual work from holding up all others.

What sensors usually send is read many messages at a time, and a read is bounded, so no peer can be
heard for longer than some milliseconds. Everything else costs up to a hundred times as much a byte:
control frames, fragments, records that cannot be used, messages that are looked at one by one,
decrypting. Whoever has such work to do does a piece of about a millisecond, then waits for its turn
here (`Turns.take`), its socket unread, so that TCP tells the sender.

In each pass of the event loop one of those who wait gets its turn, first come first served. So all
floods together delay what everybody else waits for by a piece for each pass that it takes, however
many they are. A peer that does little never waits: it takes a turn only when it has spent one.
"""

from __future__ import annotations

from collections import deque

import trio

#: What a turn is worth, in frames that the lane does not lift or records looked at singly; either
#: costs some 15 µs with all that follows from it.
TURN_UNITS = 64
#: Bytes of usual messages that cost as much as one of these, where a task of its own reads them.
UNIT_BYTES = 1024


class Turns:
    """See the module. Without `run` nobody gets a turn. It may be called again after it has failed:
    who waits still does, its socket unread.

    Attributes:
        taken: turns so far.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._waiting: deque[trio.lowlevel.Task] = deque()
        self._news = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self) -> None:
        """Wait for one's turn. What is done then without waiting is the turn."""
        task = trio.lowlevel.current_task()
        self._waiting.append(task)
        self._news.set()

        def cancelled(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(cancelled)

    async def run(self) -> None:
        """Give turns until cancelled."""
        while True:
            while not self._waiting:  # Who waited may have been cancelled.
                self._news = trio.Event()
                await self._news.wait()
            self._give()
            # Who has it now runs in the next pass, and so does this task after it or before.
            await trio.lowlevel.checkpoint()

    def _give(self) -> None:
        self.taken += 1
        trio.lowlevel.reschedule(self._waiting.popleft())
