from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import block_key
from edge_agent.store.lmdb_file.btree import leaves_from
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.lmdb_file.recheck import check_before_removal
from edge_agent.store.settings import LogSettings
from tests.store.conftest import Stores
from tests.store.support import MIB, PAGE, entry, failing_disk, values


def flip_header(stores: Stores, first: int) -> None:
    """The long value claims 65,536 pages more than it has."""
    with PageFile(stores.data()) as pages:
        nodes = {node.key: node for node in pages.nodes(pages.meta.main.root, print)}
    with stores.data().open("r+b") as file:
        file.seek(nodes[block_key(1, first)].overflow * PAGE + 14)
        file.write(b"\x01")


def test_sound_blocks_may_go_and_no_others(stores: Stores) -> None:
    engine = stores.open(size=1 * MIB, compression_level=0)
    for first in range(1, 101, 10):
        engine.commit([entry(10, first, pad=1000)])
    engine.close()
    stores.damaged.add("agent")
    flip_header(stores, 51)
    env = open_environment(stores.data().parent, 1 * MIB)
    doomed = [block_key(1, first) for first in range(1, 101, 10)]
    check_before_removal(env, doomed[:5])
    check_before_removal(env, [])
    with pytest.raises(StoreDamaged, match="long value"):
        check_before_removal(env, doomed[:6])
    env.close()


def test_a_header_that_went_wrong_while_the_store_is_open_gives_no_page_away(
    stores: Stores,
) -> None:
    stores.damaged.add("agent")
    logs = (LogSettings("main", share=0.3),)
    engine = stores.open(size=1 * MIB, compression_level=0, logs=logs)
    for first in range(1, 401, 10):
        engine.commit([entry(10, first, pad=1000)])
    oldest = engine.first_seq("main")
    flip_header(stores, oldest)

    def until_it_trims() -> None:
        for first in range(401, 801, 10):
            engine.commit([entry(10, first, pad=1000)])

    with pytest.raises(StoreFailed, match="long value"):
        until_it_trims()
    engine.reopen()
    assert engine.salvage_report is not None
    assert engine.salvage_report["missing"] == 0
    assert values(engine)[0] == oldest


def test_nor_does_one_where_thinning_puts_other_blocks(stores: Stores) -> None:
    stores.damaged.add("agent")
    logs = (LogSettings("main", share=0.3, when_full="thin-oldest"),)
    engine = stores.open(size=8 * MIB, compression_level=0, logs=logs)
    blocks = iter(range(1, 60_000, 100))

    def until(enough: Callable[[], bool]) -> None:
        while not enough():
            stores.clock.advance(1.0)
            engine.commit([entry(100, next(blocks), pad=100)])

    until(lambda: engine.last_seq("main") >= 9000)
    flip_header(stores, 4001)
    with pytest.raises(StoreFailed, match="long value"):
        until(lambda: engine.statistics().logs["main"].thinned > 4000)
    engine.reopen()
    assert engine.salvage_report is not None
    assert engine.salvage_report["missing"] == 0
    found = values(engine)
    assert found == list(range(1, len(found) + 1))


def test_blocks_out_of_sight_are_looked_for_before_they_are_told_as_lost(stores: Stores) -> None:
    stores.damaged.add("agent")
    engine = stores.open(size=2 * MIB, compression_level=0)
    for first in range(1, 401, 10):
        engine.commit([entry(10, first, pad=200)])
    with PageFile(stores.data()) as pages:
        *_, last = leaves_from(pages, pages.meta.main, block_key(1, 1))
    with stores.data().open("r+b") as file:
        # The place of the page's second node.
        place = last.number * PAGE + 18
        file.seek(place)
        flipped = file.read(1)[0] ^ 64
        file.seek(place)
        file.write(bytes([flipped]))
    with failing_disk():
        with pytest.raises(StoreFailed, match="cannot be salvaged"):
            values(engine)
        told = str(engine.refusal)
    assert "cannot be salvaged" in told
    engine.reopen()
    assert values(engine) == list(range(1, 401))
