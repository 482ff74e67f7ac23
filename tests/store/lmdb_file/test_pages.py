from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.create import open_environment
from edge_agent.store.lmdb_file.pages import ROOT_BYTES, PageFile, empty_file
from tests.store.support import MIB, PAGE, seeded

ENTROPY = seeded(5)


@pytest.fixture
def content() -> dict[bytes, bytes]:
    """Enough for branch pages, with values short, long, and at the border between."""
    sizes = [0, 1, 100, 2000, 2012, 2013, 2014, 2015, 2016, 4080, 4081, 100_000]
    return {b"%05d" % i: ENTROPY(sizes[i % len(sizes)]) for i in range(400)}


@pytest.fixture
def data(tmp_path: Path, content: dict[bytes, bytes]) -> Path:
    env = lmdb.open(str(tmp_path), map_size=16 * MIB, lib_version=0, sync=False)
    items = list(content.items())
    for start in range(0, len(items), 9):
        with env.begin(write=True) as txn:
            for key, value in items[start : start + 9]:
                txn.put(key, value)
    env.sync(True)
    env.close()
    return tmp_path / "data.mdb"


def read(data: Path) -> tuple[dict[bytes, bytes], list[str]]:
    problems: list[str] = []
    found: dict[bytes, bytes] = {}
    with PageFile(data) as pages:
        for node in pages.nodes(pages.meta.main.root, problems.append):
            try:
                found[node.key] = pages.value(node)
            except StoreDamaged as error:
                problems.append(str(error))
    return found, problems


def test_everything_lmdb_wrote_is_read_in_order(data: Path, content: dict[bytes, bytes]) -> None:
    found, problems = read(data)
    assert found == content
    assert list(found) == sorted(content)
    assert not problems


def test_a_damaged_page_costs_only_what_hangs_below_it(
    data: Path, content: dict[bytes, bytes]
) -> None:
    raw = bytearray(data.read_bytes())
    # A leaf page: it says so in its flags and holds keys of ours.
    at = next(
        place
        for place in range(2 * PAGE, len(raw), PAGE)
        if raw[place + 10 : place + 12] == b"\x02\x00" and b"00200" in raw[place : place + PAGE]
    )
    raw[at + 10] = 0xFF
    data.write_bytes(raw)
    found, problems = read(data)
    assert problems
    assert 300 < len(found) < 400
    assert all(content[key] == value for key, value in found.items())


def test_the_older_root_is_used_where_the_newer_is_damaged(
    data: Path, content: dict[bytes, bytes]
) -> None:
    with PageFile(data) as pages:
        newest = max((0, 1), key=lambda n: meta.txn if (meta := pages.metas[n]) else 0)
    raw = bytearray(data.read_bytes())
    raw[newest * PAGE + 16] ^= 0xFF
    data.write_bytes(raw)
    with PageFile(data) as pages:
        assert pages.metas[newest] is None
        assert pages.meta.main.entries == len(content) - len(content) % 9


@pytest.mark.parametrize("size", [0, 1, 15, 4096, 8191])
def test_a_file_without_roots_is_damaged_and_nothing_worse(data: Path, size: int) -> None:
    raw = data.read_bytes()
    for short in (raw[:size], b"\xff" * size, bytes(size)):
        data.write_bytes(short)
        with PageFile(data) as pages:
            if pages.metas == [None, None]:
                with pytest.raises(StoreDamaged, match="roots"):
                    _ = pages.meta


def test_no_cut_and_no_noise_makes_reading_fail_otherwise(data: Path) -> None:
    raw = data.read_bytes()
    noise = seeded(11)
    for round_ in range(30):
        wrong = bytearray(raw)
        for _ in range(20):
            place = int.from_bytes(noise(4), "big") % len(raw)
            # Page headers and node places are near the start of pages; noise elsewhere is rare.
            place = place - place % PAGE + place % 64 if round_ % 2 else place
            wrong[place] = noise(1)[0]
        data.write_bytes(wrong[: len(raw) if round_ % 3 else PAGE * (round_ + 2)])
        with PageFile(data) as pages:
            problems: list[str] = []
            try:
                for node in pages.nodes(pages.meta.main.root, problems.append):
                    pages.value(node)
            except StoreDamaged:
                pass


def test_a_tree_that_leads_back_to_itself_ends(data: Path) -> None:
    with PageFile(data) as pages:
        root = pages.meta.main.root
    raw = bytearray(data.read_bytes())
    place = root * PAGE + int.from_bytes(raw[root * PAGE + 16 : root * PAGE + 18], "little")
    raw[place : place + 2] = root.to_bytes(2, "little")
    data.write_bytes(raw)
    _, problems = read(data)
    assert f"page {root} is reached twice" in problems


def test_an_empty_tree_has_no_nodes(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path), lib_version=0)
    env.close()
    with PageFile(tmp_path / "data.mdb") as pages:
        assert list(pages.nodes(pages.meta.main.root, print)) == []


def test_an_empty_file_is_what_lmdb_makes_itself(tmp_path: Path) -> None:
    env = open_environment(tmp_path, MIB)
    env.close()
    made = (tmp_path / "data.mdb").read_bytes()
    wanted = empty_file(MIB, PAGE)
    assert len(made) == len(wanted) == 2 * PAGE
    for slot in (0, 1):
        # What is behind a root's bytes means nothing.
        at = slice(slot * PAGE, slot * PAGE + ROOT_BYTES)
        assert made[at] == wanted[at]


@pytest.mark.parametrize("page_bytes", [4096, 8192, 16_384, 32_768])
def test_a_file_with_pages_of_any_size_is_filled_and_read(tmp_path: Path, page_bytes: int) -> None:
    env = open_environment(tmp_path, 4 * MIB, page_bytes=page_bytes)
    content = {b"%05d" % number: bytes(number * 17 % 40_000) for number in range(100)}
    for key, value in content.items():
        with env.begin(write=True) as txn:
            txn.put(key, value)
    assert env.stat()["psize"] == page_bytes
    env.close()
    found, problems = read(tmp_path / "data.mdb")
    assert (found, problems) == (content, [])
