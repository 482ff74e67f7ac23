from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_ingest
from benchmarks.bench_ingest import Scale, Singles, agent_runs
from benchmarks.ingest_runs import MOST_RECORDS, SHORT, Shape, enough, median
from benchmarks.peers import PEERS
from benchmarks.table import Row


def test_the_median_of_an_even_number_is_the_lower_one_and_never_a_mean() -> None:
    rows = [Row(records, 1.0, 1.0) for records in (40, 10, 30, 20)]

    assert median(rows).records == 20


@pytest.mark.parametrize(
    "rate, expected", [(10, 1000), (400_000, 1_000_000), (10**9, MOST_RECORDS)]
)
def test_a_run_is_as_long_as_asked_for_within_bounds(rate: int, expected: int) -> None:
    asked: list[int] = []

    def run(*, records: int) -> Row:
        asked.append(records)
        return Row(rate, 1.0, 1.0)

    assert enough(run, 1000, 2.5) == expected
    assert asked == [1000]
    assert enough(run, 1000, 0.0) == 1000 and asked == [1000], "no short run where all are short"


def test_how_long_a_run_is_does_not_depend_on_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def run(*_: object, records: int, shape: Shape, **__: object) -> Row:
        asked.append((shape.interval, records))
        return Row(1000, 1.0, 1.0)

    monkeypatch.setattr(bench_ingest, "agent_run", run)

    agent_runs(tmp_path, Scale(2.0, 100, 1.0, 1, (1,), {}), Shape(interval="1s"), 1)()

    assert asked == [(SHORT, 100), ("1s", 2000)]


def test_agent_and_peers_take_turns_and_the_slowest_is_held_against_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[tuple[str, int]] = []

    def ours(*_: object, connections: int, **__: object) -> Row:
        turns.append(("agent", connections))
        return Row(400 + connections, 1.0, 1.0)

    def theirs(_: Path, name: str, *__: object, connections: int, **___: object) -> Row:
        turns.append((name, connections))
        return Row(100 * connections, 1.0, 2.0)

    monkeypatch.setattr(bench_ingest, "agent_run", ours)
    monkeypatch.setattr(bench_ingest, "peer_run", theirs)
    for peer in PEERS.values():
        monkeypatch.setattr(type(peer), "missing", lambda _: "")

    singles = Singles(tmp_path, Scale(0.0, 10, 0.1, 2, (1, 4), {}))
    singles.measure()

    one_round = ["agent", *PEERS]
    assert turns == [(name, count) for count in (1, 4) for _ in range(2) for name in one_round]
    assert singles.figures() == {
        "singles_1": 401, "singles_4": 404,
        "vs_seed": 401 / 400, "vs_redis": 401 / 400, "vs_nats": 401 / 400,
        "vs_nats-always": 401 / 400,
    }  # fmt: skip
    line = next(line for line in singles.table().splitlines() if "Redis" in line)
    assert line.split(" | ")[1:6] == ["100", "400", "200", "4.0 / 1.0", "1.0"]
