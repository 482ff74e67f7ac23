from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.errors import StoreDamaged, StoreTooNew
from edge_agent.store.lmdb_file.meta_pages import follow_roots
from edge_agent.store.lmdb_file.pages import PageFile, empty_file
from edge_agent.store.lmdb_file.preflight import preflight, preflight_pages
from tests.store.conftest import Stores
from tests.store.support import MIB, PAGE, entry, failing_disk, values


@pytest.fixture
def folder(stores: Stores) -> Path:
    engine = stores.open(size=1 * MIB, compression_level=0)
    for first in range(1, 101, 10):
        engine.commit([entry(10, first, pad=500)])
    engine.close()
    stores.damaged.add("agent")
    return stores.path() / "store"


def test_a_good_store_may_be_opened(folder: Path) -> None:
    preflight(folder, 1 * MIB)


def test_a_shortened_file_whose_pages_are_all_there_gets_its_space_back(
    stores: Stores, folder: Path
) -> None:
    with PageFile(folder / "data.mdb") as pages:
        used = (pages.meta.last + 1) * PAGE
    with (folder / "data.mdb").open("r+b") as file:
        file.truncate(used)
    engine = stores.open(size=1 * MIB)
    assert engine.salvage_report is None
    assert (folder / "data.mdb").stat().st_size == 1 * MIB
    assert values(engine) == list(range(1, 101))


def test_without_space_to_give_back_the_store_opens_all_the_same(folder: Path) -> None:
    with failing_disk():
        preflight(folder, 2 * MIB)
    assert (folder / "data.mdb").stat().st_size == 1 * MIB


def test_a_file_cut_within_its_pages_may_not_be_opened(folder: Path) -> None:
    with (folder / "data.mdb").open("r+b") as file:
        file.truncate(20 * 1024)
    with pytest.raises(StoreDamaged):
        preflight(folder, 1 * MIB)


@pytest.mark.parametrize("raw", [b"", b"\0" * 100_000, b"\xff" * 100_000, b"#!/bin/sh\n"])
def test_what_is_no_store_may_not_be_opened(folder: Path, raw: bytes) -> None:
    (folder / "data.mdb").write_bytes(raw)
    with pytest.raises(StoreDamaged):
        preflight(folder, 1 * MIB)


@pytest.mark.parametrize("size", [200, 582, PAGE - 1, PAGE, PAGE + 150, 2 * PAGE - 1])
@pytest.mark.parametrize("look", [lambda at: preflight(at, 1 * MIB), preflight_pages])
def test_a_file_cut_within_its_roots_is_damage(
    stores: Stores, look: Callable[[Path], None], size: int
) -> None:
    # Never written to: its roots lead nowhere, and each is whole by itself.
    path = stores.path() / "new"
    path.mkdir(parents=True)
    (path / "data.mdb").write_bytes(empty_file(1 * MIB, PAGE)[:size])
    with pytest.raises(StoreDamaged):
        look(path)
    with PageFile(path / "data.mdb") as pages:
        assert not follow_roots(pages).proven


def test_a_missing_file_is_damage(folder: Path) -> None:
    (folder / "data.mdb").unlink()
    with pytest.raises(StoreDamaged, match=r"no data\.mdb"):
        preflight(folder, 1 * MIB)


def test_another_format_of_lmdb_is_too_new_and_one_odd_root_is_mended(folder: Path) -> None:
    good = (folder / "data.mdb").read_bytes()
    raw = bytearray(good)
    raw[16 + 4] = 3
    (folder / "data.mdb").write_bytes(raw)
    preflight(folder, 1 * MIB)
    assert (folder / "data.mdb").read_bytes() == good
    raw[PAGE + 16 + 4] = 3
    (folder / "data.mdb").write_bytes(raw)
    with pytest.raises(StoreTooNew, match="LMDB's format 3"):
        preflight(folder, 1 * MIB)


def test_a_last_key_that_is_none_of_ours_is_damage(folder: Path) -> None:
    # In order it is, and no page is broken: only what it should be says that a bit has flipped.
    raw = bytearray((folder / "data.mdb").read_bytes())
    with PageFile(folder / "data.mdb") as pages:
        *_, last = pages.nodes(pages.meta.main.root, print)
    at = raw.index(last.key)
    while at >= 0:
        raw[at] ^= 4
        at = raw.find(last.key)
    (folder / "data.mdb").write_bytes(raw)
    with pytest.raises(StoreDamaged, match="last key is none of ours"):
        preflight(folder, 1 * MIB)


def test_free_pages_that_do_not_exist_are_damage(folder: Path) -> None:
    with PageFile(folder / "data.mdb") as pages:
        meta = pages.meta
        assert next(pages.nodes(meta.free.root, print)).inline is not None
    raw = bytearray((folder / "data.mdb").read_bytes())
    page = meta.free.root * PAGE
    place = page + int.from_bytes(raw[page + 16 : page + 18], "little")
    # Node header of 8, key of 8, count of 8, then the first page number.
    raw[place + 24 : place + 32] = (10_000_000).to_bytes(8, "little")
    (folder / "data.mdb").write_bytes(raw)
    with pytest.raises(StoreDamaged, match="10000000 does not exist"):
        preflight(folder, 1 * MIB)
