"""Flipped bits in a full store: each is detected or means nothing, and costs one block at most.

A store that is full, after its ring has turned over several times, with three logs, sources,
positions, quarantine, blocks small and large. One bit of its file is flipped, in the meta pages, in
the branch and leaf pages of both trees, or in the pages of long values. Then, in a forked child,
what the agent's start does: open it, read all of it; more is appended, until the oldest is trimmed;
it is opened once more and read again, and the independent checker looks at it.

What is checked: no signal ends the child. Nothing is read that was not stored, nothing twice, all
in order; what is missing is one block, and a gap says so. No acked commit is taken back. Positions
and next numbers are what they were, or on the safe side in a store with a new epoch.

Replay one: ``python -m tests.crash.flips SEED AREA BIT``.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from edge_agent.store import Engine
from edge_agent.store.tools.check import check_store
from tests.crash.flipped import AREAS, Area, areas_of, place_of
from tests.crash.full_store import SETTINGS, Held, append, build, held_by
from tests.crash.proof import Outcome, Scale
from tests.manual_clock import ManualClock

#: What a child may take; far more than any needs.
CHILD_S = 60
OUTCOMES = ("harmless", "mended", "set aside", "salvaged", "block lost", "WRONG")
#: "harmless": nothing reads that bit. "mended": a root was written anew. "set aside": a block or an
#: entry of quarantine, and no more. "salvaged": read back whole. "block lost": but for one block.
_BATCH = 25


@dataclass(frozen=True, slots=True)
class Flip:
    """One try. ``place`` says what the bit means."""

    area: str
    bit: int
    place: str


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it; ``wrong`` is empty where all is as promised."""

    flip: Flip
    outcome: str
    wrong: str


