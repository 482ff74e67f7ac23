"""What a record costs, by what it holds: so that no kind of value, shape or size is a cliff.

Measured is CPU time in this process, per record: reading lists of messages (`wire.read_messages`,
with what the sender's earlier records have taught it) and storing the runs that come of them
(`Engine.commit`). A kind is held against usual records in the same encoding: its cost by the byte,
each record counting `HEAD_BYTES` beside its own, as even an empty one has to be numbered, dated and
acked.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgpack

from benchmarks.records import START_S, encoded_records
from benchmarks.section import Section
from benchmarks.table import markdown
from edge_agent.cli.process import GC_THRESHOLDS
from edge_agent.store import Engine, Entry, StoreSettings
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Run
from edge_agent.wire import Arrival, WireLimits, read_messages
from edge_agent.wire.shapes import Learner

MIB = 1024 * 1024
HEAD_BYTES = 32
#: Messages of a list, about as many as one read brings; the bytes of one.
LIST_BYTES = 64 * 1024
RECORDS = 20_000
ROUNDS = 5
ARRIVAL = Arrival("bench/kinds", "bench", int(START_S * 1e9) + 10**12, synced=True)

Make = Callable[[int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind: its size, and nanoseconds per record of reading and of storing."""

    what: str
    is_json: bool
    record_bytes: float
    read_ns: float
    store_ns: float
    ratio: float = 1.0  # to usual records of the same encoding, measured in turn with it

    @property
    def by_byte(self) -> float:
        """Nanoseconds per byte, head included."""
        return (self.read_ns + self.store_ns) / (self.record_bytes + HEAD_BYTES)


def usual(index: int) -> dict[str, Any]:
    """One of the records that all benchmarks send."""
    records = encoded_records(distinct=10_000)
    found: dict[str, Any] = msgpack.unpackb(records[index % len(records)])
    return found


def with_(make: Callable[[int], dict[str, Any]], index: int) -> dict[str, Any]:
    """A usual record and more."""
    return usual(index) | make(index)


def moment(index: int) -> dt.datetime:
    """The time of record ``index``."""
    return dt.datetime.fromtimestamp(usual(index)["time"], dt.UTC)


def only(index: int, **fields: Any) -> dict[str, Any]:
    """A usual record's time and these."""
    return {"time": usual(index)["time"], **fields}


#: The kinds in msgpack; those that JSON cannot say are left out there.
KINDS: dict[str, Make] = {
    "usual: time and four floats": usual,
    "a bin value of 8 bytes": partial(with_, lambda i: {"raw": i.to_bytes(8, "big")}),
    "a bin value of 200 bytes": partial(with_, lambda i: {"raw": bytes(200)}),
    "an ext timestamp as a value": partial(with_, lambda i: {"at": moment(i)}),
    "time as an ext timestamp": lambda i: usual(i) | {"time": moment(i)},
    "time as RFC 3339 text": lambda i: usual(i) | {"time": moment(i).isoformat()[:26] + "Z"},
    "time as an int": lambda i: usual(i) | {"time": int(usual(i)["time"])},
    "time null": lambda i: usual(i) | {"time": None},
    "no time": lambda i: {key: value for key, value in usual(i).items() if key != "time"},
    "time relative": lambda i: usual(i) | {"time": -(i % 60) / 2},
    "time of an unset clock": lambda i: usual(i) | {"time": 100 + i},
    "stream, one value": partial(with_, lambda i: {"stream": "bench/one"}),
    "stream, 50 values": partial(with_, lambda i: {"stream": f"bench/{i % 50}"}),
    "stream, 1000 values": partial(with_, lambda i: {"stream": f"bench/{i * 7 % 1000}"}),
    "a map in it": partial(with_, lambda i: {"imu": {"x": 0.1, "y": 0.2, "z": i}}),
    "maps five deep": partial(with_, lambda i: {"a": {"b": {"c": {"d": i}}}}),
    "an array of 16 floats": lambda i: only(i, a=[i + 0.5] * 16),
    "arrays five deep": lambda i: only(i, a=[[[[i]]]]),
    "big ints": lambda i: only(i, a=2**63 - 1 - i, b=-(2**63) + i, c=2**62 + i),
    "ints above 2^63": lambda i: only(i, a=2**64 - 1 - i, b=2**63 + i),
    "text of 200 characters": lambda i: only(i, text="abcdefghij" * 20),
    "text with umlauts": lambda i: only(i, text="Tür " * 50),
    "40 keys": lambda i: only(i, **{f"key{k}": i for k in range(40)}),
    "changing keys": lambda i: only(i, **{f"key{(i + k) % 97}": i for k in range(4)}),
    "booleans and nulls": lambda i: only(i, a=True, b=None, c=False, d=None),
    "10 bytes": lambda i: {"v": i % 100, "w": 1},
    "1 KiB": lambda i: only(i, text="x" * 1000),
    "16 KiB": lambda i: only(i, text="x" * 16_000),
    "64 KiB": lambda i: only(i, text="x" * 64_000),
    "one in ten with bin": lambda i: usual(i) | ({"raw": b"12345678"} if i % 10 == 0 else {}),
    "one in a hundred with bin": lambda i: usual(i) | ({"raw": b"1234"} if i % 100 == 0 else {}),
}
#: Of the usual record, in messages of so many.
BATCHES = (1, 10, 100, 1_000, 10_000)
ESCAPES = "text with escapes"


