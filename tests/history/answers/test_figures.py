"""Every aggregate, by any step, as computed by hand and by pandas from the same records."""

from __future__ import annotations

import csv
import math
import random
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import vega_datasets

from edge_agent.errors import ProtocolError
from edge_agent.history.answers import figures
from edge_agent.history.keys import DAY_NS, HOUR_NS, MINUTE_NS
from tests.history.answers.made import NOW_NS, START_NS, Made, Plain, made, values_by_step

ROLLED = "count,min,max,mean,sum,first,last,stddev"
EVERY = f"{ROLLED},p50,p95,p99,increase,rate,twmean"
STEPS = {
    "1ms": 1_000_000, "10s": 10**10, "1m": MINUTE_NS, "7m": 7 * MINUTE_NS, "1h": HOUR_NS,
    "90m": 90 * MINUTE_NS, "1d": DAY_NS,
}  # fmt: skip
FIELDS = ("t", "n.a", "n.b.c")
SECOND_NS = 1_000_000_000
Row = dict[str, Any]


def some_fields(dice: random.Random) -> dict[str, Any]:
    """As devices send them, and as they should not."""
    fields: dict[str, Any] = {}
    if dice.random() < 0.9:
        odd = [dice.randint(-5, 50), None, "off", True, math.nan, math.inf, dice.random(), [1]]
        fields["t"] = dice.choice(odd) if dice.random() < 0.3 else round(dice.uniform(-20, 40), 2)
    if dice.random() < 0.6:
        whole = {"a": dice.randint(0, 9), "b": {"c": dice.random()}}
        fields["n"] = whole if dice.random() < 0.9 else dice.choice([None, 3, {}, [1]])
    return fields


def fill(history: Made, dice: random.Random) -> int:
    """Records of some streams, late and twice at one time; how long they go on, in ns."""
    streams = ["a/1", "a/2", "b/x/1"][: dice.randint(1, 3)]
    span = dice.choice([MINUTE_NS, HOUR_NS, 2 * DAY_NS])
    times = [START_NS + dice.randrange(span) for _ in range(20)]
    for _ in range(dice.choice([1, 5, 50, 300])):
        time_ns = dice.choice(times) if dice.random() < 0.3 else START_NS + dice.randrange(span)
        history.put([Plain(dice.choice(streams), time_ns, some_fields(dice))])
        if dice.random() < 0.05:
            history.flush(dice.choice([START_NS, START_NS + DAY_NS, NOW_NS]))
    return span


def of_steps(rows: list[Row]) -> dict[tuple[str, int], Row]:
    found = {(row["stream"], round(row["time"] * 1000) * 1_000_000): row for row in rows}
    assert len(found) == len(rows), "each step once"
    return found


def getter(row: Row, name: str) -> Callable[[str], Any]:
    return lambda one: row[f"{name}_{one}"]


def close(one: float, two: float) -> bool:
    return math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-6)


def assert_figures(get: Callable[[str], Any], step: list[tuple[int, float]]) -> None:
    values = [value for _, value in step]
    assert (get("count"), get("min"), get("max")) == (len(values), min(values), max(values))
    assert close(get("sum"), math.fsum(values))
    assert close(get("mean"), math.fsum(values) / len(values))
    # Of several at one time it is not said which.
    assert get("first") in [value for time_ns, value in step if time_ns == step[0][0]]
    assert get("last") in [value for time_ns, value in step if time_ns == step[-1][0]]
    if len(values) > 1:
        assert close(get("stddev"), statistics.stdev(map(float, values)))
    else:
        assert get("stddev") is None


def assert_changes(
    get: Callable[[str], Any], values: list[tuple[int, float]], start: int, step_ns: int
) -> None:
    """Percentiles, and what the order of values decides."""
    inside = [one for one in values if start <= one[0] < start + step_ns]
    series = pd.Series([float(value) for _, value in inside])
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert close(get(name), series.quantile(part))
    if len({time_ns for time_ns, _ in values}) < len(values):
        return
    back_ns = max(HOUR_NS, step_ns)
    shown = [one for one in values if start - back_ns <= one[0] < start][-1:] + inside
    pairs = list(pairwise(shown))
    grown = sum(b - a if b >= a else b for (_, a), (_, b) in pairs)
    assert close(get("increase"), grown)
    assert close(get("rate"), grown / (step_ns / 1e9))
    ends = [max(time_ns, start) for time_ns, _ in shown] + [start + step_ns]
    area = sum(v * (ends[i + 1] - ends[i]) for i, (_, v) in enumerate(shown))
    assert close(get("twmean"), area / (ends[-1] - ends[0]))


