"""What the process is set to really holds, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import ctypes, gc, sys, threading
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

def in_heap(address):
    [heap] = [line for line in open("/proc/self/maps") if line.endswith("[heap]\\n")]
    begin, end = (int(bound, 16) for bound in heap.split()[0].split("-"))
    return begin <= address < end

# One that is given back, after which glibc would take large ones from its heap.
large = bytearray(b"x") * (8 << 20)
del large
libc = ctypes.CDLL(None)
libc.calloc.restype = ctypes.c_void_p
print(in_heap(libc.calloc(1, 2 << 20)))
"""


def test_threads_share_fairly_and_libc_keeps_to_one_arena_and_gives_large_ones_back() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told[0] == "0.0005 20000 20 50 True"
    if sys.platform == "linux":
        assert told[1:] == ["0", "False"]
