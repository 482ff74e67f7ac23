"""A small store that is full in every way, and what it holds; for whoever wants to damage it."""

from __future__ import annotations

import hashlib
import random
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_agent.errors import StoreFull
from edge_agent.store import Engine, Entry, Gap, Position, Quarantined
from edge_agent.store.settings import ConsumerSettings, LogSettings, StoreSettings
from tests.manual_clock import ManualClock
from tests.store.support import MIB, START_NS, entry, seeded

CONSUMERS = ("upstream/hub", "upstream/cloud")
SOURCES = tuple(f"pi-{number}" for number in range(12))
LOGS = {"main": "a/1", "alarms": "alarms/x", "bulk": "bulk/y"}
SETTINGS = StoreSettings(
    size=MIB * 5 // 4,
    block_bytes=64 * 1024,
    compression_level=1,
    quarantine_share=0.03,
    logs=(
        LogSettings("alarms", ("alarms/**",), share=0.1),
        LogSettings("bulk", ("bulk/**",), share=0.35),
        LogSettings("main", share=0.3),
    ),
    consumers=tuple(ConsumerSettings(name, log) for name in CONSUMERS for log in LOGS),
)
#: Bytes of padding in each record: blocks within leaf pages, of one page, of many.
PADS = (0, 40, 300, 1500)


Blocks = dict[int, tuple[int, int]]
"""First seq of each block to its last one and a digest of all that it holds."""


@dataclass(slots=True)
class Held:
    """What a store holds."""

    epoch: str
    fill: float
    blocks: dict[str, Blocks] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    next: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0


def build(path: Path, seed: int) -> Held:
    """Fill a store until each log's ring has turned over three times."""
    dice = random.Random(seed)
    engine = Engine.open(path, SETTINGS, clock=ManualClock(), entropy=seeded(seed))
    numbers = dict.fromkeys(SOURCES, 1)
    turns = 0
    while min(engine.first_seq(log) for log in LOGS) == 1 or turns < 700:
        turns += 1
        entries = [_entry(dice, numbers) for _ in range(dice.randrange(1, 4))]
        if turns % 7 == 0:
            entries.append(Entry(quarantine=(_quarantined(turns, dice.choice((10, 3000))),)))
        if turns % 5 == 0:
            entries.append(_positions(engine, dice))
        for answer in engine.commit(entries).answers:
            assert not isinstance(answer, StoreFull), answer
    filled = engine.statistics()
    shares = [(log.bytes, log.share_bytes) for log in filled.logs.values()]
    held = Held(engine.identity.epoch, sum(a for a, _ in shares) / sum(b for _, b in shares))
    wrong: list[str] = []
    for log in LOGS:
        held.blocks[log], _ = held_by(engine, log, wrong)
        held.last[log] = engine.last_seq(log)
        for name in CONSUMERS:
            held.positions[(name, log)] = engine.position(name, log)[0]
    held.next = {source: engine.next_of(source) for source in SOURCES}
    held.quarantined = len(engine.quarantine(0, 10_000))
    engine.close()
    assert not wrong
    return held


def append(engine: Engine, held: Held, wrong: list[str]) -> Held:
    """Store more in each log, so that its oldest is trimmed; what is held with it."""
    added = replace(held, blocks={log: dict(found) for log, found in held.blocks.items()})
    added.epoch, added.last, added.next = engine.identity.epoch, dict(held.last), dict(held.next)
    dice = random.Random(7)
    for log, stream in LOGS.items():
        for _ in range(3):
            source = dice.choice(SOURCES)
            first = engine.next_of(source) or 1
            more = entry(
                30, first, source=source, stream=stream, pad=900, value=dice.randrange(9**9)
            )
            (answer,) = engine.commit([more]).answers
            if isinstance(answer, StoreFull):
                wrong.append(f"an append to {log} was refused: {answer}")
                continue
            added.next[source] = answer.next
            added.last[log] = answer.last[log]
    for log in LOGS:
        fresh, _ = held_by(engine, log, wrong, held.last[log])
        count = sum(last - first + 1 for first, (last, _) in fresh.items())
        if count != 90:
            wrong.append(f"{log}: {count} of 90 appended records are read")
        added.blocks[log].update(fresh)
    for name in CONSUMERS:
        for log in LOGS:
            added.positions[(name, log)] = engine.position(name, log)[0]
    added.quarantined = len(engine.quarantine(0, 10_000))
    return added


def held_by(engine: Engine, log: str, wrong: list[str], after: int = 0) -> tuple[Blocks, list[Gap]]:
    """The blocks of a log and its gaps; they follow one another, or that is wrong.

    A block whose bytes are those that were stored holds the records that were stored.
    """
    found: Blocks = {}
    gaps: list[Gap] = []
    while items := engine.read(log, after, 256 * 1024):
        for item in items:
            if item.first != after + 1:
                wrong.append(f"{log}: {item.first} follows {after}")
            after = item.last
            if isinstance(item, Gap):
                gaps.append(item)
            else:
                times = (item.time_min_ns, item.time_max_ns, item.stored_ns, item.count)
                found[item.first] = (item.last, zlib.crc32(item.payload, hash(times) & 0xFFFFFFFF))
    return found, gaps


def _entry(dice: random.Random, numbers: dict[str, int]) -> Entry:
    source, stream = dice.choice(SOURCES), dice.choice(list(LOGS.values()))
    count, pad = dice.choice((1, 3, 10)), dice.choice(PADS)
    first = numbers[source]
    numbers[source] += count
    return entry(count, first, source=source, stream=stream, pad=pad, value=dice.randrange(9**9))


def _quarantined(number: int, size: int) -> Quarantined:
    body = hashlib.shake_128(b"%d" % number).digest(size)
    return Quarantined("bad_time", "why", "a/1", "pi-0", number, START_NS, body)


def _positions(engine: Engine, dice: random.Random) -> Entry:
    name, log = dice.choice(CONSUMERS), dice.choice(list(LOGS))
    floor = engine.last_seq(log) - dice.randrange(50)
    state = dice.randbytes(dice.choice((5, 200, 6000)))
    return Entry(positions=(Position(name, log, max(floor, 0), state),))
