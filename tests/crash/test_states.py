"""The explorer of power cuts at the scale of ``make test``: 5,000 stores opened, 250 agents
started, ten controls noticed. ``make crash``, which CI runs too, tries ten times as many
(`states.prove`).

Each part is a process of its own, so that children are forked from one that has a single thread
and has loaded everything; they share one recorded run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.controls import BREAKS
from tests.preloaded import nest

pytestmark = pytest.mark.needs("strace")

STORES, STORE_SHARDS = 5_000, 2
STARTS, START_SHARDS = 250, 2


@pytest.fixture
def history(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where the recorded run is kept; all workers have one above their own folders."""
    folder = tmp_path_factory.getbasetemp()
    return (folder if worker_id == "master" else folder.parent) / "power-cuts.history"


def explored(*arguments: object) -> list[str]:
    """What ``python -m tests.crash.states`` prints, once it has found nothing wrong."""
    done = nest().run("tests.crash.states", *map(str, arguments), timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def states_of(lines: list[str]) -> int:
    assert ", 0 lost, 0 twice, 0 salvages, " in lines[-1]
    return int(lines[-1].split()[0])


@pytest.mark.parametrize("shard", range(STORE_SHARDS))
def test_every_image_that_a_power_cut_leaves_opens_with_all_that_was_acked(
    history: Path, shard: int
) -> None:
    lines = explored(
        "stores", "--tries", STORES, "--shard", shard, STORE_SHARDS, "--history", history
    )

    # Stretches of the run are not equally long; all shards together have them all.
    assert states_of(lines) > STORES / STORE_SHARDS / 2


@pytest.mark.parametrize("shard", range(START_SHARDS))
def test_an_agent_starts_on_them_and_its_hub_gets_everything_once(
    history: Path, shard: int
) -> None:
    lines = explored(
        "starts", "--tries", STARTS, "--shard", shard, START_SHARDS, "--history", history
    )

    assert states_of(lines) > STARTS / START_SHARDS / 2


def test_recoveries_and_killed_starts_may_be_cut_again(history: Path) -> None:
    lines = explored("again", "--tries", 40, "--history", history)

    assert states_of(lines) > 250


def test_a_torn_sector_is_never_delivered(history: Path) -> None:
    (line,) = explored("torn", "--history", history)

    assert line.endswith(" 0 read wrong records")
    assert int(line.split()[0]) > 100


@pytest.mark.parametrize("control", BREAKS)
def test_a_broken_promise_is_noticed(control: str) -> None:
    (line,) = explored("control", "--control", control)

    assert line.startswith(f"control {control}: noticed")