def prove(scale: Scale, seed: int) -> Outcome:
    """A third of the tries in each area."""
    with tempfile.TemporaryDirectory(prefix="flips-", dir=scratch()) as folder:
        base = Path(folder) / "base"
        held = build(base, seed)
        jobs = [
            (folder, seed, area, begin, min(begin + _BATCH, -(-scale.tries // len(AREAS))))
            for area in AREAS
            for begin in range(0, -(-scale.tries // len(AREAS)), _BATCH)
        ]
        came: list[Came] = []
        with ProcessPoolExecutor(scale.processes, mp_context=get_context("fork")) as pool:
            for results in pool.map(_run, *zip(*((*job, held) for job in jobs), strict=True)):
                came += results
        fill = held.fill
    failures = tuple(
        f"{one.flip.area} bit {one.flip.bit} ({one.flip.place}): {one.wrong};"
        f" python -m tests.crash.flips {seed} {one.flip.area} {one.flip.bit}"
        for one in came
        if one.wrong
    )
    return Outcome((*table(came), _closing(came, fill, seed)), failures)


def table(came: Sequence[Came]) -> Iterator[str]:
    """Outcomes by area, and within it by what the bit meant."""
    yield f"{'':34}{''.join(f'{name:>11}' for name in OUTCOMES)}"
    for area in AREAS:
        mine = [one for one in came if one.flip.area == area]
        yield _row(area, mine)
        for place in sorted({one.flip.place for one in mine}):
            yield _row(f"  {place}", [one for one in mine if one.flip.place == place])


def _row(name: str, came: Sequence[Came]) -> str:
    counts = Counter(one.outcome for one in came)
    return f"{name:34}{''.join(f'{counts[outcome]:>11,}' for outcome in OUTCOMES)}"


def _closing(came: Sequence[Came], fill: float, seed: int) -> str:
    counts = Counter(one.outcome for one in came)
    wrong = sum(bool(one.wrong) for one in came)
    told = ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES[:-1])
    return (
        f"{len(came):,} flips in a store {fill:.0%} full: {told}; {wrong} undetected, wrong or"
        f" ended by a signal; seed {seed}"
    )


def _run(folder: str, seed: int, area: str, begin: int, end: int, held: Held) -> list[Came]:
    data = (Path(folder) / "base" / "store" / "data.mdb").read_bytes()
    where = areas_of(Path(folder) / "base")[area]
    came = []
    for number in range(begin, end):
        dice = random.Random(f"{seed} {area} {number}")
        came.append(try_flip(Path(folder), data, _choose(where, area, dice), held))
    return came


def _choose(where: Area, area: str, dice: random.Random) -> Flip:
    byte = dice.choice(where.telling if dice.random() < 0.7 else where.pages)
    at = dice.randrange(*byte)
    return Flip(area, at * 8 + dice.randrange(8), place_of(where, at))


def try_flip(folder: Path, data: bytes, flip: Flip, held: Held) -> Came:
    """Flip the bit and let a child start on what results."""
    path = Path(tempfile.mkdtemp(prefix="flip-", dir=folder))
    try:
        (path / "store").mkdir()
        turned = bytearray(data)
        turned[flip.bit // 8] ^= 1 << flip.bit % 8
        (path / "store" / "data.mdb").write_bytes(turned)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _child(path, held, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Came(flip, "WRONG", f"ended by {name}")
    outcome, wrong = json.loads(told)
    return Came(flip, "WRONG" if wrong else outcome, wrong)


def _child(path: Path, held: Held, pipe: int) -> None:
    """Never returns."""
    # A signal is told by the parent, in one line.
    faulthandler.disable()
    signal.alarm(CHILD_S)
    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logging.getLogger().handlers = [Listening()]
    try:
        answer = _live_on(path, held, told)
    except BaseException as error:  # noqa: BLE001 - told by the parent
        answer = ("WRONG", f"{type(error).__name__}: {error}"[:500])
    os.write(pipe, json.dumps(answer).encode())
    os._exit(0)


def _live_on(path: Path, held: Held, told: list[str]) -> tuple[str, str]:
    wrong: list[str] = []
    engine = _open(path)
    missing = _compare(engine, held, wrong)
    salvaged = engine.salvage_report is not None
    if salvaged != (engine.identity.epoch != held.epoch):
        wrong.append(f"salvaged: {salvaged}, but not the epoch alike")
    # So much that the oldest is trimmed, and with it whatever the bit did to its pages.
    added = append(engine, held, wrong)
    trimmed = {log: engine.first_seq(log) for log in engine.logs()}
    if engine.identity.epoch != added.epoch:
        wrong.append("salvaged in the middle of its life only")
    engine.close()
    mended = any("mended" in text for text in told)
    engine = _open(path)
    _compare(engine, added, wrong, trimmed, missing)
    if salvaged != (engine.salvage_report is not None):
        wrong.append("the salvage is not told at the second start")
    engine.close()
    problems = check_store(path).problems
    aside = [text for text in problems if "checksum" in text]
    if not salvaged:
        # What is set aside stays where it is, and the checker goes on saying so.
        problems = [text for text in problems if text not in aside]
    wrong += problems[:2]
    if len(missing) > 1:
        wrong.append(f"more than one block is missing: {missing[:3]}")
    outcome = "salvaged" if salvaged else "mended" if mended else "harmless"
    if missing or aside:
        outcome = "block lost" if salvaged else "set aside"
    return outcome, "; ".join(wrong[:4])


def _open(path: Path) -> Engine:
    return Engine.open(path, SETTINGS, clock=ManualClock(), entropy=os.urandom)


def _compare(
    engine: Engine,
    held: Held,
    wrong: list[str],
    trimmed: dict[str, int] | None = None,
    known: Sequence[tuple[str, int]] = (),
) -> list[tuple[str, int]]:
    """What is missing; what is wrong is added to ``wrong``."""
    missing: list[tuple[str, int]] = []
    for log, expected in held.blocks.items():
        found, gaps = held_by(engine, log, wrong)
        floor = (trimmed or {}).get(log, 0)
        for first, (last, digest) in expected.items():
            if first in found:
                if found[first] != (last, digest):
                    wrong.append(f"{log}: block {first} is not what was stored")
            elif first >= floor:
                missing.append((log, first))
                if not any(gap.first <= first and last <= gap.last for gap in gaps):
                    wrong.append(f"{log}: block {first} to {last} is missing without a gap")
        if found.keys() - expected.keys():
            wrong.append(f"{log}: blocks {sorted(found.keys() - expected.keys())[:3]} were not")
        if engine.last_seq(log) < held.last[log]:
            wrong.append(f"{log} ends at {engine.last_seq(log)}, {held.last[log]} was acked")
    if known and set(missing) - set(known):
        wrong.append(
            f"missing after the second start only: {sorted(set(missing) - set(known))[:3]}"
        )
    _compare_small(engine, held, wrong)
    return missing


def _compare_small(engine: Engine, held: Held, wrong: list[str]) -> None:
    positions = {key: engine.position(*key)[0] for key in held.positions}
    numbers = {source: engine.next_of(source) for source in held.next}
    kept = len(engine.quarantine(0, 10_000))
    # Asking may meet damage, and the store is salvaged while it is open: then the epoch is new.
    new_epoch = engine.identity.epoch != held.epoch
    for (consumer, log), found in positions.items():
        floor = held.positions[(consumer, log)]
        if not (found == floor or (new_epoch and found < floor)):
            wrong.append(f"{consumer} is at {found} of {log}, was at {floor}")
    for source, found in numbers.items():
        number = held.next[source]
        if not (found == number or (new_epoch and found < number)):
            wrong.append(f"{source} is expected at {found}, was at {number}")
    if not (kept == held.quarantined or (new_epoch and kept == held.quarantined - 1)):
        wrong.append(f"{kept} in quarantine, were {held.quarantined}")


def scratch() -> str | None:
    """Memory: what is flipped is a copy, and syncs are no matter here."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def replay(seed: int, area: str, bit: int) -> None:
    """One flip again, told in full."""
    with tempfile.TemporaryDirectory(prefix="flips-", dir=scratch()) as folder:
        base = Path(folder) / "base"
        held = build(base, seed)
        where = areas_of(base)[area]
        data = (base / "store" / "data.mdb").read_bytes()
        print(try_flip(Path(folder), data, Flip(area, bit, place_of(where, bit // 8)), held))


if __name__ == "__main__":
    import sys

    replay(int(sys.argv[1]), " ".join(sys.argv[2:-1]), int(sys.argv[-1]))
