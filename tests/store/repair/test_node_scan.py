from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.store.format.keys import BLOCK
from edge_agent.store.lmdb_file.btree import Account, spans
from edge_agent.store.lmdb_file.meta_pages import sound_roots
from edge_agent.store.lmdb_file.pages import BRANCH, Node, PageFile
from edge_agent.store.repair.node_scan import Finder
from edge_agent.store.repair.recover import is_sound
from tests.store.conftest import Stores
from tests.store.support import MIB, PAGE, entry


@pytest.fixture
def data(stores: Stores) -> Path:
    """Blocks 1–10 … 1991–2000 in several leaf pages."""
    engine = stores.open(size=2 * MIB, compression_level=0)
    for first in range(1, 2001, 10):
        engine.commit([entry(10, first, pad=[20, 150][first // 10 % 2])])
    engine.close()
    stores.damaged.add("agent")
    return stores.data()


class Found:
    """Everything that a finder finds, first in the newest tree, then elsewhere."""

    def __init__(self, data: Path) -> None:
        self.problems: list[str] = []
        with PageFile(data) as pages:
            finder = Finder(pages, self.problems.append, lambda node: is_sound(pages, node))
            self.newest = self._sound(pages, list(finder.newest()))
            self.incomplete = finder.incomplete
            finder.sweep()
            self.elsewhere = self._sound(pages, list(finder.elsewhere(lambda: None)))

    def _sound(self, pages: PageFile, nodes: list[Node]) -> set[bytes]:
        return {n.key for n in nodes if n.key[:1] == BLOCK and is_sound(pages, n)}


def turn(data: Path, at: int, mask: int) -> None:
    raw = bytearray(data.read_bytes())
    raw[at] ^= mask
    data.write_bytes(raw)


def leaf_pages(data: Path) -> list[int]:
    with PageFile(data) as pages:
        root = sound_roots(pages)[0].meta
        return [span.number for span in spans(pages, root.main, Account(root.last))]


def test_a_sound_file_gives_all_from_its_newest_tree(data: Path) -> None:
    found = Found(data)
    assert len(found.newest) == 200
    assert not found.incomplete
    assert not found.problems


@pytest.mark.parametrize("at, mask", [(0, 4), (10, 1), (12, 2), (12, 8), (14, 2), (18, 2)], ids=str)
def test_one_bit_in_a_leaf_page_costs_nothing(data: Path, at: int, mask: int) -> None:
    turn(data, leaf_pages(data)[8] * PAGE + at, mask)
    found = Found(data)
    assert len(found.newest) == 200
    assert not found.incomplete


def test_one_bit_in_a_nodes_size_costs_nothing(data: Path) -> None:
    page = leaf_pages(data)[8]
    raw = data.read_bytes()
    place = int.from_bytes(raw[page * PAGE + 16 : page * PAGE + 18], "little")
    for at, mask in ((0, 1), (1, 1), (2, 1), (6, 1), (6, 32)):
        turn(data, page * PAGE + place + at, mask)
        assert len(Found(data).newest) == 200
        data.write_bytes(raw)


def test_a_page_beyond_mending_costs_what_no_older_page_has(data: Path) -> None:
    page = leaf_pages(data)[8]
    raw = bytearray(data.read_bytes())
    raw[page * PAGE : page * PAGE + 2000] = b"\xff" * 2000
    data.write_bytes(raw)
    found = Found(data)
    assert found.incomplete
    assert 180 <= len(found.newest) < 200
    assert found.problems


def test_what_hangs_below_a_broken_branch_page_is_found_without_it(data: Path) -> None:
    with PageFile(data) as pages:
        root = sound_roots(pages)[0].meta.main.root
        assert pages.tree_page(root)[1] == BRANCH
    raw = bytearray(data.read_bytes())
    raw[root * PAGE : root * PAGE + PAGE] = bytes(PAGE)
    data.write_bytes(raw)
    found = Found(data)
    assert len(found.newest | found.elsewhere) == 200
