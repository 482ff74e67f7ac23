"""History that grows old, and what it costs whoever only wants to store.

- **Cost of a record** with 1, 10 and 100 million records before it. The first million is real; the
  older part is simulated: the same parts again below the keys of earlier hours, as only how much
  there is matters to the tree that they lie in. The three files get the same records in turns.
- **A year of hourly means** of one stream, a record a minute, in the engine and over HTTP.
- **Storing with history and without**: CPU at 1,000 single records a second, all of the agent, and
  records a second when they come as fast as the agent takes them; in turns.
"""

from __future__ import annotations

import gc
import http.client
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb

from benchmarks.bench_answers import ask
from benchmarks.bench_history import first_view
from benchmarks.filled_store import FLUSH_S, FilledStore
from benchmarks.history_data import START_S, STREAMS, Reading, seconds, stream_name
from benchmarks.processes import Agent, Load
from benchmarks.section import Section
from benchmarks.table import markdown, number
from edge_agent.cli.process import GC_THRESHOLDS
from edge_agent.history import FOLDER, to_store
from edge_agent.history.answers import HistoryReader
from edge_agent.history.answers.figures import Wanted, figures
from edge_agent.history.keys import HOUR_NS, MINUTES, RAW, part_key, split_key
from edge_agent.store import DATA

#: How many times as much as the real part; what is measured comes on top.
AGES = (1, 10, 100)
YEAR_S = 365 * 86_400
CONFIG = '[store]\nsize = "1GiB"\n[log.main]\ncommit_interval = "20ms"\n[history]\nenabled = '
_WAYS = {"without": CONFIG + "false\n", "with": CONFIG + "true\n"}
_CRC_BYTES = 4
_NS = 10**9


def section(folder: Path, tiny: bool) -> Section:
    """Three tables, and the goals."""
    flushes = 2 if tiny else 6
    costs = aging(folder / "aging", FLUSH_S * flushes, FLUSH_S * (1 if tiny else 4))
    engine_ms, http_ms = year(folder / "year", 86_400 * 3 if tiny else YEAR_S)
    seconds_, records, rounds = (1, 10_000, 1) if tiny else (20, 3_000_000, 5)
    share, cpu_us = at_rate(folder / "rate", seconds_, rounds)
    flood = flooded(folder / "flood", records, rounds)
    first = costs[0][1]
    text = (
        "## History that grows old, and storing beside it\n\n"
        + markdown(
            ("records before", "CPU us/record", "of the first"),
            [(number(count), f"{us:.2f}", f"{us / first:.2f}") for count, us in costs],
        )
        + f"\n\nA year of hourly means of one stream: {engine_ms:.2f} ms in the engine,"
        f" {http_ms:.2f} ms over HTTP. At 1,000 single records a second an agent takes"
        f" {cpu_us['without']:.0f} us of CPU a record without history and {cpu_us['with']:.0f} us"
        f" with it, {share:.1%} of a core more. Flooded with batches of 100 it stores"
        f" {flood:.3f} times as many records a second as without history.\n"
    )
    return Section(
        text,
        {
            "history_flat": costs[-1][1] / first,
            "history_year_ms": engine_ms,
            "history_ingest_share": share,
            "history_flood": 1 - flood,
        },
    )


