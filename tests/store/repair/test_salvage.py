from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import StoreFailed
from edge_agent.store import Engine, Entry, Gap, LogSettings, Position, Quarantined
from edge_agent.store.create import SALVAGING
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.repair.salvage import SALVAGE_JUMP
from edge_agent.store.tools.check import check_store
from tests.store.conftest import Stores
from tests.store.support import (
    MIB,
    PAGE,
    START_NS,
    entry,
    failing_disk,
    read_all,
    run,
    seeded,
    values,
)


@pytest.fixture
def engine(stores: Stores) -> Engine:
    stores.damaged.add("agent")
    logs = (LogSettings("alarms", ("alarms/**",), share=0.1), LogSettings("main", share=0.5))
    engine = stores.open(size=1 * MIB, compression_level=0, logs=logs)
    for first in range(1, 201, 10):
        engine.commit([entry(10, first, pad=1000)])
    bad = Quarantined("bad_time", "why", "a", "pi", 0, START_NS, b"x")
    position = Position("up", "main", 50, b"state")
    engine.commit([Entry((run(3, stream="alarms/x"),), positions=(position,), quarantine=(bad,))])
    engine.close()
    return engine


def break_root(data: Path) -> None:
    """The newest root is overwritten: more than one bit, so that it cannot be mended."""
    with PageFile(data) as pages:
        slot = pages.meta.txn & 1
    raw = bytearray(data.read_bytes())
    raw[slot * PAGE + 16 : slot * PAGE + 152] = bytes(136)
    data.write_bytes(raw)


def test_a_store_with_a_broken_root_comes_back_with_what_it_had(
    stores: Stores, engine: Engine
) -> None:
    break_root(stores.data())
    again = stores.open(size=1 * MIB)
    report = again.salvage_report
    assert report is not None
    assert "roots" in report["reason"]
    assert report["complete"]
    # The last commit is found without its root: in pages that no tree leads to.
    assert values(again)[:200] == list(range(1, 201))
    assert len(values(again, "alarms")) == 3
    assert again.position("up", "main") == (50, b"state")
    assert len(again.quarantine(0, 9)) == 1
    assert report["missing"] == 0
    assert again.next_of("pi") == 201
    assert again.identity.agent_id == engine.identity.agent_id
    assert again.identity.epoch != engine.identity.epoch
    assert again.identity.store_id != engine.identity.store_id
    assert (stores.path() / "damaged-1" / "data.mdb").exists()
    assert not check_store(stores.path()).problems


def test_quarantine_that_comes_back_has_no_more_room_than_before(stores: Stores) -> None:
    stores.damaged.add("agent")
    bad = [
        Quarantined("bad_time", "why", "a", "pi", 0, START_NS + number, bytes(3000))
        for number in range(9)
    ]
    engine = stores.open(size=1 * MIB)
    for each in bad:
        engine.commit([Entry(quarantine=(each,))])
    engine.close()
    break_root(stores.data())

    again = stores.open(size=1 * MIB)

    held = again.statistics()
    assert held.quarantine_bytes <= again.settings.quarantine_bytes
    assert [item.arrival_ns - START_NS for _, item in again.quarantine(0, 99)] == list(
        range(9 - held.quarantine_entries, 9)
    )
    assert not check_store(stores.path()).problems


def test_new_records_get_seqs_that_no_upstream_can_have_seen(
    stores: Stores, engine: Engine
) -> None:
    break_root(stores.data())
    again = stores.open(size=1 * MIB)
    assert again.last_seq("main") == 200 + SALVAGE_JUMP
    again.commit([entry(2, 201)])
    assert values(again, after=200) == [201, 202]
    gaps = [item for item in read_all(again) if isinstance(item, Gap)]
    assert gaps == [Gap("main", 201, 200 + SALVAGE_JUMP, "damaged")]
    again.close()
    assert values(stores.open(size=1 * MIB), after=200) == [201, 202]


