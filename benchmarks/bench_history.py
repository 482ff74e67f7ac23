"""History beside SQLite: bytes kept and written, CPU for each record, and what questions take.

Records go through a real store: they are committed, read back as blocks, digested and flushed each
half an hour of their own time, as in the agent. SQLite gets the same in one process, a transaction
each quarter of an hour. Questions are asked alternately, each several times; the median
counts, and the answers are compared. "In the engine" is without the process around it and without
text: columns from the file to Python's numbers. Over HTTP an agent that is started on the same
store answers (`benchmarks.bench_answers`). The collector of garbage is set as in the agent.
"""

from __future__ import annotations

import gc
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import bench_answers
from benchmarks.filled_store import FilledStore
from benchmarks.history_data import START_S, STREAMS, seconds, stream_name
from benchmarks.history_peers import LAYOUTS, SqlitePeer
from benchmarks.section import Section
from benchmarks.table import markdown, number
from edge_agent.cli.process import GC_THRESHOLDS
from edge_agent.history import FOLDER, times_of
from edge_agent.history.answers import HistoryReader, View
from edge_agent.history.answers.figures import Wanted, figures
from edge_agent.history.answers.kept import KeptCells
from edge_agent.history.format.columns import numbers_of
from edge_agent.history.keys import HOUR_NS, MINUTE_NS

#: Where the store is: a folder as an agent has it.
DATA = Path("agent", "data")
REPEATS = 9
_NS = 10**9


def fill(folder: Path, length_s: int, peers: list[SqlitePeer]) -> FilledStore:
    """Put ``length_s`` seconds of data into a store with history, and into the peers."""
    gc.set_threshold(*GC_THRESHOLDS)
    filled = FilledStore(folder / DATA, START_S)
    for second, readings in enumerate(seconds(length_s), 1):
        for peer in peers:
            peer.add(readings)
        filled.add(readings, second, last=second == length_s)
    filled.close()
    for peer in peers:
        peer.commit()
    return filled


