"""Every legal image after a power cut: the part ``states`` of ``make crash``.

A real run of the real agent is recorded (`workload`); images that a power cut may have left at any
of its moments are made (`disk`, `choices`); the store is opened on each, and on some the whole
agent starts (`attempts`). Then the same is done with ten agents in which one promise is broken
on purpose (`controls`); the explorer has to find what each of them loses.

``python -m tests.crash.states --help``: one part alone, as ``make test`` runs it.
"""

from __future__ import annotations

import argparse
import fcntl
import pickle
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from tests.crash.again import killed_starts, second_cuts
from tests.crash.attempts import starts, stores, torn
from tests.crash.choices import Plan
from tests.crash.controls import BREAKS
from tests.crash.explorer import Prepare, Shard, Tally, explore
from tests.crash.history import RECOVERY, History, record
from tests.crash.proof import Outcome, Scale
from tests.crash.replay import describe, keep
from tests.crash.workload import PHASES, Run

#: For so many images at the level of the store, one start of a whole agent.
STORES_PER_START: Final = 25
#: For so many, one image whose recovery is recorded and cut again, at about so many places.
STORES_PER_CUT: Final = 5000
CUT_TRIES: Final = 400
CUTS_MIN: Final = 8
#: Images that are damaged beyond what a power cut may do.
TORN: Final = 200
#: Images among which a control has to be noticed.
CONTROL_TRIES: Final = 12_000


