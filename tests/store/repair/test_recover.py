from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.create import open_environment
from edge_agent.store.format.block import Packed, encode_block
from edge_agent.store.format.keys import (
    QUARANTINE,
    block_key,
    log_key,
    position_key,
    quarantine_key,
    source_key,
)
from edge_agent.store.format.payload import encode_runs
from edge_agent.store.format.values import (
    LogHeader,
    PositionValue,
    QuarantineHeader,
    QuarantineValue,
    SourceValue,
    decode,
    encode,
)
from edge_agent.store.lmdb_file.pages import Node, PageFile
from edge_agent.store.repair import recover as holes_module
from edge_agent.store.repair.recover import Copy, Holes, is_sound, sound
from tests.manual_clock import ManualClock
from tests.store.support import MIB, run


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[PageFile]:
    (tmp_path / "data.mdb").write_bytes(bytes(8192))
    with PageFile(tmp_path / "data.mdb") as opened:
        yield opened


@pytest.fixture
def env(tmp_path: Path) -> Iterator[lmdb.Environment]:
    (tmp_path / "new").mkdir()
    made = open_environment(tmp_path / "new", 1 * MIB)
    yield made
    made.close()


def node(key: bytes, value: bytes) -> Node:
    return Node(key, len(value), value, 0)


def block(first: int, count: int, log_id: int = 1) -> Node:
    payload = encode_runs([run(count, value=first)])
    key = block_key(log_id, first)
    packed = Packed(count, 0, len(payload), payload, 0, 0)
    return node(key, encode_block(key, packed, ManualClock().read()))


def log(first: int, last: int, name: str = "main", log_id: int = 1) -> Node:
    key = log_key(name)
    return node(key, encode(key, LogHeader(log_id, first, last)))


def turned(key: bytes, bit: int) -> bytes:
    raw = bytearray(key)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


def test_a_flipped_bit_in_a_key_is_turned_back_by_the_checksum(pages: PageFile) -> None:
    good = block(100, 5)
    for bit in range(80):
        bad = node(turned(good.key, bit), good.inline or b"")
        assert not is_sound(pages, bad)
        assert sound(pages, bad)[0] == good.key
        with pytest.raises(StoreDamaged):
            sound(pages, bad, turn=False)


def test_old_blocks_come_back_only_where_one_is_missing(
    pages: PageFile, env: lmdb.Environment
) -> None:
    copy = Copy(env, MIB)
    for one in (log(11, 40), block(11, 10), block(31, 10)):
        copy.take(pages, one)
    copy.newest_read(newest_known=True, latest=0)
    copy.look_elsewhere()
    copy.take(pages, block(1, 10))  # trimmed long ago: passed over
    copy.take(pages, block(41, 5))  # never committed
    copy.take(pages, block(11, 10))
    with pytest.raises(StoreDamaged, match="overlaps"):
        copy.take(pages, block(21, 11))
    copy.take(pages, block(21, 10))
    assert (copy.blocks, copy.records) == (3, 30)
    assert copy.lost("main", copy.logs["main"]).missing == 0
    assert copy.copied[1].first == 11


def test_an_old_page_within_the_newest_tree_gives_back_nothing_that_was_removed(
    pages: PageFile, env: lmdb.Environment
) -> None:
    # A bit turned in a branch can lead to an older version of the page that belongs there.
    copy = Copy(env, MIB)
    copy.roots = frozenset({7, 8})
    copy.take(pages, log(11, 40), 8)
    with pytest.raises(StoreDamaged, match="old"):
        copy.take(pages, block(1, 10), 0)
    copy.take(pages, block(11, 30), 0)
    copy.newest_read(newest_known=True, latest=8)
    copy.look_elsewhere()
    assert copy.lost("main", copy.logs["main"]).missing == 0
    assert (copy.blocks, copy.records) == (1, 30)


def test_a_header_of_a_commit_that_may_never_have_been_made_removes_nothing(
    pages: PageFile, env: lmdb.Environment
) -> None:
    copy = Copy(env, MIB)
    copy.roots = frozenset({7, 8})
    copy.take(pages, log(31, 50), 9)
    copy.take(pages, block(11, 20), 0)
    assert (copy.blocks, copy.records) == (1, 20)


