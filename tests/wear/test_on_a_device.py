"""What the agent says it wrote is what a real device got.

A file system of its own on a loop device, a real agent, real commits. The device's counter is
read from outside, with everything dirty written; the agent's own is its process's, which leaves
the file system's journal out. How far that is from the truth is stated here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_wear import Paced
from benchmarks.processes import Agent
from benchmarks.records import RECORD_BYTES
from benchmarks.wear_disk import Disk, own_file_system

MIB = 1024 * 1024
#: Uncompressed, so that the store is soon written all over.
CONFIG = (
    '[store]\nsize = "16MiB"\ncompression_level = 0\n'
    '[log.main]\ncommit_interval = "20ms"\nshare = "60%"\n'
)
PER_COMMIT = 1000

pytestmark = pytest.mark.needs("root", "losetup", "mkfs.ext4", "mount", "umount", "sync")


@contextmanager
def agent_on(disk: Disk, folder: Path) -> Iterator[Agent]:
    """An agent with its store on the device, and what else it writes beside it."""
    (disk.mount / "data").mkdir()
    (folder / "agent").mkdir()
    (folder / "agent" / "data").symlink_to(disk.mount / "data")
    agent = Agent(folder / "agent", CONFIG)
    try:
        yield agent
    finally:
        agent.stop()


def wear_of(agent: Agent) -> dict[str, Any]:
    wear: dict[str, Any] = agent.get("/api/status")["wear"]
    return wear


def at_rest(disk: Disk) -> int:
    """The device's counter, once nothing is under way."""
    before = disk.written()
    for _ in range(100):
        time.sleep(0.1)
        after = disk.written()
        if after == before:
            return after
        before = after
    raise AssertionError("the device is written to without end")


@dataclass(frozen=True)
class Round:
    """What a stretch wrote: as the device says, as the agent says, as the agent says the card got;
    and the agent's commits.
    """

    device: int
    own: int
    card: int
    commits: int


def measure(disk: Disk, agent: Agent, load: Paced, rounds: int) -> Round:
    device, before = at_rest(disk), wear_of(agent)["since_start"]
    load.run(rounds)
    device, after = at_rest(disk) - device, wear_of(agent)["since_start"]
    return Round(
        device,
        *(after[key] - before[key] for key in ("written_bytes", "card_bytes", "commits")),
    )


def test_the_agents_own_figure_and_the_cards_agree_with_the_device(tmp_path: Path) -> None:
    with own_file_system(tmp_path, 48 * MIB) as disk, agent_on(disk, tmp_path) as agent:
        load = Paced(agent.port, 10, PER_COMMIT)
        fresh = measure(disk, agent, load, 50)
        load.run(150)
        settled = measure(disk, agent, load, 50)
        first = agent.get("/api/status")["logs"][0]["first_seq"]
        wear = wear_of(agent)
        load.end()
    assert first > 1, "the store was not written all over"
    for found in (fresh, settled):
        assert 45 <= found.commits <= 55
        # The card's counter is the device's own, and nothing else is on it.
        assert found.card == found.device
    # Each first write of a reserved block is noted in the journal: that is missing at first.
    assert 0.9 * fresh.device <= fresh.own <= fresh.device
    # Later there is nothing to note.
    assert 0.97 * settled.device <= settled.own <= 1.03 * settled.device
    assert wear["card_counted_by"].startswith(f"counted by {disk.device}")
    expected = wear["since_start"]["written_bytes"] / (250 * PER_COMMIT * RECORD_BYTES)
    assert wear["since_start"]["amplification"] == pytest.approx(expected, rel=0.02)
    assert 1.1 < expected < 1.6
