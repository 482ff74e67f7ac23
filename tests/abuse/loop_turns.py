"""How long an agent's event loop is held by what it does, in seconds of CPU, turn by turn.

How long a canary waits for its ack depends on whatever else the machine does. How much CPU the agent
spends in one turn of its loop does not: while a turn lasts nobody is served, and beside it everybody
may be. So what a canary would wait for on a machine of its own can be told on any: for the rest of
the turn in which its record arrives, the turn that reads it, and the one that tells it of the commit.

``python -m tests.abuse.loop_turns run …`` is an agent (``edge_agent run …``) that writes its turns
to the file that `FILE` names.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from array import array
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

FILE = "EDGE_AGENT_LOOP_TURNS"
#: Numbers that are gathered before they are written: an agent's memory is measured, too.
_GATHERED = 3 * 1024
#: What `pace` takes on the machine that bounds in seconds of CPU were chosen on.
_PACE_S = 0.003


class Turn(NamedTuple):
    """One turn: when it began (`time.monotonic`), how long the loop had waited before it, and the
    CPU that the whole process spent in it; all in seconds.
    """

    begun: float
    waited: float
    cpu: float


class TurnRecorder(trio.abc.Instrument):
    """Writes each turn of the loop to a file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = array("q")
        self._idle_ns = self._begun_ns = time.monotonic_ns()
        self._cpu_ns = time.process_time_ns()

    def before_io_wait(self, timeout: float) -> None:
        """A turn is over."""
        cpu_ns, idle_ns = time.process_time_ns(), time.monotonic_ns()
        waited_ns = max(0, self._begun_ns - self._idle_ns)
        self._numbers.extend((self._begun_ns, waited_ns, cpu_ns - self._cpu_ns))
        self._idle_ns = idle_ns
        if len(self._numbers) >= _GATHERED:
            self.write()

    def after_io_wait(self, timeout: float) -> None:
        """One begins."""
        self._begun_ns, self._cpu_ns = time.monotonic_ns(), time.process_time_ns()

    def write(self) -> None:
        """What is gathered goes to the file."""
        os.write(self._file, self._numbers.tobytes())
        self._numbers = array("q")


def turns_in(path: Path, begin: float, end: float) -> list[Turn]:
    """The turns of a file that began between two moments."""
    numbers = array("q")
    numbers.frombytes(path.read_bytes())
    seconds = (number / 1e9 for number in numbers)
    return [turn for turn in map(Turn, seconds, seconds, seconds) if begin <= turn.begun <= end]


def delay_p99(turns: Iterable[Turn]) -> float:
    """What the agent's own work has a record wait for at most, in 99 of 100 moments at which it may
    arrive: a turn, and the two behind it.
    """
    all_turns = list(turns)
    cpu = [turn.cpu for turn in all_turns] + [0.0, 0.0]
    moments = [(0.0, sum(turn.waited for turn in all_turns))]
    moments += [(sum(cpu[at : at + 3]), turn.cpu) for at, turn in enumerate(all_turns)]
    left = 0.01 * sum(length for _, length in moments)
    for delay, length in sorted(moments, reverse=True):
        left -= length
        if left < 0:
            return delay
    return 0.0


def pace() -> float:
    """How many times as long as where bounds were chosen this machine takes; no less than once."""
    document = json.dumps([{"t": 21.5, "text": "x" * 20, "n": [1, 2, 3]}] * 100)
    took = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(50):
            json.loads(document)
        took.append(time.process_time() - begun)
    return max(1.0, sorted(took)[2] / _PACE_S)


def main() -> None:
    """An agent whose turns are written."""
    recorder = TurnRecorder(os.environ[FILE])
    setattr(trio, "run", partial(trio.run, instruments=[recorder]))  # noqa: B010 - mypy takes it for a constant
    sys.argv[0] = "edge_agent"
    try:
        runpy.run_module("edge_agent", run_name="__main__", alter_sys=True)
    finally:
        recorder.write()


if __name__ == "__main__":
    main()