@pytest.mark.parametrize("seed", range(6))
def test_figures_by_step_are_those_computed_by_hand(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with made(tmp_path) as history:
        span = fill(history, dice)
        for step, step_ns in STEPS.items():
            from_ns = START_NS + dice.randrange(-span // 2, span)
            to_ns = from_ns + dice.randint(1, 2 * span)
            low, high = from_ns // step_ns * step_ns, -(-to_ns // step_ns) * step_ns
            asked = {"from_": from_ns, "to": to_ns, "step": step, "limit": 1_000_000}
            asked |= {
                "fields": ",".join(FIELDS) + ",none",
                "order": dice.choice(["newest", "oldest"]),
            }
            every = of_steps(history.table(aggregate=EVERY, **asked))
            rolled = of_steps(history.table(aggregate=ROLLED, **asked))
            few = of_steps(history.table(aggregate=dice.choice(ROLLED.split(",")), **asked))
            expected = set()
            for stream in {one.stream for one in history.records}:
                records = [one for one in history.records if one.stream == stream]
                for name in FIELDS:
                    path = name.split(".")
                    values = values_by_step(records, path, 2**62, 0, 2**62).get(0, [])
                    for start, found in values_by_step(records, path, step_ns, low, high).items():
                        expected.add((stream, start))
                        for table in (every, rolled):
                            row = table[stream, start]
                            assert_figures(getter(row, name), found)
                        row = every[stream, start]
                        assert_changes(
                            getter(row, name),
                            values, start, step_ns,
                        )  # fmt: skip
            assert set(every) == set(rolled) == set(few) == expected
            assert_alike(few, rolled)


def assert_alike(few: dict[tuple[str, int], Row], rolled: dict[tuple[str, int], Row]) -> None:
    for place, row in few.items():
        for name, value in row.items():
            assert value == rolled[place][name], (place, name)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group", ["stream", "none", "1", "3"])
def test_one_figure_for_all_of_a_range(tmp_path: Path, seed: int, group: str) -> None:
    dice = random.Random(seed)
    with made(tmp_path) as history:
        span = fill(history, dice)
        from_ns = START_NS + dice.randrange(-span // 2, span)
        to_ns = from_ns + dice.randint(1, 3 * span)
        low, high = from_ns // MINUTE_NS * MINUTE_NS, -(-to_ns // MINUTE_NS) * MINUTE_NS
        rows = history.table(
            from_=from_ns, to=to_ns, step="all", aggregate=ROLLED, fields="t,n.a", group=group
        )
        found = {
            (row.get("stream", row.get("group", "")), name): row
            for row in rows
            for name in ("t", "n.a")
            if row[f"{name}_count"] is not None
        }
        expected = {}
        for name in ("t", "n.a"):
            groups: dict[str, list[Plain]] = {}
            for one in history.records:
                parts = one.stream.split("/")
                own = {"stream": one.stream, "none": "", "1": parts[0]}
                groups.setdefault(own.get(group, "1" if len(parts) > 2 else ""), []).append(one)
            for key, records in groups.items():
                steps = values_by_step(records, name.split("."), 2**62, low, high)
                if steps:
                    expected[key, name] = steps[0]
        assert found.keys() == expected.keys()
        for (key, name), values in expected.items():
            row = found[key, name]
            assert row["time"] == low / 1e9
            assert_figures(getter(row, name), values)


def test_a_filter_leaves_values_out(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(
            Plain("a", START_NS + n * SECOND_NS, {"t": n, "on": n % 2 == 0}) for n in range(200)
        )
        history.flush()
        (row,) = history.table(
            from_=START_NS, to=START_NS + HOUR_NS, step="1h", aggregate="count,max,p50",
            fields="t", filter="on and t < 100",
        )  # fmt: skip
        assert (row["t_count"], row["t_max"], row["t_p50"]) == (50, 98, 49)


def test_a_value_at_from_belongs_to_the_range_and_one_at_to_does_not(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        times = [START_NS - 1, START_NS, START_NS + MINUTE_NS - 1, START_NS + MINUTE_NS]
        history.put(Plain("a", time_ns, {"t": n}) for n, time_ns in enumerate(times))
        for _ in ("from memory", "from the file"):
            asked = {"from_": START_NS, "to": START_NS + MINUTE_NS, "fields": "t"}
            for aggregate in ("sum", "sum,p50"):
                for step in ("1m", "all"):
                    (row,) = history.table(step=step, aggregate=aggregate, **asked)
                    assert row["t_sum"] == 3
            assert [row["t"] for row in history.table(**asked)] == [1, 2]
            history.flush()


def test_values_of_1969_count(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(Plain("a", n * MINUTE_NS, {"t": n}) for n in range(-5, 6))
        for _ in ("from memory", "from the file"):
            asked = {"from": "1969-12-31T23:00:00Z", "to": "1970-01-01T01:00:00Z"}
            (row,) = history.table(step="all", aggregate="count,first,last", fields="t", **asked)
            assert (row["t_count"], row["t_first"], row["t_last"]) == (11, -5, 5)
            rows = history.table(step="1m", aggregate="count", fields="t", **asked)
            assert [row["time"] for row in rows] == [n * 60 for n in range(-5, 6)]
            history.flush(NOW_NS)


def test_a_counter_that_begins_again_has_grown_by_what_it_shows(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        values = [5, 7, 10, 2, 3]
        history.put(
            Plain("a", START_NS + n * 30 * SECOND_NS, {"n": value})
            for n, value in enumerate(values)
        )
        rows = history.table(
            from_=START_NS + MINUTE_NS, to=START_NS + 3 * MINUTE_NS, step="1m",
            aggregate="increase,rate", fields="n",
        )  # fmt: skip
        # From 7, which was before; then a new beginning at 2, and from 2 to 3.
        assert [row["n_increase"] for row in rows] == [5, 1]
        assert [row["n_rate"] for row in rows] == [5 / 60, 1 / 60]


def test_more_values_than_there_is_memory_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "VALUES_MAX", 100)
    with made(tmp_path) as history:
        history.put(Plain("a", START_NS + n, {"t": n}) for n in range(101))
        with pytest.raises(ProtocolError, match="more than 100 values of a; ask for a smaller"):
            history.json(
                from_=START_NS, to=START_NS + HOUR_NS, step="1h", aggregate="p50", fields="t"
            )


def test_a_year_of_seattle_is_what_pandas_makes_of_it(tmp_path: Path) -> None:
    with Path(vega_datasets.data.seattle_temps.filepath).open(newline="") as file:
        given = [
            (
                datetime.strptime(row["date"], "%Y/%m/%d %H:%M").replace(tzinfo=UTC),
                float(row["temp"]),
            )
            for row in csv.DictReader(file)
        ]
    frame = pd.DataFrame(given, columns=["time", "t"]).set_index("time")
    with made(tmp_path) as history:
        records = [
            Plain("seattle", int(time.timestamp()) * SECOND_NS, {"t": value})
            for time, value in given
        ]
        history.put(records[:2000])
        history.flush(records[2000].time_ns)
        history.put(records[2000:])
        whole = {"from": "2010-01-01T00:00:00Z", "to": "2011-01-01T00:00:00Z", "fields": "t"}
        for step, rule in (("1h", "1h"), ("1d", "1D")):
            groups = frame["t"].resample(rule)
            rows = history.table(
                step=step, aggregate="count,min,max,mean,stddev,p95", limit=20_000, **whole
            )
            for name, expected in {
                "count": groups.count(), "min": groups.min(), "max": groups.max(),
                "mean": groups.mean(), "stddev": groups.std(), "p95": groups.quantile(0.95),
            }.items():  # fmt: skip
                counts = groups.count()
                left = [
                    (time.timestamp(), value) for time, value in expected.items() if counts[time]
                ]
                assert [row["time"] for row in rows] == [time for time, _ in left]
                for row, (_, value) in zip(rows, left, strict=True):
                    own = row[f"t_{name}"]
                    assert (own is None and math.isnan(value)) or close(own, value), name
