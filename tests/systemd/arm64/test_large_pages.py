"""The arm64 package on a machine of its own, whose pages of memory have 16 KiB: emulated as a
whole, with Debian's kernel for such machines.

A store that this machine wrote, in pages of its own size, is opened there and forwarded; one that
was written there is read here. What runs inside is ``guest.py``.
"""

from __future__ import annotations

import json
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.client import Producer
from tests.end_to_end.support import AgentProcess, agents, run_command
from tests.systemd.arm64.guest import COMMITS, RECORDS
from tests.systemd.arm64.installed import Root, facts
from tests.systemd.arm64.kernel import QEMU
from tests.systemd.arm64.machine import run

LARGE = 16_384

pytestmark = pytest.mark.needs("root", "qemu-aarch64-static", QEMU, "mkfs.ext4")


@dataclass(frozen=True)
class Found:
    """What the machine told, and the folder with both stores as it left them."""

    result: dict[str, Any]
    stores: Path


@pytest.fixture(scope="module")
def found(root: Root, tmp_path_factory: pytest.TempPathFactory) -> Found:
    work, card = tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("card")
    trio.run(written_here, work, card)
    results = run(root.folder, card, work)
    # By the program: safe extraction is in `tarfile` from Python 3.11.4 on, Debian 12 has 3.11.2.
    subprocess.run(["tar", "-xf", results, "-C", work, "--no-same-owner"], check=True, timeout=300)
    return Found(json.loads((work / "result.json").read_text()), work)


async def written_here(work: Path, card: Path) -> None:
    """The store of an agent of this machine, as what its card holds."""
    here = AgentProcess(work, "here", '[store]\nsize = "32MiB"\n')
    async with agents(here):
        async with Producer(f"{here.url}/ingest/amd64/n", source="sensor/amd64/n") as producer:
            for number in range(RECORDS):
                await producer.send({"n": number})
        assert await here.stop() == 0
    here.store.rename(card / "amd64")


def test_its_pages_are_large(found: Found) -> None:
    assert found.result["page_bytes"] == LARGE


def test_stores_keep_the_pages_of_the_machine_that_made_them(found: Found) -> None:
    assert found.result["store_pages"] == {"arm64": LARGE, "amd64": resource.getpagesize()}


def test_what_is_forwarded_both_ways_around_a_kill_arrives_exactly_once(found: Found) -> None:
    for name, held in found.result["held"].items():
        for source, numbers in held.items():
            # Where a machine is so slow that some waited for long, newer ones go out first.
            assert sorted(numbers) == list(range(RECORDS)), (name, source)
    assert found.result["exits"] == [0, 0]


def test_what_it_says_of_a_commits_bytes_is_what_the_device_got(found: Found) -> None:
    wear = found.result["wear"]
    assert wear["commits"] >= COMMITS
    # Nothing was written while either was asked.
    assert 0.9 * wear["device"] <= wear["card_bytes"] <= wear["device"]
    assert 0.8 * wear["device"] <= wear["written_bytes"] <= 1.05 * wear["device"]
    # docs/reading-doctor.md says 65 KB.
    assert 60_000 <= wear["device"] / wear["commits"] <= 80_000
    assert "the store has pages of 16 KiB" in " ".join(found.result["doctor"].split())


@pytest.mark.parametrize("made_on", ["amd64", "arm64"])
async def test_a_store_is_read_whole_on_both_machines(found: Found, made_on: str) -> None:
    there = found.result["check"][made_on]
    assert there.endswith("exit code 0\n"), there
    here = await run_command("check", "--deep", "--data", str(found.stores / made_on))
    assert here.returncode == 0, here.stdout + here.stderr
    assert facts(there)[:-1] == facts(here.stdout) != []
