"""Many simulations on several cores, for ``make crash``: so many cuts for each kind of server."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tests.crash.proof import Outcome, Scale
from tests.model.cuts.controls import CONTROLS, caught
from tests.model.cuts.servers import SERVERS
from tests.model.cuts.world import Result, simulate

Given = TypeVar("Given")
Got = TypeVar("Got")
#: Simulations at a time, of each kind, until there were enough cuts.
_ROUND: Final = 8


def prove(scale: Scale, seed: int) -> Outcome:
    """``scale.tries`` cuts on the way to each kind of server, and every negative control."""
    found: dict[str, list[Result]] = defaultdict(list)
    at = seed
    while wanting := [
        name for name in SERVERS if sum(one.cuts for one in found[name]) < scale.tries
    ]:
        tried = [(name, each) for each in range(at, at + _ROUND) for name in wanting]
        for result in _spread(_simulated, tried, scale.processes):
            found[result.server].append(result)
        at += _ROUND
    missed = _spread(_missed, sorted(CONTROLS), scale.processes)
    failures = [
        f"{one.server}: {'; '.join(one.problems)}\n  replay: python -m tests.model.cuts"
        f" {one.server!r} {one.seed}"
        for results in found.values()
        for one in results
        if one.problems
    ]
    failures += [f"the control was not caught: {name}" for name in missed if name]
    lines = [_line(name, results) for name, results in found.items()]
    done = sum(not name for name in missed)
    lines.append(f"{done} of {len(CONTROLS)} controls caught, seeds {seed} to {at - 1}")
    return Outcome(tuple(lines), tuple(failures))


def _line(name: str, results: Sequence[Result]) -> str:
    cuts, unheard, kills, repeats = (
        sum(getattr(one, what) for one in results)
        for what in ("cuts", "unheard", "kills", "repeats")
    )
    bad = sum(bool(one.problems) for one in results)
    again = "" if SERVERS[name]().once else f", {repeats:,} records there again under their ids"
    return (
        f"{name}: {cuts:,} cuts, {unheard:,} acknowledgements lost, {kills:,} kills of the agent,"
        f" {bad} of {len(results)} simulations with a loss or a duplicate{again}"
    )


def _simulated(given: tuple[str, int]) -> Result:
    return simulate(*given)


def _missed(name: str) -> str:
    return "" if caught(name) is not None else name


def _spread(work: Callable[[Given], Got], given: Sequence[Given], processes: int) -> list[Got]:
    if processes < 2:
        return [work(each) for each in given]
    # Not forked: Trio's state and LMDB's must be each process's own.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(work, given, chunksize=1)
