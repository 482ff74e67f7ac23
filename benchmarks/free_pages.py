"""Do log blocks and history share an LMDB file well? ``python -m benchmarks.free_pages [--tiny]``

A log is a ring: what was written first goes first, and so free pages lie together. History forgets
in another order (records after days, minutes after years) and in other sizes. LMDB wants pages side
by side for any value of more than half a page, and takes new ones from the file's end where it
finds none. This puts both into one file, and each into one of its own, at two fills, for twenty
turnovers of the log, and tells where it met MAP_FULL, how much of the file was in use then, and
what a commit took.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from benchmarks.table import markdown

#: Bytes of values: of a block of the log, and of what a flush of history writes for each stream.
BLOCK_BYTES = (4_000, 60_000)
HISTORY_BYTES = (1_200, 9_000)
STREAMS = 20
TURNOVERS = 20


@dataclass(slots=True)
class Ring:
    """What goes first in, first out, up to ``limit`` bytes; keys rise."""

    prefix: bytes
    limit: int
    held: deque[tuple[bytes, int]] = field(default_factory=deque)
    size: int = 0
    number: int = 0

    def put(self, txn: lmdb.Transaction[bytes], size: int) -> None:
        """One value more, and what has to go for it."""
        self.number += 1
        key = self.prefix + self.number.to_bytes(8, "big")
        while self.held and self.size + size > self.limit:
            old, length = self.held.popleft()
            txn.delete(old)
            self.size -= length
        txn.put(key, bytes(size))
        self.held.append((key, size))
        self.size += size

    def read_again(self, env: lmdb.Environment) -> None:
        """What is there after a transaction that was not."""
        with env.begin() as txn:
            cursor = txn.cursor()
            cursor.set_range(self.prefix)
            found = [(key, len(value)) for key, value in cursor if key[:1] == self.prefix]
        self.held, self.size = deque(found), sum(size for _, size in found)


def run(folder: Path, map_size: int, fill: float, *, together: bool) -> tuple[str, ...]:
    """A row of the table."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    dice = random.Random(1)
    log_part = 0.7
    room = map_size * fill
    log = Ring(b"\xf0", int(room * log_part))
    # Three ages: each keeps another part of what is left.
    levels = [Ring(bytes((level,)), int(room * (1 - log_part) * part))
              for level, part in ((0x10, 0.7), (0x11, 0.25), (0x12, 0.05))]  # fmt: skip
    log_size = map_size if together else int(map_size * log_part)
    env = lmdb.open(str(folder / "log"), map_size=log_size, lib_version=0, sync=False)
    other = env
    if not together:
        size = map_size - log_size
        other = lmdb.open(str(folder / "history"), map_size=size, lib_version=0, sync=False)
    commits: list[float] = []
    full, written, least = 0, 0, 1.0
    while written < TURNOVERS * log.limit:
        began = time.perf_counter()
        try:
            with env.begin(write=True) as txn:
                for _ in range(4):
                    size = dice.randint(*BLOCK_BYTES)
                    log.put(txn, size)
                    written += size
                if together and log.number % 200 == 0:
                    _flush(txn, levels, dice)
            if not together and log.number % 200 == 0:
                with other.begin(write=True) as txn:
                    _flush(txn, levels, dice)
        except lmdb.MapFullError:
            full += 1
            for ring in [log, *levels] if together else [log]:
                ring.read_again(env)
            used = (log.size + (sum(one.size for one in levels) if together else 0)) / log_size
            least = min(least, used)
            _give_way(log)
        commits.append(time.perf_counter() - began)
    for one in {env, other}:
        one.close()
    p99 = statistics.quantiles(commits, n=100)[98]
    return (
        "one file" if together else "a file each", f"{fill:.0%}", str(full),
        f"{least:.0%}" if full else "never", f"{p99 * 1000:.2f}",
    )  # fmt: skip


def _flush(txn: lmdb.Transaction[bytes], levels: list[Ring], dice: random.Random) -> None:
    for level in levels:
        for _ in range(STREAMS):
            level.put(txn, dice.randint(*HISTORY_BYTES))


def _give_way(log: Ring) -> None:
    """The log holds less from now on, as a store does that finds no room."""
    log.limit = int(log.limit * 0.98)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.free_pages", description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-bench-", dir="/var/tmp"))
    map_size = (8 if options.tiny else 128) * 2**20
    try:
        rows = [
            run(folder / "env", map_size, fill, together=together)
            for fill in (0.8, 0.9)
            for together in (True, False)
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    head = ("", "fill", "MAP_FULL", "in use at the first ones, least", "commit p99, ms")
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