def test_what_the_newest_tree_holds_is_not_replaced_by_something_older(
    pages: PageFile, env: lmdb.Environment
) -> None:
    copy = Copy(env, MIB)

    def source(number: int, name: str = "pi") -> Node:
        key = source_key(name)
        return node(key, encode(key, SourceValue(number, 1, True)))

    copy.take(pages, source(5))
    copy.newest_read(newest_known=True, latest=0)
    copy.look_elsewhere()
    for number in (9, 4):
        copy.take(pages, source(number))
        copy.take(pages, source(number, "missed"))
    copy.write()
    with env.begin() as txn:
        for name, number in (("pi", 5), ("missed", 9)):
            raw = txn.get(source_key(name))
            assert raw is not None
            assert decode(source_key(name), raw, SourceValue).next == number


def test_floors_count_as_seqs_that_an_upstream_has_seen(
    pages: PageFile, env: lmdb.Environment
) -> None:
    copy = Copy(env, MIB)
    key = position_key("up", "main")
    copy.take(pages, node(key, encode(key, PositionValue(77, None))))
    assert copy.floors == {"main": 77}


def test_quarantine_is_numbered_without_a_hole(pages: PageFile, env: lmdb.Environment) -> None:
    copy = Copy(env, MIB)
    for number in (4, 5, 9):
        key = quarantine_key(number)
        value = QuarantineValue("bad_time", "why", "a", "pi", 0, number, b"x")
        copy.take(pages, node(key, encode(key, value)))
    copy.write()
    assert (copy.quarantine.first, copy.quarantine.last) == (4, 6)
    with env.begin() as txn:
        raw = txn.get(quarantine_key(6))
        assert raw is not None
        assert decode(quarantine_key(6), raw, QuarantineValue).arrival_ns == 9


def test_the_header_of_quarantine_is_wanted_from_elsewhere_also_when_newer_entries_are_known(
    pages: PageFile, env: lmdb.Environment
) -> None:
    copy = Copy(env, MIB)

    def entry(number: int) -> Node:
        key = quarantine_key(number)
        return node(key, encode(key, QuarantineValue("bad", "why", "a", "pi", 0, number, b"x")))

    copy.take(pages, entry(9))
    copy.newest_read(newest_known=True, latest=0)
    copy.look_elsewhere()
    copy.take(pages, entry(8))
    assert copy.quarantine == QuarantineHeader(9, 9, copy.quarantine.bytes)
    copy.take(pages, node(QUARANTINE, encode(QUARANTINE, QuarantineHeader(8, 9))))
    for number in (7, 8, 9):
        copy.take(pages, entry(number))
    # 7 was dropped long ago, 9 is there already.
    assert (copy.quarantine.first, copy.quarantine.last) == (9, 10)


def test_what_is_none_of_ours_is_refused(pages: PageFile, env: lmdb.Environment) -> None:
    copy = Copy(env, MIB)
    for bad in (node(b"\x77", encode(b"\x77", LogHeader(1))), node(block_key(0, 1), b"x" * 90)):
        with pytest.raises(StoreDamaged):
            copy.take(pages, bad)


def test_holes_are_filled_once_and_by_what_fits() -> None:
    holes = Holes(10)
    assert holes.fill(10, 19)
    assert not holes.fill(15, 24)
    assert not holes.fill(1, 5)
    assert holes.fill(40, 49)
    assert holes.missing(10, 49) == 20
    assert holes.lacks(20)
    assert not holes.lacks(45)
    assert not holes.fill(30, 40)
    assert holes.fill(20, 39)
    assert holes.missing(10, 49) == 0
    holes.last = 60
    assert not holes.fill(60, 61)


def test_more_holes_than_are_remembered_are_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holes_module, "_HOLES_MAX", 5)
    holes = Holes(1)
    for first in range(1, 100, 10):
        assert holes.fill(first, first + 4)
    assert holes.lacks(6)
    assert not holes.lacks(16)
    assert holes.missing(1, 100) + holes.forgotten == 50
    assert holes.lacks(96)
    assert holes.lacks(86)