def prove(scale: Scale, seed: int) -> Outcome:
    """All of it: ``scale.tries`` images at the level of the store, and the rest in proportion."""
    processes = scale.processes
    history = recorded("none", short=False)
    stored, lines, failures = explore_stores(history, scale.tries, seed, processes)
    started, more, failed = explore_starts(
        history, scale.tries // STORES_PER_START, seed, processes
    )
    lines, failures = lines + more, failures + failed
    cuts = max(scale.tries // STORES_PER_CUT, CUTS_MIN)
    again, more, failed = explore_again(history, cuts, CUT_TRIES, seed, processes)
    lines, failures = lines + more, failures + failed
    wrong, more, failed = explore_torn(history, seed, processes)
    lines, failures = lines + more, failures + failed
    caught = 0
    for name in BREAKS:
        line, is_caught = explore_control(name, seed, processes)
        lines.append(line)
        caught += is_caught
        if not is_caught:
            failures.append(f"the control {name} was not noticed")
    stored.add(started)
    stored.add(again)
    stored.add(wrong)
    lines.append(
        f"{stored.states} states, {stored.checked} acked records checked, {stored.lost} lost,"
        f" {stored.doubled} twice, {stored.salvaged} salvages,"
        f" {caught} of {len(BREAKS)} controls caught, seed {seed}"
    )
    return Outcome(tuple(lines), tuple(failures))


def explore_stores(
    history: History, tries: int, seed: int, processes: int, shard: Shard | None = None
) -> tuple[Tally, list[str], list[str]]:
    """The store alone, on ``tries`` images; lines to print, and what went wrong."""
    plan = Plan.of(history, tries, seed)
    tally = explore(history, plan, stores(), processes=processes, shard=shard or Shard())
    lines = [
        f"{phase}: {len(tally.images.get(phase, ()))} distinct images opened" for phase in PHASES
    ]
    return tally, lines, _told(history, "stores", tally)


def explore_starts(
    history: History, tries: int, seed: int, processes: int, shard: Shard | None = None
) -> tuple[Tally, list[str], list[str]]:
    """Whole agents, on ``tries`` images."""
    # Another seed, so that these are not the ones whose stores were opened.
    plan = Plan.of(history, max(tries, _EVERY) * _EVERY, seed + 1)
    # Two images of each moment come whatever is wanted: where few are, they were most of all.
    always = 2 * sum(1 for _ in history.moments())
    each = replace(shard or Shard(), every=max(_EVERY, always // max(tries, 1)))
    tally = explore(history, plan, starts(), processes=processes, shard=each)
    line = f"{tally.tried} agents started on {tally.states} distinct images, and forwarded"
    return tally, [line], _told(history, "starts", tally)


#: Of the images that are drawn for whole agents each of so many, or those that every moment has
#: would be all.
_EVERY: Final = 12


def explore_again(
    history: History, count: int, tries: int, seed: int, processes: int
) -> tuple[Tally, list[str], list[str]]:
    """Recoveries from ``count`` images, and starts after one that was killed, cut once more:
    each into ``tries`` images.
    """
    total, failures = Tally(), []
    every = 1 if count > CUTS_MIN else 2
    for cut in chain(killed_starts(history, every), second_cuts(history, count, seed)):
        plan = Plan.of(cut, tries, seed)
        tally = explore(cut, plan, stores(), processes=processes)
        failures += _told(cut, "stores", tally)
        total.add(tally)
    line = f"{RECOVERY}: {total.states} distinct images opened, of recoveries that were cut again"
    return total, [line], failures


def explore_torn(
    history: History, seed: int, processes: int, broken: str = "none"
) -> tuple[Tally, list[str], list[str]]:
    """Half-written sectors, which no power cut leaves by assumption: nothing wrong is read."""
    plan = Plan.of(history, TORN * 30, seed)
    shard = Shard(every=30)
    caught = broken != "none"
    tally = explore(
        history, plan, torn(broken), processes=processes, shard=shard, until_failure=caught
    )
    line = f"{tally.checked} images with a torn sector: {len(tally.failures)} read wrong records"
    failures = [] if caught else _told(history, "torn", tally)
    # They are damaged and no states that a power cut leaves.
    tally.images.clear()
    tally.checked = 0
    return tally, [line], failures


def explore_control(name: str, seed: int, processes: int) -> tuple[str, bool]:
    """What tells of one control, and whether it was noticed."""
    history = recorded(name, short=True)
    if name == "crc-off":
        tally, _, _ = explore_torn(history, seed, processes, name)
    else:
        plan = Plan.of(history, CONTROL_TRIES, seed)
        prepare: Prepare = stores(name)
        # What goes wrong late in a run is met sooner when a few images of each moment come first.
        for shard in (Shard(every=_EVERY), Shard()):
            tally = explore(
                history, plan, prepare, processes=processes, shard=shard, until_failure=True
            )
            if tally.failures:
                break
    if not tally.failures:
        return f"control {name}: NOT noticed in {tally.tried} images", False
    first = min(tally.failures, key=lambda failure: failure.moment)
    return f"control {name}: noticed, image {tally.tried}: {first.problems[0][:120]}", True


def recorded(broken: str, *, short: bool) -> History:
    """A run of the real agent, recorded now."""
    with _folder() as folder:
        return record(Run(folder / "run", broken, short=short))


def _told(history: History, way: str, tally: Tally) -> list[str]:
    return [describe(history, failure, keep(history, way, failure)) for failure in tally.failures]


@contextmanager
def _folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    name = tempfile.mkdtemp(prefix="crash-run-", dir=shared if shared.is_dir() else None)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def _shared_history(path: Path) -> History:
    """The history in ``path``, recorded by whoever comes first."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_bytes(pickle.dumps(recorded("none", short=False)))
    found = pickle.loads(path.read_bytes())
    assert isinstance(found, History)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.states", description=__doc__)
    parser.add_argument("part", choices=["stores", "starts", "again", "torn", "control"])
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--shard", type=int, nargs=2, default=(0, 1), metavar=("NUMBER", "OF"))
    parser.add_argument("--control", choices=list(BREAKS))
    parser.add_argument("--history", type=Path, help="kept here for the others who try a part")
    given = parser.parse_args()
    if given.part == "control":
        line, caught = explore_control(given.control, given.seed, given.processes)
        print(line)
        return 0 if caught else 1
    if given.history is None:
        history = recorded("none", short=False)
    else:
        history = _shared_history(given.history)
    if given.part == "torn":
        _, lines, failures = explore_torn(history, given.seed, given.processes)
    else:
        if given.part == "again":
            tally, lines, failures = explore_again(
                history, CUTS_MIN, given.tries, given.seed, given.processes
            )
        else:
            way = explore_stores if given.part == "stores" else explore_starts
            shard = Shard(*given.shard)
            tally, lines, failures = way(history, given.tries, given.seed, given.processes, shard)
        lines.append(
            f"{tally.states} states, {tally.checked} acked records checked, {tally.lost} lost,"
            f" {tally.doubled} twice, {tally.salvaged} salvages, seed {given.seed}"
        )
    print(*lines, *(f"FAILED {text}" for text in failures), sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
