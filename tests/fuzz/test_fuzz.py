"""The part of the fuzzing that runs with every change: 200,000 inputs pure, 10,000 real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import pure, real
from tests.fuzz.inputs import Inputs

PURE = 200_000
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_the_pure_cores_meet_nothing_that_is_not_foreseen(part: int) -> None:
    share = PURE // PARTS
    found = pure.run(share, seed=1, first=part * share)
    assert found.finds == []
    assert sum(found.inputs.values()) == share


async def test_a_real_agent_and_its_canary_notice_nothing(tmp_path: Path) -> None:
    report = await real.run(tmp_path, 10_000, seed=1)
    assert report.finds == []
    assert report.canary_errors == []
    assert sum(report.inputs.values()) >= 10_000
    assert set(report.inputs) == {kind for kind, _, _ in real.KINDS} | {"answers", "canary records"}
    # How much slower the canary was is for `make fuzz` to judge: here the machine is shared.
    print(f"the canary's p99: {report.ratio:.2f} times its usual one")


def test_the_same_seed_draws_the_same() -> None:
    for kind in ("message", "frames", "segments", "request", "raw_answer", "hello", "control"):
        one, two, other = (
            [getattr(Inputs(f"{seed}/7"), kind)() for _ in range(3)] for seed in (1, 1, 2)
        )
        assert one == two != other


def test_what_is_not_foreseen_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(inputs: Inputs, _: object) -> None:
        if inputs.value(0) == 0:
            raise ZeroDivisionError

    monkeypatch.setattr(pure, "KINDS", {"broken": broken})
    found = pure.run(500, seed=3)
    assert found.finds and "ZeroDivisionError" in found.finds[0]
    again = int(found.finds[0].partition("number ")[2].partition(":")[0])
    assert len(pure.run(1, seed=3, first=again).finds) == 1
