"""Simulated outages at the scale of ``make test``: five hundred, and every planted mistake.
``make crash``, which CI runs too, has two thousand.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.crash.proof import Scale
from tests.model.outages import campaign
from tests.model.outages.campaign import lines, prove, shrink, told
from tests.model.outages.controls import CONTROLS, caught
from tests.model.outages.ledger import Counted, disagreement
from tests.model.outages.plan import FAULTS, draw
from tests.model.outages.regressions import REGRESSIONS
from tests.model.outages.world import simulate

#: Simulations, and in how many tests they are run, so that several cores share them.
RUNS = 16
SHARES = 4
#: In these simulations full logs thin, and what is left of it at the end is compared.
THINNING = (9, 14, 28, 32)


@pytest.mark.parametrize("share", range(SHARES))
def test_five_hundred_outages_lose_nothing_and_double_nothing(share: int) -> None:
    seeds = range(1 + share, 1 + RUNS, SHARES)
    results = {seed: simulate(draw(seed)) for seed in seeds}
    print(lines(list(results.values()), 0, seeds[0])[-1])
    failed = [told(draw(seed), one, shrunk=True) for seed, one in results.items() if one.problems]
    assert not failed, "\n".join(failed)
    assert all(result.outages == FAULTS and result.acked for result in results.values())


@pytest.mark.parametrize("seed", THINNING)
def test_what_full_logs_thin_is_counted_once_whatever_happens(seed: int) -> None:
    plan = draw(seed, thins=True)
    result = simulate(plan)
    assert not result.problems, told(plan, result, thins=True, shrunk=True)
    assert result.counts["counted once by an aggregate"]


def test_the_five_hundred_are_five_hundred() -> None:
    assert RUNS * FAULTS >= 500


@pytest.mark.parametrize("found", sorted(REGRESSIONS))
def test_what_once_failed_stays_mended(found: str) -> None:
    result = simulate(REGRESSIONS[found])
    assert not result.problems, f"{found}: {result.problems}\n{REGRESSIONS[found]}"
    assert result.acked


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_a_planted_mistake_is_noticed(name: str) -> None:
    assert caught(name) is not None


def test_the_same_seed_gives_the_same_trace_in_another_process_too() -> None:
    here = simulate(draw(12)).digest
    command = [sys.executable, "-m", "tests.model.outages", "--replay", "12"]
    there = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"trace {here}" in there.stdout
    assert simulate(draw(13)).digest != here


def test_aggregates_are_compared_with_exactly_what_they_have_to_stand_for() -> None:
    fields = {"records": 3, "n_count": 3, "n_min": 4, "n_max": 6, "n_mean": 5.0}
    one = Counted.of("$thin/s0", fields)
    assert one == Counted("s0", 3, 4, 6, 15) and Counted.of("s0", fields) is None
    assert not disagreement([one, Counted("s0", 1, 9, 9, 9)], {4, 5, 6, 9})
    for numbers in ({4, 5}, {4, 5, 6, 7}, {3, 5, 7}):
        assert disagreement([one], numbers)
    assert disagreement([one, one], {4, 5, 6}) and disagreement([], {1})
    assert disagreement([Counted.of("$thin/s0", fields | {"n_count": 2}) or one], {4, 5, 6})


def test_a_failing_plan_is_shrunk_to_what_it_takes() -> None:
    planted, _, seed = CONTROLS["sensor takes sent for done"]
    drawn = draw(seed)
    short = replace(drawn, faults=drawn.faults[:8])
    with planted():
        plan = shrink(short, runs=8)
        assert simulate(plan).problems
    assert 1 <= len(plan.faults) < 8
    assert all(fault.kind in str(plan) for fault in plan.faults)


def test_what_is_proved_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {name: CONTROLS[name] for name in ("ack before commit",)}
    monkeypatch.setattr(campaign, "CONTROLS", one)
    outcome = prove(Scale(FAULTS, processes=1), 21)
    assert outcome.ok, outcome.failures
    assert f"{FAULTS} outages in 1 simulations" in outcome.lines[-1]
    assert "1 of 1 controls caught, seed 21" in outcome.lines[-1]
