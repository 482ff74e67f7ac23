"""The suite on a busy machine: ``python -m tests.loaded --rounds 2 --busy 3 -- PYTEST ARGS``.

Processes that do nothing but count stand beside it, more of them than there are cores, so that each
test is stalled now and then for as long as the scheduler likes. What is red here and green on a
quiet machine rests on the machine being quick. `make test-loaded` calls it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: A busy loop ends by itself when whoever started it is gone, or after a day.
BUSY = """
import os, time
parent, end = os.getppid(), time.monotonic() + 86_400
while os.getppid() == parent and time.monotonic() < end:
    sum(range(100_000))
"""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """That many processes that are never idle."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    """Run; the first round that fails ends it with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--busy", type=int, default=3)
    parser.add_argument("pytest", nargs="*")
    options = parser.parse_args()
    with busy_loops(options.busy):
        for number in range(1, options.rounds + 1):
            begun = time.monotonic()
            done = subprocess.run([sys.executable, "-m", "pytest", *options.pytest], check=False)
            seconds = time.monotonic() - begun
            print(f"round {number} of {options.rounds}: {seconds:.0f} s", flush=True)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
