"""Many simulations, on several cores: `prove` for ``make crash``, `shrink` for what failed."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tests.crash.proof import Outcome, Scale
from tests.model.outages.controls import CONTROLS, caught
from tests.model.outages.plan import FAULTS, Plan, draw
from tests.model.outages.world import Result, simulate

Given = TypeVar("Given")
Got = TypeVar("Got")

#: For so many runs, one more in which full logs thin: of the others it is one in seven.
RUNS_PER_THINNING: Final = 4
#: Runs that shrinking a failed plan may take.
SHRINKING_RUNS = 80
#: A failed plan is told whole for this many seeds; the others have their command.
_SHRUNK_MAX = 3


def prove(scale: Scale, seed: int) -> Outcome:
    """``scale.tries`` outages, from ``seed`` on, and every negative control."""
    runs = -(-scale.tries // FAULTS)
    seeds = range(seed, seed + runs)
    results = _spread(_simulated, seeds, scale.processes)
    more = seeds[RUNS_PER_THINNING - 1 :: RUNS_PER_THINNING]
    thinned = _spread(_thinning, more, scale.processes)
    verdicts = _spread(caught, sorted(CONTROLS), scale.processes)
    missed = [name for name, at in zip(sorted(CONTROLS), verdicts, strict=True) if at is None]
    failed = [
        (draw(each, thins=thins), thins, result)
        for thins, tried, found in ((False, seeds, results), (True, more, thinned))
        for each, result in zip(tried, found, strict=True)
        if result.problems
    ]
    failures = [
        told(plan, result, thins=thins, shrunk=n < _SHRUNK_MAX)
        for n, (plan, thins, result) in enumerate(failed)
    ]
    failures += [f"the control was not caught: {name}" for name in missed]
    return Outcome(lines([*results, *thinned], len(CONTROLS) - len(missed), seed), tuple(failures))


def lines(results: Sequence[Result], controls: int, seed: int) -> tuple[str, ...]:
    """What was tried and what came of it."""
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.counts)
    what = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    hours = sum(result.seconds for result in results) / 3600
    bad = sum(bool(result.problems) for result in results)
    tried = (
        f"{sum(result.outages for result in results):,} outages in {len(results)} simulations of"
        f" {hours:,.0f} hours, {sum(result.acked for result in results):,} records acked,"
        f" {sum(result.discarded for result in results):,} discarded and counted,"
        f" {bad} simulations with a loss, a duplicate or a backlog that stays,"
        f" {controls} of {len(CONTROLS)} controls caught, seed {seed}"
    )
    return (what, tried)


def told(plan: Plan, result: Result, *, shrunk: bool, thins: bool = False) -> str:
    """A failure, the faults that it takes, and the command that replays it."""
    text = "; ".join(result.problems[:3])
    command = f"python -m tests.model.outages --replay {plan.seed}" + " --thins" * thins
    if not shrunk:
        return f"{text}\n  replay: {command}"
    return f"{text}\n{shrink(plan)}\n  replay: {command}"


def shrink(plan: Plan, runs: int = SHRINKING_RUNS) -> Plan:
    """The plan with every fault left out without which it fails as well, the last ones first."""
    smaller = _half(plan)
    for index in reversed(range(len(smaller.faults))):
        if runs <= 0:
            break
        runs -= 1
        candidate = smaller.without(index)
        if simulate(candidate, to_the_end=False).problems:
            smaller = candidate
    return smaller


def _half(plan: Plan) -> Plan:
    """Without its end, as far as it fails without: one run takes half of the faults away."""
    size = len(plan.faults) // 2
    while size:
        shorter = Plan(plan.seed, plan.shape, plan.faults[:-size])
        if simulate(shorter, to_the_end=False).problems:
            plan = shorter
        size //= 2
    return plan


def _simulated(seed: int) -> Result:
    return simulate(draw(seed))


def _thinning(seed: int) -> Result:
    return simulate(draw(seed, thins=True))


def _spread(work: Callable[[Given], Got], given: Sequence[Given], processes: int) -> list[Got]:
    """``work`` on each, in order, on as many cores."""
    if processes < 2 or len(given) < 2:
        return [work(each) for each in given]
    # Not forked: Trio's state and LMDB's must be each process's own.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(work, given, chunksize=1)
