"""Benchmarks whose agents are forked from a preloaded process: where fifty agents do next to
nothing, their imports are half of the work.

``python -m tests.benchmarks.preloaded`` is ``python -m benchmarks`` with that.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

from benchmarks import processes
from benchmarks.__main__ import main
from tests.preloaded import nest

_start = processes.start


def start(command: list[str], output: BinaryIO) -> processes.Process:
    """As `benchmarks.processes.start`: our own agents forked, all others as they are."""
    if command[:3] != [sys.executable, "-m", "edge_agent"]:
        return _start(command, output)
    return nest().fork(command[2:], stdout=output, stderr=output)


if __name__ == "__main__":
    processes.start = start
    nest()  # Before the sections part ways: one for all.
    main()
