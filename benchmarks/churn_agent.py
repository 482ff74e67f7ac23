"""The agent as it is, which also says what tasks it has: on SIGUSR1, into a file.

Run as ``python -m benchmarks.churn_agent FILE run …``; what follows FILE is ``edge-agent``'s own
command line. With ``EDGE_AGENT_BENCH_TRACE=1`` in the environment Python's allocations are traced,
which makes it slow and large; on SIGUSR2 the file then names the lines whose memory has grown most
since the first SIGUSR2.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import FrameType

import trio

from edge_agent.cli import main as edge_agent

TRACE = "EDGE_AGENT_BENCH_TRACE"
#: Lines in a traced answer, and calls up from each.
_LINES, _FRAMES = 15, 6


class Teller:
    """Answers a signal by writing ``file``, whole or not at all."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._asked = 0
        self._before: tracemalloc.Snapshot | None = None

    def tell(self, number: int, frame: FrameType | None) -> None:
        """The handler. It may interrupt Trio anywhere, also where a nursery is half made, so it
        only asks for a look between two steps.
        """
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            self.answer(number)
        else:
            token.run_sync_soon(self.answer, number)

    def answer(self, number: int) -> None:
        """Look, and write what there is."""
        self._asked += 1
        answer: dict[str, object] = {"asked": self._asked, "tasks": living_tasks(), "growth": []}
        if number == signal.SIGUSR2:
            answer["growth"] = self._growth()
        half = self._file.with_suffix(".half")
        half.write_text(json.dumps(answer))
        half.replace(self._file)

    def _growth(self) -> list[str]:
        gc.collect()
        ours = tracemalloc.Filter(False, tracemalloc.__file__)
        snapshot = tracemalloc.take_snapshot().filter_traces([ours])
        before, self._before = self._before or snapshot, self._before or snapshot
        lines = []
        for each in snapshot.compare_to(before, "traceback")[:_LINES]:
            where = " < ".join(f"{at.filename}:{at.lineno}" for at in reversed(each.traceback))
            lines.append(f"{each.size_diff:+,} bytes in {each.count_diff:+,} pieces: {where}")
        return lines


def living_tasks() -> dict[str, int]:
    """How many tasks of each name live in the present Trio run; none before or after one."""
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        return {}
    found: Counter[str] = Counter()
    tasks = [root] if root is not None else []
    while tasks:
        task = tasks.pop()
        found[task.name] += 1
        for nursery in task.child_nurseries:
            tasks += nursery.child_tasks
    return dict(found)


def main() -> None:
    """Be the agent."""
    traces = os.environ.get(TRACE) == "1"
    if traces:
        tracemalloc.start(_FRAMES)
    tell = Teller(Path(sys.argv[1])).tell
    signal.signal(signal.SIGUSR1, tell)
    if traces:
        signal.signal(signal.SIGUSR2, tell)
    edge_agent(sys.argv[2:], prog_name="edge-agent")


if __name__ == "__main__":
    main()
