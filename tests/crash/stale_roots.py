"""Roots that the card never wrote: a store whose root is 1 to 8 writes old gives back or counts.

Some commits on a card that loses writes of roots: stores of many shapes, with logs that were
trimmed and that were not, thinned, with small blocks and large ones, closed or cut off. One of the
two roots, or both, are set back to what their slot held up to eight writes before, which is as many
as 17 commits; in every other store some other page is lost as well. Then what the agent's start
does; all that comes back is compared with all that was acked.

What is checked: each record that was acked and not trimmed is there, once and as it was; or it is
counted, as missing or as possibly lost, and readers are told of a gap "damaged" in its place.

One case nobody can tell from a power cut: a store was not closed, the last root of all was not
written, and the two before are there. It is counted apart, as what it looks like: a commit that was
cut short.

Replay one: ``python -m tests.crash.stale_roots SEED HISTORY``.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from edge_agent.errors import StoreFull
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import Engine, Entry, Gap, Position, Quarantined
from edge_agent.store.format.keys import STAMP
from edge_agent.store.lmdb_file.pages import ROOT_BYTES, PageFile
from edge_agent.store.settings import ConsumerSettings, LogSettings, StoreSettings, WhenFull
from edge_agent.store.tools.check import check_store
from tests.crash.flips import scratch
from tests.crash.proof import Outcome, Scale
from tests.manual_clock import ManualClock
from tests.store.support import MIB, START_NS, entry, read_all, records, seeded

#: How many writes of its slot a root is old, and so how many stores come of one history.
GENERATIONS = 8
#: Some stores are sealed.
KEYS = KeyRing((bytes(32),), os.urandom)
STORES_PER_HISTORY = 3 * GENERATIONS
LOGS = {"main": "a/1", "alarms": "alarms/x"}
OUTCOMES = ("back", "counted", "as if cut", "WRONG")
Roots = list[list[tuple[int, bytes]]]


@dataclass(slots=True)
class History:
    """A store: its file, the roots that each slot held, and what was acked. ``closed``: its note of
    the last commit, b"" where it was cut off.

    ``others``: pages that may be lost besides. ``acked``: by log, what each seq holds, None for an
    aggregate. ``by_commit``: the last seq of each log by commit.
    """

    data: bytes
    page_bytes: int
    settings: StoreSettings
    roots: Roots
    acked: dict[str, dict[int, int | None]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    by_commit: dict[int, dict[str, int]] = field(default_factory=dict)
    closed: bytes = b""
    others: list[int] = field(default_factory=list)

    def back(self, slot: int, generation: int) -> tuple[int, bytes]:
        """What lay in a slot so many writes before, and of which commit."""
        return self.roots[slot][max(len(self.roots[slot]) - 1 - generation, 0)]


@dataclass(frozen=True, slots=True)
class Came:
    """What came of one store; ``wrong`` is empty where all is as promised."""

    outcome: str
    trimmed: bool
    absent: int = 0
    missing: int = 0
    possible: int = 0
    wrong: str = ""


def prove(scale: Scale, seed: int) -> Outcome:
    """So many stores, some of each history."""
    histories = range(-(-scale.tries // STORES_PER_HISTORY))
    # What a salvage says of itself two thousand times is not what is asked here.
    quiet = (logging.disable, (logging.CRITICAL,))
    with ProcessPoolExecutor(scale.processes, get_context("fork"), *quiet) as pool:
        jobs = ((seed, number) for number in histories)
        came = [one for found in pool.map(_try, *zip(*jobs, strict=True)) for one in found]
    failures = tuple(
        f"{one.wrong}; python -m tests.crash.stale_roots {seed} {at // STORES_PER_HISTORY}"
        for at, one in enumerate(came)
        if one.wrong
    )
    counts = Counter(one.outcome for one in came)
    told = ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES[:-1])
    line = (
        f"{len(came):,} stores with a root of 1 to {GENERATIONS} writes before,"
        f" {sum(one.trimmed for one in came):,} of them trimmed: {told}"
        f" ({sum(one.absent for one in came):,} records are not there;"
        f" {sum(one.missing for one in came):,} told as missing,"
        f" {sum(one.possible for one in came):,} as possibly lost);"
        f" {len(failures)} silent or wrong; seed {seed}"
    )
    return Outcome((line,), failures)


def _try(seed: int, number: int) -> list[Came]:
    with tempfile.TemporaryDirectory(prefix="roots-", dir=scratch()) as folder:
        history = build(Path(folder) / "base", random.Random(f"{seed} {number}"))
        return list(try_all(Path(folder), history))


def try_all(folder: Path, history: History) -> Iterator[Came]:
    """Each slot, and both, set back by each number of writes."""
    for slots in ((0,), (1,), (0, 1)):
        for generation in range(1, GENERATIONS + 1):
            roots = {slot: history.back(slot, generation) for slot in slots}
            told = " and ".join(f"slot {slot} at commit {txn}" for slot, (txn, _) in roots.items())
            lost = history.others[generation : generation + generation % 2]
            yield try_one(folder, history, roots, lost, f"{told}, without the pages {lost}")


def try_one(
    folder: Path, history: History, roots: dict[int, tuple[int, bytes]], lost: list[int], name: str
) -> Came:
    """Put the roots in their slots, let the agent's start have the file, and compare."""
    path = folder / "tried"
    (path / "store").mkdir(parents=True)
    raw = bytearray(history.data)
    size = history.page_bytes
    for slot, (_, root) in roots.items():
        raw[slot * size : slot * size + len(root)] = root
    for number in lost:
        raw[number * size : number * size + size] = bytes(size)
    if history.closed:
        (path / "store" / "closed").write_bytes(history.closed)
    (path / "store" / "data.mdb").write_bytes(raw)
    try:
        return _compared(path, history, name)
    except Exception as error:  # noqa: BLE001 - told as what is wrong with this store
        return Came("WRONG", False, wrong=f"{name}: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(path, ignore_errors=True)


def build(path: Path, dice: random.Random) -> History:
    """A store of some shape, after some commits, as it is when the agent has stopped."""
    settings, pads = _shape(dice)
    engine = Engine.open(path, settings, clock=ManualClock(), entropy=seeded(dice.getrandbits(30)))
    data = path / "store" / "data.mdb"
    history = History(b"", 0, settings, [[], []])
    _note(data, engine, history)
    commits = dice.randrange(20, 120)
    for turn in range(commits):
        _commit(engine, dice, pads, turn)
        _note(data, engine, history)
        if dice.random() < 0.03:
            engine.close()
            engine = Engine.open(path, settings, clock=ManualClock(), entropy=os.urandom)
            _note(data, engine, history)
    for log in LOGS:
        history.first[log] = engine.first_seq(log)
        history.acked[log] = {one.seq: one.fields.get("v") for one in records(engine, log)}
    engine.close()
    _note(data, engine, history)
    history.data = data.read_bytes()
    if dice.random() < 0.5 and (data.parent / "closed").exists():
        history.closed = (data.parent / "closed").read_bytes()
    history.others = _others(data)
    dice.shuffle(history.others)
    return history


def _others(data: Path) -> list[int]:
    """Pages in use but for those that alone could tell of their commit."""
    with PageFile(data) as pages:
        size = pages.page_bytes
        used = ((number, pages.read(number * size, size)) for number in range(2, pages.meta.last))
        return [number for number, page in used if STAMP + b"\x91\xcf" not in page]


def _shape(dice: random.Random) -> tuple[StoreSettings, tuple[int, ...]]:
    ring = dice.random() < 0.6
    policies: tuple[WhenFull, ...] = ("discard-oldest", "discard-oldest", "thin-oldest")
    policy = dice.choice(policies)
    consumers = tuple(ConsumerSettings("upstream/hub", log) for log in LOGS)
    settings = StoreSettings(
        size=MIB // 2 if ring else 3 * MIB,
        block_bytes=16 * 1024,
        compression_level=dice.choice([0, 1]),
        logs=(
            LogSettings("alarms", ("alarms/**",), share=0.1 if ring else 0.2),
            LogSettings("main", share=0.2 if ring else 0.4, when_full=policy),
        ),
        consumers=consumers if dice.random() < 0.6 else (),
        keys=KEYS if dice.random() < 0.3 else OPEN,
    )
    pads = dice.choice([(0, 40), (0, 40, 300, 1500), (1500, 3000)])
    return settings, pads


def _commit(engine: Engine, dice: random.Random, pads: tuple[int, ...], turn: int) -> None:
    log, stream = dice.choice([("main", "a/1"), *LOGS.items()])
    source = f"pi-{dice.randrange(6)}"
    first = engine.next_of(source) or 1
    value = dice.randrange(10**12)
    kinds: dict[str, Any] = {
        "source": source,
        "stream": stream,
        "pad": dice.choice(pads),
        "value": value,
    }
    entries = [entry(dice.randrange(1, 9), first, **kinds)]
    if turn % 7 == 6:
        bad = Quarantined("bad_time", "why", "a", "pi", 0, START_NS + turn, bytes(50))
        entries.append(Entry(quarantine=(bad,)))
    if turn % 5 == 4:
        floor = max(engine.last_seq(log) - dice.randrange(20), 0)
        floor = max(floor, engine.position("upstream/hub", log)[0])
        entries.append(Entry(positions=(Position("upstream/hub", log, floor),)))
    for answer in engine.commit(entries).answers:
        assert not isinstance(answer, StoreFull), answer


def _note(data: Path, engine: Engine, history: History) -> None:
    """Remember the roots that were written since."""
    before = history.by_commit.get(max(history.by_commit, default=0), dict.fromkeys(LOGS, 0))
    with PageFile(data) as pages:
        history.page_bytes = pages.page_bytes
        for slot, meta in enumerate(pages.metas):
            assert meta is not None
            held = history.roots[slot]
            if not held or held[-1][0] != meta.txn:
                held.append((meta.txn, pages.read(slot * pages.page_bytes, ROOT_BYTES)))
                # Room is made in commits of its own, before.
                history.by_commit[meta.txn] = before
    history.by_commit[max(history.by_commit)] = {log: engine.last_seq(log) for log in LOGS}


def _compared(path: Path, history: History, name: str) -> Came:
    wrong: list[str] = []
    with PageFile(path / "store" / "data.mdb") as pages:
        left = sorted(0 if meta is None else meta.txn for meta in pages.metas)
    newest = max(held[-1][0] for held in history.roots)
    engine = Engine.open(path, history.settings, clock=ManualClock(), entropy=os.urandom)
    report = engine.salvage_report
    cut = report is None and left == [newest - 2, newest - 1]
    absent = 0
    for log, acked in history.acked.items():
        upto = history.by_commit[newest - 1][log] if cut else max(acked, default=0)
        found = [(record.seq, record.fields.get("v")) for record in records(engine, log)]
        gaps = [item for item in read_all(engine, log) if isinstance(item, Gap)]
        told = {gap.reason: gap for gap in gaps}
        lost = acked.keys() - {seq for seq, _ in found}
        lost = {seq for seq in lost if seq <= upto}
        # Where nothing was salvaged, a gap alone tells of a block.
        absent += sum(report is not None or not _in(gaps, seq) for seq in lost)
        if len({seq for seq, _ in found}) != len(found):
            wrong.append(f"{log}: records come twice")
        if any(
            None not in (pair := {acked.get(seq), value}) and len(pair) > 1 for seq, value in found
        ):
            wrong.append(f"{log}: records are not what was stored")
        damaged = told.get("damaged")
        if lost and (damaged is None or not any(_in(gaps, seq) for seq in lost)):
            wrong.append(
                f"{log}: {len(lost)} records are missing without a gap: {sorted(lost)[:3]}"
            )
    engine.close()
    wrong += [
        one for one in check_store(path).problems[:2] if report is not None or "fails" not in one
    ]
    missing, possible = (0, 0) if report is None else (report["missing"], report.get("possible", 0))
    if absent > missing + possible:
        wrong.append(f"{absent} acked records are not there, {missing} and {possible} are told")
    outcome = "as if cut" if cut else "counted" if absent else "back"
    trimmed = any(first > 1 for first in history.first.values())
    told_wrong = f"{name}: {'; '.join(wrong[:4])}" if wrong else ""
    return Came("WRONG" if wrong else outcome, trimmed, absent, missing, possible, told_wrong)


def _in(gaps: list[Gap], seq: int) -> bool:
    return any(gap.first <= seq <= gap.last and gap.reason == "damaged" for gap in gaps)


def replay(seed: int, number: int) -> None:
    """One history again: what came of each of its stores."""
    for came in _try(seed, number):
        print(came)


if __name__ == "__main__":
    import sys

    replay(int(sys.argv[1]), int(sys.argv[2]))
