"""What the process is set to really holds, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import gc, sys, threading
from edge_agent.cli import process

process.before_start()
kept = [[] for _ in range(1000)]
process.after_start()
print(sys.getswitchinterval(), *gc.get_threshold(), gc.get_freeze_count() > 1000)

def allocate():
    return [bytes(100_000) for _ in range(20)]

def arenas():
    # Each arena but the main one is a mapping of its own, aligned to 64 MiB.
    starts = [line.split("-")[0] for line in open("/proc/self/maps")]
    return sum(int(start, 16) % (64 << 20) == 0 for start in starts)

before = arenas()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(arenas() - before)
"""


def test_threads_share_the_interpreter_fairly_and_one_arena_and_what_is_there_is_frozen() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told[0] == "0.0005 20000 20 50 True"
    if sys.platform == "linux":
        assert told[1] == "0"
