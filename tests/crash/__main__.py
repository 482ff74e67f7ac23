"""``make crash``: every part of the proof at its full scale, one closing line for each.

``python -m tests.crash [--seed N] [--only PART …]``; exit code 1 where anything went wrong. What
went wrong is printed with the command that replays it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import Final

from tests.crash.proof import Outcome, Scale

#: Part to its module and to how much of it is tried.
PARTS: Final[dict[str, tuple[str, Scale]]] = {
    # Some draws coincide: so many are tried that 250,000 are distinct.
    "states": ("tests.crash.states", Scale(260_000)),
    "history": ("tests.crash.history_file", Scale(20_000)),
    "faults": ("tests.crash.faults", Scale(0)),
    "kills": ("tests.crash.kills", Scale(300)),
    "outages": ("tests.model.outages.campaign", Scale(10_000)),
    "cuts": ("tests.model.cuts.campaign", Scale(10_000)),
    "cut servers": ("tests.crash.cut_servers", Scale(300)),
    "flips": ("tests.crash.flips", Scale(3_000)),
    "roots": ("tests.crash.stale_roots", Scale(2_000)),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="of the full scale")
    arguments = parser.parse_args()
    failed = [
        name for name in arguments.only if not _prove(name, arguments.seed, arguments.share).ok
    ]
    print(f"{len(arguments.only) - len(failed)} passed, {len(failed)} failed", flush=True)
    return 1 if failed else 0


def _prove(name: str, seed: int, share: float) -> Outcome:
    module, scale = PARTS[name]
    scale = Scale(int(scale.tries * share), scale.processes)
    began = time.monotonic()
    outcome: Outcome = importlib.import_module(module).prove(scale, seed)
    for line in (*outcome.lines, *(f"FAILED {text}" for text in outcome.failures)):
        print(f"{name}: {line}", flush=True)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
