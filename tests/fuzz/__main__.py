"""``python -m tests.fuzz``: so many inputs of a seed, and what they came to; see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import trio

from tests.fuzz import pure, real
from tests.fuzz.singing import RATIO_MAX, is_slow, p99


def main() -> int:
    """Run; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--pure", type=int, default=200_000, help="inputs for the pure cores")
    parser.add_argument("--real", type=int, default=10_000, help="inputs for real processes")
    parser.add_argument("--share", type=float, default=1.0, help="a part of both")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    pure_inputs, real_inputs = (
        max(1, round(count * options.share)) for count in (options.pure, options.real)
    )
    begun = time.monotonic()
    cores = try_pure(pure_inputs, options.seed, workers=2)
    print(f"pure: {sum(cores.inputs.values()):,} inputs ({shown(cores.inputs)}), "
          f"{len(cores.finds)} found; {time.monotonic() - begun:.0f} s")  # fmt: skip
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = trio.run(real.run, Path(folder), real_inputs, options.seed)
    deaths = sum("ended" in find for find in report.finds)
    print(
        f"real: {sum(report.inputs.values()):,} inputs ({shown(report.inputs)}): {deaths} deaths,"
        f" {len(report.finds) - deaths} unhandled, {len(report.canary_errors)} canary errors,"
        f" its p99 {p99(report.fuzzed) * 1000:.0f} ms, usually"
        f" {p99(report.usual) * 1000:.0f} ms: {report.ratio:.2f} times;"
        f" {time.monotonic() - begun:.0f} s, seed {options.seed}"
    )
    for find in (cores.finds + report.finds + report.canary_errors)[:50]:
        print(f"  {find}")
    has_waited = is_slow(report.fuzzed, report.usual)
    if has_waited:
        print(f"  the canary's p99 is more than {RATIO_MAX} times its usual one")
    return bool(cores.finds or report.finds or report.canary_errors or has_waited)


def try_pure(count: int, seed: int, workers: int) -> pure.Found:
    """The pure part, by so many processes."""
    share = -(-count // workers)
    parts = [(share, seed, share * worker) for worker in range(workers)]
    with get_context("spawn").Pool(workers) as pool:
        found = pool.starmap(pure.run, parts)
    whole = pure.Found()
    for part in found:
        whole.inputs += part.inputs
        whole.finds += part.finds
    return whole


def shown(inputs: dict[str, int]) -> str:
    """How many of which kind."""
    return ", ".join(f"{count:,} {kind}" for kind, count in inputs.items())


if __name__ == "__main__":
    sys.exit(main())