def pack(value: Any) -> bytes:
    """msgpack, datetimes as timestamps."""
    packed: bytes = msgpack.packb(value, datetime=True)
    return packed


def lists_of(messages: Sequence[str | bytes]) -> list[Sequence[str | bytes]]:
    """As reads would bring them."""
    lists, start, size = [], 0, 0
    for at, message in enumerate(messages):
        size += len(message)
        if size >= LIST_BYTES:
            lists.append(messages[start : at + 1])
            start, size = at + 1, 0
    return [*lists, messages[start:]]


def once(
    what: str, lists: Sequence[Sequence[str | bytes]], engine: Engine, learner: Learner
) -> tuple[int, int]:
    """CPU nanoseconds of reading and of storing."""
    limits = WireLimits()
    runs: list[tuple[Run, ...]] = []
    began = time.process_time_ns()
    for one in lists:
        received = read_messages(one, 1, ARRIVAL, limits, learner)
        assert received.failure is None and not received.rejects, what
        runs.append(received.runs)
    read = time.process_time_ns()
    engine.commit([Entry(runs=each) for each in runs])
    return read - began, time.process_time_ns() - read


def measure(
    what: str, messages: Sequence[str | bytes], records: int, engine: Engine, rounds: int
) -> KindRow:
    """The best of several rounds, in turn with usual records."""
    # As in an agent: else looking for cycles is a third of what nested values cost.
    gc.set_threshold(*GC_THRESHOLDS)
    is_json = isinstance(messages[0], str)
    others = max(20, records)
    form = json.dumps if is_json else pack
    found: list[KindRow] = []
    cases = [
        ("usual", [form(usual(index)) for index in range(others)], others),
        (what, messages, records),
    ]
    learners, lists = [Learner(), Learner()], [lists_of(case[1]) for case in cases]
    times: list[list[tuple[int, int]]] = [[], []]
    for _ in range(rounds + 1):  # The first round is for learning.
        for side, case in enumerate(cases):
            times[side].append(once(case[0], lists[side], engine, learners[side]))
    for side, (name, sent, count) in enumerate(cases):
        size = sum(len(m.encode() if isinstance(m, str) else m) for m in sent)
        read, store = min(times[side][1:], key=sum)
        found.append(KindRow(name, is_json, size / count, read / count, store / count))
    return replace(found[1], ratio=found[1].by_byte / found[0].by_byte)


def rows_of(engine: Engine, records: int, rounds: int) -> list[KindRow]:
    """All kinds in msgpack, then in JSON, as single records; then batches."""
    found = []
    for form in (pack, json.dumps):
        for what, make in KINDS.items():
            count = max(20, records // (20 if "KiB" in what else 1))
            try:
                messages: list[str | bytes] = [form(make(index)) for index in range(count)]
            except TypeError:  # JSON has neither bin nor timestamps.
                continue
            found.append(measure(what, messages, count, engine, rounds))
        if form is json.dumps:
            texts: list[str | bytes] = [
                json.dumps(only(i, text="T\u00fcr \u20ac\n" * 20)) for i in range(records)
            ]
            found.append(measure(ESCAPES, texts, records, engine, rounds))
        for batch in BATCHES:
            if batch <= records:
                arrays: list[str | bytes] = [
                    form([usual(at + one) for one in range(batch)])
                    for at in range(0, records, batch)
                ]
                name = f"usual, {batch:,} in a message"
                found.append(measure(name, arrays, len(arrays) * batch, engine, rounds))
    return found


def section(folder: Path, tiny: bool) -> Section:
    """All kinds, as a chapter of the results."""
    records, rounds = (200, 1) if tiny else (RECORDS, ROUNDS)
    place = folder / "store"
    engine = Engine.open(
        place, StoreSettings(size=256 * MIB), clock=SystemClock(), entropy=os.urandom
    )
    try:
        rows = rows_of(engine, records, rounds)
    finally:
        engine.close()
        shutil.rmtree(place)
    return Section(render(rows), {"kinds": max(row.ratio for row in rows)})


def render(rows: Sequence[KindRow]) -> str:
    """The chapter in Markdown."""
    cells = [
        (
            row.what, "JSON" if row.is_json else "msgpack", f"{row.record_bytes:,.0f}",
            f"{row.read_ns:,.0f}", f"{row.store_ns:,.0f}", f"{row.by_byte:.2f}", f"{row.ratio:.2f}",
        )
        for row in rows
    ]  # fmt: skip
    head = (
        "records", "encoding", "bytes", "reading ns", "storing ns",
        f"ns by the byte ({HEAD_BYTES} more each)", "÷ usual",
    )  # fmt: skip
    return (
        "## Kinds of records: CPU per record of reading and storing, in lists of "
        f"{LIST_BYTES // 1024} KiB\n\n" + markdown(head, cells)
    )
