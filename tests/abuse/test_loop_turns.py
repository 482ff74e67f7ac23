"""What the loop's turns say of a canary, whatever the machine does beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from array import array
from pathlib import Path

import pytest
import trio

from tests.abuse.loop_turns import Turn, TurnRecorder, delay_p99, pace, turns_in


def test_turns_that_wait_hold_nobody() -> None:
    assert delay_p99([]) == 0.0
    assert delay_p99([Turn(at, 0.9, 0.001) for at in range(100)]) == 0.0
    assert delay_p99([Turn(at, 0.0, 0.001) for at in range(100)]) == pytest.approx(0.003)


def test_a_long_turn_counts_where_records_arrive_in_it_once_in_a_hundred_times() -> None:
    usual = [Turn(at, 0.0, 0.001) for at in range(1000)]
    long = Turn(1000.0, 0.0, 0.1)
    assert delay_p99([*usual, long, *usual]) == pytest.approx(0.102)
    # In a minute of little work nobody meets it.
    idle = Turn(0.0, 60.0, 0.0)
    assert delay_p99([idle, *usual, long]) <= 0.1
    assert delay_p99([idle, *usual, long]) < delay_p99([*usual, long])


def test_a_loop_that_is_held_is_told_and_one_that_waits_for_the_machine_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "turns"
    recorder = TurnRecorder(str(file))

    async def holds(seconds: float, *, burns: bool) -> tuple[float, float]:
        begun = time.monotonic()
        for _ in range(5):
            until = time.process_time() + seconds
            while burns and time.process_time() < until:
                pass
            if not burns:
                # As a process that gets no core: time passes, and nothing is done.
                time.sleep(seconds)  # noqa: ASYNC251 - the loop is to be held
            await trio.sleep(0.001)
        return begun, time.monotonic()

    async def both() -> list[tuple[float, float]]:
        return [await holds(0.05, burns=True), await holds(0.05, burns=False)]

    burnt, slept = trio.run(both, instruments=[recorder])
    recorder.write()
    assert delay_p99(turns_in(file, *burnt)) >= 0.05
    assert delay_p99(turns_in(file, *slept)) < 0.02


def test_an_agent_writes_its_turns(tmp_path: Path) -> None:
    file = tmp_path / "turns"
    done = subprocess.run(
        [sys.executable, "-m", "tests.abuse.loop_turns", "--version"],
        env={**os.environ, "EDGE_AGENT_LOOP_TURNS": str(file)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "edge-agent" in done.stdout
    assert not array("q", file.read_bytes())


def test_a_slow_machine_is_given_its_time_and_a_quick_one_no_less_than_was_chosen() -> None:
    assert 1.0 <= pace() < 1000
