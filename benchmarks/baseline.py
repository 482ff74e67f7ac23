"""The baseline of `benchmarks.bench_sensors`: ``python -m benchmarks.baseline FOLDER PORT``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.one_by_one import serve

if __name__ == "__main__":
    serve("lmdb", Path(sys.argv[1]), int(sys.argv[2]))
