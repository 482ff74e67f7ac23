"""Tries the images of a recorded run in child processes, and adds up what came of it.

A child is forked from a process that has loaded everything, and goes through many images. Before
each it notes in shared memory which one it is, so that one that brings the child down (a signal
out of LMDB's maps, an abort) is known by name, and another child goes on behind it.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import shutil
import signal
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.crash.bench import make_bench, put
from tests.crash.choices import Plan, choices
from tests.crash.history import History, Moment
from tests.crash.images import Image, image_of
from tests.crash.inodes import Pending
from tests.crash.verdict import Verdict

#: Of one shard; more of them say nothing new.
FAILURES_MAX = 5
#: Whatever takes this long has come to a stop; the signal ends the child.
HANGS_S = 120
#: Attempts to find a smaller description of what went wrong.
_ATTEMPTS_MAX = 100
_PLACE = struct.Struct("qq")

Try = Callable[[Moment, Image], Verdict]
"""Starts something on the image, which lies in the bench, and judges it."""
Prepare = Callable[[History, Path], Try]
"""Called once in each child, with the bench."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image on which something went wrong: when the power was cut, what of the pending things
    survived, by number, and how many were pending.
    """

    moment: int
    phase: str
    chosen: tuple[int, ...]
    pending: int
    problems: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What came of it. ``images``: phase to the hashes of the distinct ones."""

    tried: int = 0
    checked: int = 0
    lost: int = 0
    doubled: int = 0
    salvaged: int = 0
    images: dict[str, set[bytes]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another shard found, too."""
        for name in ("tried", "checked", "lost", "doubled", "salvaged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for phase, hashes in other.images.items():
            self.images.setdefault(phase, set()).update(hashes)
        self.failures += other.failures

    @property
    def states(self) -> int:
        """Distinct images, over all phases."""
        return len(set().union(*self.images.values()))

    def count(self, phase: str, image: Image, verdict: Verdict) -> None:
        """One image was tried."""
        self.tried += 1
        self.checked += verdict.checked
        self.lost += verdict.lost
        self.doubled += verdict.doubled
        self.salvaged += verdict.salvaged
        self.images.setdefault(phase, set()).add(image.hash)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the work: every ``of``-th stretch of moments, beginning with the ``number``-th.

    ``every``: of the images that are drawn, only each ``every``-th is tried.
    """

    number: int = 0
    of: int = 1
    every: int = 1

    def has(self, moment: int) -> bool:
        # Stretches, and not single moments: neighbours share many images.
        return moment // 8 % self.of == self.number


def explore(
    history: History,
    plan: Plan,
    prepare: Prepare,
    *,
    processes: int = 1,
    shard: Shard = Shard(),  # frozen
    until_failure: bool = False,
) -> Tally:
    """Try what ``plan`` draws of ``shard``, in as many processes at a time."""
    shards = [
        Shard(shard.number + shard.of * part, shard.of * processes, shard.every)
        for part in range(processes)
    ]
    # Children that do not survive leave their benches behind.
    benches = make_bench()
    try:
        work = [(history, plan, prepare, each, until_failure, benches) for each in shards]
        total = Tally()
        for worker in [_Worker(*each) for each in work]:
            total.add(worker.result())
        return total
    finally:
        shutil.rmtree(benches, ignore_errors=True)


class _Worker:
    """One shard and the child that is at it; a new one where the child did not survive."""

    def __init__(
        self,
        history: History,
        plan: Plan,
        prepare: Prepare,
        shard: Shard,
        until_failure: bool,
        benches: Path,
    ) -> None:
        self._work = (history, plan, prepare, shard, until_failure, benches)
        self._place = mmap.mmap(-1, _PLACE.size)
        self._start((-1, 0))

    def result(self) -> Tally:
        """Wait for it."""
        total = Tally()
        while True:
            try:
                total.add(self._answer.recv())
            except EOFError:
                self._process.join()
                where = _PLACE.unpack(self._place[:])
                text = f"the process ended with {self._process.exitcode}"
                total.failures.append(Failure(where[0], "?", (), where[1], (text,)))
                if len(total.failures) >= FAILURES_MAX:
                    return total
                self._start(where)
            else:
                self._process.join()
                return total

    def _start(self, after: tuple[int, int]) -> None:
        context = multiprocessing.get_context("fork")
        self._answer, theirs = context.Pipe(duplex=False)
        work = (*self._work, after, self._place, theirs)
        self._process = context.Process(target=_run, args=work)
        with warnings.catch_warnings():
            # Threads that a test's own harness may have are none of the child's affair.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()


def _run(
    history: History,
    plan: Plan,
    prepare: Prepare,
    shard: Shard,
    until_failure: bool,
    benches: Path,
    after: tuple[int, int],
    place: mmap.mmap,
    answer: Connection,
) -> None:
    bench = make_bench(benches)
    tally = Tally()
    try:
        attempt = prepare(history, bench)
        promised: dict[str, int] | None = None
        # An image is tried again only where more has been promised since.
        seen: set[bytes] = set()
        for number, moment, chosen in _drawn(history, plan, shard):
            if (moment.index, number) <= after:
                continue
            place[:] = _PLACE.pack(moment.index, number)
            image = image_of(moment.disk.root, chosen)
            if moment.known.acked is not promised:
                promised = moment.known.acked
                seen.clear()
            if image.hash in seen:
                continue
            seen.add(image.hash)
            put(image, bench)
            signal.alarm(HANGS_S)
            verdict = attempt(moment, image)
            tally.count(moment.known.phase, image, verdict)
            if verdict.problems:

                def fails(fewer: list[Pending], moment: Moment = moment) -> bool:
                    return bool(_tried(attempt, moment, fewer, bench).problems)

                smaller = chosen if until_failure else smallest(moment, chosen, fails)
                tally.failures.append(_failure(moment, smaller, verdict.problems))
                if until_failure or len(tally.failures) >= FAILURES_MAX:
                    break
        # The last image is done. Whoever is to read this may be waiting for another shard still.
        signal.alarm(0)
        answer.send(tally)
    finally:
        answer.close()
    # Whatever an image's survivor left running ends here, without being waited for.
    os._exit(0)


def _tried(attempt: Try, moment: Moment, chosen: list[Pending], bench: Path) -> Verdict:
    image = image_of(moment.disk.root, chosen)
    put(image, bench)
    signal.alarm(HANGS_S)
    return attempt(moment, image)


def smallest(
    moment: Moment, chosen: list[Pending], fails: Callable[[list[Pending]], bool]
) -> list[Pending]:
    """Of images on which something goes wrong one that lacks as little as can be found, so that
    what is named as missing is what matters.
    """
    pending = moment.disk.pending
    there = {item.number for item in chosen}
    missing = [item.number for item in pending if item.number not in there]
    step, attempts = max(len(missing) // 2, 1), 0
    while missing and attempts < _ATTEMPTS_MAX:
        for begin in range(0, len(missing), step):
            fewer = set(missing[:begin] + missing[begin + step :])
            attempts += 1
            if fails([item for item in pending if item.number not in fewer]):
                missing = sorted(fewer)
                break
        else:
            if step == 1:
                break
            step = max(step // 2, 1)
    return [item for item in pending if item.number not in set(missing)]


def _drawn(
    history: History, plan: Plan, shard: Shard
) -> Iterator[tuple[int, Moment, list[Pending]]]:
    """What is to be tried: number, moment, what survives."""
    counted = 0
    for moment in history.moments():
        if not shard.has(moment.index):
            continue
        for number, chosen in enumerate(choices(moment, plan)):
            counted += 1
            if counted % shard.every == 0:
                yield number, moment, chosen


def _failure(moment: Moment, chosen: list[Pending], problems: list[str]) -> Failure:
    numbers = tuple(item.number for item in chosen)
    pending = len(moment.disk.pending)
    return Failure(moment.index, moment.known.phase, numbers, pending, tuple(problems))
