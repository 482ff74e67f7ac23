from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.keys import block_key, source_key
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.read.scrub_step import DamagedBlock, scrub_step
from tests.store.conftest import Stores
from tests.store.support import MIB, PAGE, entry

LOGS = {1: ("main", 1000)}


@pytest.fixture
def data(stores: Stores) -> Path:
    """Blocks 1–10 … 991–1000, every third in pages of its own."""
    engine = stores.open(size=2 * MIB, compression_level=0)
    for first in range(1, 1001, 10):
        engine.commit([entry(10, first, pad=[20, 60, 1000][first // 10 % 3])])
    engine.close()
    stores.damaged.add("agent")
    return stores.data()


def whole(data: Path, limit: int) -> tuple[int, list[DamagedBlock], int]:
    """A pass in steps: blocks, what was damaged, steps."""
    blocks, steps, after = 0, 0, b""
    damaged: list[DamagedBlock] = []
    with PageFile(data) as pages:
        while True:
            step = scrub_step(pages, pages.meta, LOGS, after, limit)
            blocks, steps, after = blocks + step.blocks, steps + 1, step.after
            damaged += step.damaged
            if not after:
                return blocks, damaged, steps


def flip(data: Path, key: bytes, at: int) -> None:
    raw = bytearray(data.read_bytes())
    with PageFile(data) as pages:
        node = next(one for one in pages.nodes(pages.meta.main.root, print) if one.key == key)
        value = pages.value(node)
    turned = bytearray(value)
    turned[at] ^= 1
    if node.overflow:
        raw[node.overflow * PAGE + 16 + at] ^= 1
    else:
        # Older copies of its leaf page are changed along.
        raw = raw.replace(value, bytes(turned))
    data.write_bytes(raw)


@pytest.mark.parametrize("limit", [1, 40_000, 10 * MIB])
def test_a_pass_reads_each_block_once_however_long_its_steps(data: Path, limit: int) -> None:
    blocks, damaged, steps = whole(data, limit)
    assert (blocks, damaged) == (100, [])
    assert (steps > 90) == (limit == 1)


@pytest.mark.parametrize("limit", [1, 10 * MIB])
def test_damaged_blocks_are_told_with_what_they_covered(data: Path, limit: int) -> None:
    for first in (1, 21, 991):
        flip(data, block_key(1, first), 70)
    blocks, damaged, _ = whole(data, limit)
    assert blocks == 100
    assert [(one.log, one.first, one.last) for one in damaged] == [
        ("main", 1, 10), ("main", 21, 30), ("main", 991, 1000)
    ]  # fmt: skip
    assert all(one.begin for one in damaged)


def test_any_other_value_that_fails_is_damage(data: Path) -> None:
    flip(data, source_key("pi"), 1)
    with pytest.raises(StoreDamaged, match="checksum"):
        whole(data, 10 * MIB)


def test_a_page_whose_structure_is_wrong_is_damage(data: Path) -> None:
    with PageFile(data) as pages:
        node = next(n for n in pages.nodes(pages.meta.main.root, print) if n.overflow)
    raw = bytearray(data.read_bytes())
    raw[node.overflow * PAGE + 10] ^= 16
    data.write_bytes(raw)
    with pytest.raises(StoreDamaged, match="long value"):
        whole(data, 10 * MIB)