def test_seqs_that_were_passed_over_are_not_told_as_lost_by_a_second_salvage(
    stores: Stores, engine: Engine
) -> None:
    for round_ in (1, 2, 3):
        break_root(stores.data())
        again = stores.open(size=1 * MIB)
        assert again.salvage_report is not None
        told = again.salvage_report
        assert (told["missing"], told["possible"], told["all_known"]) == (0, 0, True), round_
        again.commit([entry(2, 199 + 2 * round_)])
        assert values(again) == list(range(1, 201 + 2 * round_))
        again.close()


def test_a_damaged_node_costs_its_block_and_no_other(stores: Stores, engine: Engine) -> None:
    raw = stores.data().read_bytes()
    with PageFile(stores.data()) as pages:
        nodes = list(pages.nodes(pages.meta.main.root, print))
        victim = next(node for node in nodes if node.key[0] == 0xF0 and node.key[-1] == 91)
    # Its long value points far outside: LMDB would follow it into a SIGBUS.
    # Older copies of its leaf page are changed along.
    node = victim.key + victim.overflow.to_bytes(8, "little")
    stores.data().write_bytes(raw.replace(node, victim.key + (2**40).to_bytes(8, "little")))
    again = stores.open(size=1 * MIB)
    assert again.salvage_report is not None
    assert values(again) == [n for n in range(1, 201) if not 91 <= n <= 100]
    assert len(again.salvage_report["problems"]) == 1
    assert again.salvage_report["missing"] == 10


@pytest.mark.parametrize("raw", [b"", b"nothing of ours" * 5000, bytes(MIB)])
def test_where_nothing_can_be_read_the_agent_starts_with_nothing(
    stores: Stores, engine: Engine, raw: bytes
) -> None:
    stores.data().write_bytes(raw)
    again = stores.open(size=1 * MIB)
    assert again.salvage_report is not None
    assert again.salvage_report["records"] == 0
    assert again.identity.agent_id != engine.identity.agent_id
    again.commit([entry(1, 1)])
    assert values(again) == [1]
    assert (stores.path() / "damaged-1" / "data.mdb").read_bytes() == raw


def test_only_the_newest_damaged_stores_are_kept(stores: Stores, engine: Engine) -> None:
    for _ in range(4):
        stores.data().write_bytes(b"broken again")
        stores.open(size=1 * MIB).close()
    names = sorted(path.name for path in stores.path().glob("damaged-*"))
    assert names == ["damaged-3", "damaged-4"]


def test_a_disk_that_refuses_leaves_the_damaged_store_in_place(
    stores: Stores, engine: Engine
) -> None:
    break_root(stores.data())
    before = stores.data().read_bytes()
    with failing_disk(), pytest.raises(StoreFailed, match="cannot be salvaged"):
        stores.open(size=1 * MIB)
    assert stores.data().read_bytes() == before
    assert not (stores.path() / SALVAGING).exists()
    assert len(values(stores.open(size=1 * MIB))) == 200


def test_a_smaller_new_file_takes_what_fits_and_says_so(stores: Stores, engine: Engine) -> None:
    break_root(stores.data())
    again = stores.open(size=256 * 1024 * 2, logs=(LogSettings("main", share=0.1),))
    assert again.salvage_report is not None
    found = values(again)
    assert found == list(range(1, len(found) + 1))


def test_whatever_byte_is_wrong_the_store_opens_and_tells_no_lie(
    stores: Stores, engine: Engine
) -> None:
    good = stores.data().read_bytes()
    chance = seeded(3)
    used = min(120 * PAGE, len(good))
    for round_ in range(25):
        raw = bytearray(good)
        place = int.from_bytes(chance(4), "big") % used
        # Every other one hits the first bytes of a page, where LMDB keeps its structure.
        place = place - place % PAGE + place % 64 if round_ % 2 else place
        raw[place] ^= 1 << chance(1)[0] % 8
        stores.data().write_bytes(raw)
        again = stores.open(size=1 * MIB)
        found = values(again)
        assert found == sorted(set(found) & set(range(1, 201)))
        again.close()