class Questions:
    """The questions, in the engine and to a peer; both give the same."""

    def __init__(self, folder: Path, filled: FilledStore, end_ns: int) -> None:
        self._reader = HistoryReader(folder / DATA / FOLDER)
        self._file = filled.history.file
        self._end_ns = end_ns
        self._day_ns = min(28 * HOUR_NS, end_ns - START_S * _NS)

    def raw(self) -> int:
        """One stream's last hour, every record."""
        rows = 0
        with first_view(self._reader, self._file.header.flushes) as view:
            number = self._file.numbers[stream_name(7)]
            for hour in range((self._end_ns - HOUR_NS) // HOUR_NS, -(-self._end_ns // HOUR_NS)):
                for segment in view.segments(stream_name(7), number, hour):
                    columns = [
                        numbers.floats()
                        for table in segment.tables
                        for column in table.columns
                        if (numbers := numbers_of(column, table.count)) is not None
                    ]
                    found = zip(times_of(segment), *columns, strict=True)
                    rows += sum(1 for row in found if row[0] >= self._end_ns - HOUR_NS)
        return rows

    def means(self) -> int:
        """One stream's 28 hours by minute."""
        with first_view(self._reader, self._file.header.flushes) as view:
            return len(self._means(view, stream_name(7), self._end_ns - self._day_ns))

    def all_means(self) -> int:
        """Every stream's last hour by minute."""
        with first_view(self._reader, self._file.header.flushes) as view:
            return sum(
                len(self._means(view, stream_name(stream), self._end_ns - HOUR_NS))
                for stream in range(STREAMS)
            )

    def asked_of(self, peer: SqlitePeer) -> dict[str, Callable[[], int]]:
        """The same three of a peer."""
        end, day = self._end_ns, self._end_ns - self._day_ns
        return {
            "raw": lambda: len(peer.raw(7, end - HOUR_NS, end)),
            "means": lambda: len(peer.means(7, day, end)),
            "all": lambda: len(peer.means(None, end - HOUR_NS, end)),
        }

    def _means(self, view: Any, stream: str, from_ns: int) -> Any:
        wanted = Wanted(from_ns // MINUTE_NS * MINUTE_NS, self._end_ns, MINUTE_NS, ("mean",), None)
        return figures(view, stream, self._file.numbers[stream], ("t",), wanted)


@contextmanager
def first_view(reader: HistoryReader, flushes: int) -> Iterator[View]:
    """What a question sees, as if nobody had asked before."""
    view = reader.view({}, flushes, lambda: None)
    assert view is not None
    view.kept = KeptCells()
    try:
        yield view
    finally:
        view.txn.abort()


def run(
    folder: Path, *, length_s: int, load_s: float, rounds: int
) -> tuple[list[tuple[str, ...]], dict[str, float]]:
    """The rows of the table, and the figures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    peers = {
        name: SqlitePeer(folder / f"{index}.sqlite", layout)
        for index, (name, layout) in enumerate(LAYOUTS.items())
    }
    filled = fill(folder, length_s, list(peers.values()))
    used = filled.history.file.usage().used_bytes
    # LMDB opens a file once in a process, and a question's process is not the agent's.
    filled.history.file.close()
    questions = Questions(folder, filled, (START_S + length_s) * _NS)
    ours = {"raw": questions.raw, "means": questions.means, "all": questions.all_means}
    asked: dict[str, dict[str, Callable[[], int]]] = {"history": ours}
    asked |= {name: questions.asked_of(peer) for name, peer in peers.items()}
    took = _ask(asked)
    kept = {"history": used} | {name: peer.bytes() for name, peer in peers.items()}
    cpu = {"history": filled.digest_s} | {name: peer.cpu_s for name, peer in peers.items()}
    end_s = START_S + length_s
    day_s = min(28 * 3600, length_s)
    found = bench_answers.run(
        folder / "agent",
        bench_answers.questions(end_s, day_s),
        [stream_name(number) for number in range(STREAMS)],
        load_s=load_s,
        rounds=rounds,
    )
    rows = [
        (
            name, f"{kept[name] / filled.records:.2f}",
            f"{filled.written / filled.records:.2f}" if name == "history" else "",
            f"{cpu[name] / filled.records * 1e6:.2f}",
            *(f"{took[name][what] * 1000:.2f}" for what in ours),
        )
        for name in asked
    ]  # fmt: skip
    clustered, indexed = (took[name] for name in LAYOUTS)
    steps = sorted(filled.steps_s)
    return rows, {
        "history_raw": took["history"]["raw"] / clustered["raw"],
        "history_means": clustered["means"] / took["history"]["means"],
        "history_means_index": indexed["means"] / took["history"]["means"],
        "history_all": clustered["all"] / took["history"]["all"],
        "history_all_index": indexed["all"] / took["history"]["all"],
        "history_disk": kept["history"] / kept[next(iter(LAYOUTS))],
        "history_written": filled.written / filled.records,
        "history_digest_us": filled.digest_s / filled.records * 1e6,
        "history_step_ms": steps[int(len(steps) * 0.99)] * 1000,
        "history_http_raw_ms": found["raw"] * 1000,
        "history_http_means_ms": found["means"] * 1000,
        "history_http_q": 1 / found["newest"],
        "history_idle_mb": found["idle_mb"],
        "history_worker_mb": found["worker_mb"],
        **({} if math.isnan(found["chart_ms"]) else {"history_chart_ms": found["chart_ms"]}),
        "history_ack": found["beside_ms"] / found["alone_ms"],
    }


def _ask(asked: dict[str, dict[str, Callable[[], int]]]) -> dict[str, dict[str, float]]:
    """Median seconds of each question by whom it was put to; interleaved."""
    samples: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in questions} for name, questions in asked.items()
    }
    for _ in range(REPEATS):
        for what in next(iter(asked.values())):
            counts = set()
            for name, questions in asked.items():
                began = time.perf_counter()
                counts.add(questions[what]())
                samples[name][what].append(time.perf_counter() - began)
            if len(counts) != 1:
                raise SystemExit(f"the answers to {what} differ: {counts} rows")
    return {
        name: {what: statistics.median(values) for what, values in found.items()}
        for name, found in samples.items()
    }


def section(folder: Path, tiny: bool) -> Section:
    """The table beside SQLite, and the goals."""
    length_s, load_s, rounds = (4_000, 1.0, 1) if tiny else (28 * 3600, 10.0, 3)
    rows, found = run(folder, length_s=length_s, load_s=load_s, rounds=rounds)
    head = (
        "", "kept B/record", "written B/record", "CPU us/record", "one stream, last hour, raw, ms",
        "one stream, 28 h by minute, ms", "all streams, last hour by minute, ms",
    )  # fmt: skip
    text = (
        f"## History: {number(length_s * STREAMS)} records of {STREAMS} streams, in the engine\n\n"
        + markdown(head, rows)
        + "\n\nOver HTTP, on a connection that is kept, medians: that hour as points in"
        f" {found['history_http_raw_ms']:.1f} ms, those minutes in"
        f" {found['history_http_means_ms']:.1f} ms; 1,000 newest records"
        f" {found['history_http_q']:,.0f} times a second. The page's first chart of a day stands"
        f" after {found.get('history_chart_ms', math.nan):.0f} ms in Chromium. RssAnon: agent"
        f" {found['history_idle_mb']:.1f} MB before the first question, answering process"
        f" {found['history_worker_mb']:.1f} MB after the last. With {bench_answers.ASKERS} who ask"
        f" for those minutes without a pause the acks' p99 is {found['history_ack']:.2f} times"
        " as long as without.\n"
    )
    return Section(text, found)


__all__ = ["section"]
