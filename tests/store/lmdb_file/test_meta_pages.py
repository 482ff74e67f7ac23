from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import STORE
from edge_agent.store.lmdb_file.btree import Account, booked_by_header, check_leaves, spans
from edge_agent.store.lmdb_file.meta_pages import follow_roots, sound_roots
from edge_agent.store.lmdb_file.pages import ROOT_BYTES, PageFile
from edge_agent.store.lmdb_file.preflight import preflight
from tests.store.conftest import Stores
from tests.store.support import MIB, PAGE, entry, values


@pytest.fixture
def data(stores: Stores) -> Path:
    """A store after ten commits; each root is of one of the last two."""
    engine = stores.open(size=1 * MIB, compression_level=0)
    for first in range(1, 101, 10):
        engine.commit([entry(10, first, pad=500)])
    engine.close()
    return stores.data()


def flip(data: Path, bit: int) -> None:
    raw = bytearray(data.read_bytes())
    raw[bit // 8] ^= 1 << bit % 8
    data.write_bytes(raw)


def test_the_trees_of_the_last_two_commits_are_whole_whatever_is_trimmed(tmp_path: Path) -> None:
    """What everything here rests on, asked of LMDB itself: also of an unfinished commit's pages."""
    dice = random.Random(1)
    env = open_environment(tmp_path, 8 * MIB)
    live: list[bytes] = []

    def work(txn: lmdb.Transaction[bytes]) -> None:
        txn.put(STORE, b"header")
        for _ in range(dice.randrange(1, 20)):
            live.append(b"\xf0\x01" + dice.randbytes(8))
            txn.put(live[-1], dice.randbytes(dice.choice([10, 500, 2500, 9000])))
        while len(live) > 300:
            txn.delete(live.pop(dice.randrange(len(live))))

    for _ in range(150):
        with writing(env) as txn:
            work(txn)
        with PageFile(tmp_path / "data.mdb") as pages:
            for root in sound_roots(pages):
                if root.meta.txn < 2:
                    continue
                assert not root.mended
                account = Account(root.meta.last)
                found = spans(pages, root.meta.main, account)
                for span in found:
                    account.take(span.number)
                leaves = check_leaves(pages, found, account, booked_by_header(pages))
                assert sum(leaf.entries for leaf in leaves) == root.meta.main.entries
    env.close()


def test_the_newest_root_is_the_one_with_the_newest_stamp(data: Path) -> None:
    with PageFile(data) as pages:
        newest, older = sound_roots(pages)
        assert newest.meta == pages.meta
        assert (newest.meta.txn - 1, newest.slot) == (older.meta.txn, newest.meta.txn & 1)


def test_a_flipped_number_does_not_take_an_acked_commit_back(stores: Stores, data: Path) -> None:
    with PageFile(data) as pages:
        newest = pages.meta.txn
    # Bit by bit of the number: some make LMDB use the older root, others the wrong slot.
    for bit in range(64):
        at = ((newest & 1) * PAGE + 16 + 128) * 8 + bit
        flip(data, at)
        with PageFile(data) as pages:
            assert sound_roots(pages)[0].meta.txn == newest
            assert "number of the commit" in sound_roots(pages)[0].mended
        flip(data, at)
    flip(data, ((newest & 1) * PAGE + 16 + 128) * 8 + 1)
    engine = stores.open(size=1 * MIB)
    assert engine.salvage_report is None
    assert values(engine) == list(range(1, 101))


@pytest.mark.parametrize("field", ["none", "entries", "depth"])
def test_a_number_one_bit_away_is_mended_only_where_all_else_of_the_root_agrees(
    stores: Stores, data: Path, field: str
) -> None:
    """An old root can lead to a page that a newer commit, a bit away by its number, has used."""
    with PageFile(data) as pages:
        meta = pages.meta
        main = meta.main
        if field == "entries":
            main = replace(main, entries=main.entries - 1)
        elif field == "depth":
            main = replace(main, depth=main.depth + 1)
        old = replace(meta, txn=meta.txn ^ 1 << 5, main=main).encode(meta.txn & 1)
    raw = bytearray(data.read_bytes())
    at = (meta.txn & 1) * PAGE
    raw[at : at + len(old)] = old
    data.write_bytes(raw)
    stores.damaged.add(data.parent.parent.name)
    with PageFile(data) as pages:
        if field == "none":
            newest, _ = sound_roots(pages)
            assert newest.meta == meta and "number of the commit" in newest.mended
        else:
            with pytest.raises(StoreDamaged):
                sound_roots(pages)
            assert meta not in follow_roots(pages).proven


def test_every_seventh_bit_of_both_roots_is_mended_or_means_nothing(data: Path) -> None:
    good = data.read_bytes()
    ignored = 0
    with PageFile(data) as pages:
        newest = sound_roots(pages)[0].meta
    for slot in (0, 1):
        for bit in range(slot, ROOT_BYTES * 8, 7):
            flip(data, slot * PAGE * 8 + bit)
            flipped = data.read_bytes()
            preflight(data.parent, 1 * MIB)
            after = data.read_bytes()
            # What may stay is what nothing reads: the page's pad, an address, an old root's counts.
            ignored += after == flipped
            if after != flipped:
                with PageFile(data) as pages:
                    assert not any(root.mended for root in sound_roots(pages))
                    assert sound_roots(pages)[0].meta == newest, (slot, bit)
                    assert pages.meta.main.root == newest.main.root
            data.write_bytes(good)
    assert ignored < 150


def test_a_root_beyond_mending_is_damage_that_names_what_is_left(
    stores: Stores, data: Path
) -> None:
    good = data.read_bytes()
    with PageFile(data) as pages:
        newest, older = sound_roots(pages)
    raw = bytearray(good)
    raw[newest.slot * PAGE : newest.slot * PAGE + ROOT_BYTES] = b"\xff" * ROOT_BYTES
    data.write_bytes(raw)
    with PageFile(data) as pages:
        with pytest.raises(StoreDamaged, match="one of the file's two roots"):
            sound_roots(pages)
        found = follow_roots(pages)
        assert [meta.txn for meta in found.proven] == [older.meta.txn]
        assert not found.newest_known
    stores.damaged.add("agent")
    raw = bytearray(good)
    raw[16:152] = raw[PAGE + 16 : PAGE + 152] = bytes(136)
    data.write_bytes(raw)
    with PageFile(data) as pages, pytest.raises(StoreDamaged, match="neither"):
        sound_roots(pages)


def test_roots_that_do_not_follow_one_another_are_damage(stores: Stores, data: Path) -> None:
    slot_of_old = data.read_bytes()[:PAGE]
    engine = stores.open(size=1 * MIB)
    for first in range(101, 104):
        engine.commit([entry(1, first)])
    engine.close()
    raw = bytearray(data.read_bytes())
    raw[:PAGE] = slot_of_old
    data.write_bytes(raw)
    stores.damaged.add("agent")
    with PageFile(data) as pages, pytest.raises(StoreDamaged):
        sound_roots(pages)
    again = stores.open(size=1 * MIB)
    assert again.salvage_report is not None
    assert values(again) == list(range(1, 104))


def test_a_new_store_without_a_second_commit_is_sound(tmp_path: Path) -> None:
    env = open_environment(tmp_path, 1 * MIB)
    with writing(env) as txn:
        txn.put(STORE, b"header")
    env.close()
    with PageFile(tmp_path / "data.mdb") as pages:
        roots = sound_roots(pages)
    assert [root.meta.txn for root in roots] == [1, 0]
    assert not any(root.mended for root in roots)


def test_a_store_of_before_there_were_stamps_opens(stores: Stores, data: Path) -> None:
    env = open_environment(data.parent, 1 * MIB)
    for _ in range(2):
        with env.begin(write=True) as txn:
            txn.delete(b"\x00\x01")
            header = txn.get(STORE)
            assert header is not None
            txn.put(STORE, header)
    env.close()
    engine = stores.open(size=1 * MIB)
    assert engine.salvage_report is None
    assert values(engine) == list(range(1, 101))
