"""What the process is set to really holds, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


WITHOUT_FILES = """
import os, sys
from edge_agent.cli import main
sys.argv[0] = "edge-agent"
main(["--version"], standalone_mode=False)
opened = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
print("heard by nobody", file=sys.stderr, flush=True)
print("nor this", flush=True)
told = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
os.write(opened, f"{told} {opened > 2} {sys.stdin.read()!r}".encode())
"""


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&-", "2>&-"])
def test_no_file_that_is_opened_takes_the_place_of_a_standard_one_that_was_closed(
    tmp_path: Path, closed: str
) -> None:
    script = f'exec "$0" -c "$1" "$2" {closed}'
    words = ["sh", "-c", script, sys.executable, WITHOUT_FILES, str(tmp_path / "file")]
    subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    told = (tmp_path / "file").read_text()
    assert told.endswith(" True ''") and "heard" not in told
    assert told.count("/dev/null") >= closed.count("&-")


@pytest.mark.parametrize("words", [["config", "init", "-"], ["--version"]])
def test_a_full_disk_behind_stdout_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "edge_agent", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done
    assert "No space left on device" in done.stderr