def aging(folder: Path, real_s: int, more_s: int) -> list[tuple[int, float]]:
    """Records before, and CPU microseconds of each further one, by `AGES`."""
    gc.set_threshold(*GC_THRESHOLDS)
    stores = []
    for age in AGES:
        data = folder / str(age)
        store = FilledStore(data, START_S)
        for second, readings in enumerate(seconds(real_s), 1):
            store.add(readings, second)
        store.close()
        store.history.file.close()
        _make_older(data / FOLDER, age - 1, -(-real_s // 3600))
        stores.append(FilledStore(data, START_S, at_s=real_s))
    for second, readings in enumerate(seconds(real_s + more_s), 1):
        if second > real_s:
            for store in stores:
                store.add(readings, second)
    spent = [store.digest_s / store.records * 1e6 for store in stores]
    for store in stores:
        store.close()
        store.history.file.close()
    shutil.rmtree(folder)
    return [(real_s * STREAMS * age, us) for age, us in zip(AGES, spent, strict=True)]


def _make_older(folder: Path, times: int, hours: int) -> None:
    env = lmdb.open(str(folder / DATA), subdir=False, map_size=2**32, lock=False)
    with env.begin() as txn:
        parts = [
            (split_key(key), value[:-_CRC_BYTES])
            for key, value in txn.cursor()
            if key[0] in (RAW, MINUTES)
        ]
    for back in range(times, 0, -1):
        with env.begin(write=True) as txn:
            for at, value in parts:
                key = part_key(at.level, at.bucket - back * hours, at.series, at.part)
                txn.put(key, to_store(key, value))
    env.close()


def year(folder: Path, length_s: int) -> tuple[float, float]:
    """Milliseconds of hourly means over all of it: in the engine, and over HTTP."""
    start_s = START_S - length_s
    store = FilledStore(folder / "data", start_s, commit_s=6 * 3600, flush_s=6 * 3600)
    for second in range(60, length_s + 1, 60):
        store.add(list(_minute(start_s, second)), second, last=second == length_s)
    store.close()
    flushes, number_ = store.history.file.header.flushes, store.history.file.numbers[stream_name(0)]
    store.history.file.close()
    reader = HistoryReader(folder / "data" / FOLDER)
    wanted = Wanted(start_s * _NS, START_S * _NS, HOUR_NS, ("mean",), None)
    took = []
    for _ in range(15):
        began = time.perf_counter()
        with first_view(reader, flushes) as view:
            rows = len(figures(view, stream_name(0), number_, ("t",), wanted))
        took.append(time.perf_counter() - began)
        if abs(rows - length_s // 3600) > 1:
            raise SystemExit(f"{rows} rows, {length_s // 3600} expected")
    asked = {
        "stream": stream_name(0), "from": start_s, "to": START_S, "fields": "t", "step": "1h",
        "aggregate": "mean",
    }  # fmt: skip
    return statistics.median(took) * 1000, _over_http(folder, asked, length_s // 3600)


def _minute(start_s: int, second: int) -> Iterator[Reading]:
    hour = second / 3600
    yield 0, (start_s + second) * _NS - 1, (round(20 + hour % 7, 2), 50.0, 1013.25, 3.7)


def _over_http(folder: Path, asked: dict[str, object], rows: int) -> float:
    agent = Agent(folder, CONFIG + "true\n")
    try:
        connection = http.client.HTTPConnection("127.0.0.1", agent.http_port, timeout=60)
        answers = [ask(connection, asked) for _ in range(16)]
        connection.close()
        took, body = [seconds_ for seconds_, _ in answers], answers[0][1]
        if abs(len(json.loads(body)["rows"]) - rows) > 1:
            raise SystemExit(f"other rows over HTTP than {rows}")
        return statistics.median(took[1:]) * 1000
    finally:
        agent.stop()


def at_rate(folder: Path, seconds_: float, rounds: int) -> tuple[float, dict[str, float]]:
    """How much more of a core an agent takes at 1,000 records a second with history; and CPU
    microseconds of a record, without and with it.
    """
    spent: dict[str, list[float]] = {way: [] for way in _WAYS}
    for turn in range(rounds):
        for way, config in _in_turns(turn):
            agent = Agent(folder, config)
            try:
                load = Load(
                    agent.port, module="benchmarks.latency_load", rate=1000.0, seconds=seconds_
                )
                before = agent.cpu_seconds()
                load.run()
                spent[way].append((agent.cpu_seconds() - before) / (1000 * seconds_) * 1e6)
            finally:
                agent.stop()
            shutil.rmtree(folder)
    us = {way: statistics.median(values) for way, values in spent.items()}
    return (us["with"] - us["without"]) * 1000 / 1e6, us


def flooded(folder: Path, records: int, rounds: int) -> float:
    """Records a second with history, as part of those without: the median over pairs of runs."""
    ratios = []
    for turn in range(rounds):
        rates: dict[str, float] = {}
        for way, config in _in_turns(turn):
            agent = Agent(folder, config)
            try:
                load = Load(agent.port, records=records, batch=100, connections=4)
                rates[way] = records / load.run()["seconds"]
            finally:
                agent.stop()
            shutil.rmtree(folder)
        ratios.append(rates["with"] / rates["without"])
    return statistics.median(ratios)


def _in_turns(turn: int) -> list[tuple[str, str]]:
    ways = list(_WAYS.items())
    return ways if turn % 2 == 0 else ways[::-1]
