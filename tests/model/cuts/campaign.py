"""Many simulations on several cores, for ``make crash``: so many cuts for each kind of server."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio

from tests.crash.proof import Outcome, Scale
from tests.forward.sinks.postgres.server import end_servers
from tests.model.cuts.controls import CONTROLS, RELAYED_CONTROLS, caught
from tests.model.cuts.relayed import RELAYED
from tests.model.cuts.servers import SERVERS
from tests.model.cuts.world import Result, relayed, simulate

Given = TypeVar("Given")
Got = TypeVar("Got")
#: Simulations at a time, of each kind, until there were enough cuts.
_ROUND: Final = 8
#: Simulations with real servers at a time, of each kind.
_AT_ONCE: Final = 4


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
    for result in _relayed(scale.tries, seed):
        found[result.server].append(result)
    missed = _spread(_missed, sorted(set(CONTROLS) - set(RELAYED_CONTROLS)), scale.processes)
    missed += map(_missed, sorted(RELAYED_CONTROLS)) if RELAYED else []
    end_servers()
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
    is_once = name != "kafka" if name in RELAYED else SERVERS[name]().once
    again = "" if is_once else f", {repeats:,} records there again under their ids"
    return (
        f"{name}: {cuts:,} cuts, {unheard:,} acknowledgements lost, {kills:,} kills of the agent,"
        f" {bad} of {len(results)} simulations with a loss or a duplicate{again}"
    )


def _relayed(tries: int, seed: int) -> list[Result]:
    """Simulations with real servers: in this process, which their own ends with, some at a time, as
    they wait for their clients most of the time.
    """
    found: list[Result] = []

    async def one_after_the_other(name: str, first: int, wanted: float) -> None:
        cuts = 0
        while cuts < wanted:
            found.append(await relayed(name, first))
            cuts, first = cuts + found[-1].cuts, first + _AT_ONCE

    async def all_of_them() -> None:
        async with trio.open_nursery() as nursery:
            for name, (_, share) in RELAYED.items():
                for n in range(_AT_ONCE):
                    wanted = tries * share / _AT_ONCE
                    nursery.start_soon(one_after_the_other, name, seed + n, wanted)

    trio.run(all_of_them)
    return found


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
