"""A store with a key: what is sealed, what a lost key does, and what becomes of older values."""

from __future__ import annotations

import zlib
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edge_agent.errors import StoreSealed
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import (
    Block,
    Engine,
    Entry,
    Gap,
    Numbering,
    Position,
    Quarantined,
    open_environment,
    writing,
)
from edge_agent.store.format.block import decode_block
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.settings import LogSettings
from edge_agent.store.tools import (
    check_store,
    compact_store,
    erase_streams,
    look_deep,
    look_inside,
    read_manifest,
    restore_store,
    take_backup,
    verify,
)
from edge_agent.store.tools.check import Report
from tests.store.conftest import Stores
from tests.store.support import MIB, entry, foreign, read_all, run, small, values

FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))
#: What is looked for in the bytes of files.
SECRET = "greenhouse-door-7"


def ring(*secrets: bytes, seals: bool = True) -> KeyRing:
    return KeyRing(secrets, Random(7).randbytes, seals=seals)


def fill(engine: Engine, first: int = 1, count: int = 20) -> None:
    """Records, a foreign block, a state and an entry of quarantine, each with the secret in it."""
    told = Quarantined("bad", f"{SECRET} is no number", SECRET, "pi", 0, 1, SECRET.encode() * 20)
    engine.commit(
        [
            entry(count, first, stream=SECRET),
            Entry(quarantine=(told,)),
            Entry(positions=(Position("hub", "main", 3, state=SECRET.encode() * 3),)),
        ]
    )
    numbering = Numbering("$agent/x", first, first + 5, restart=True)
    engine.commit([Entry(blocks=(foreign(5, first, stream=SECRET),), numbering=numbering)])


def lies_open(path: Path) -> bool:
    return SECRET.encode() in path.read_bytes()


def checked(stores: Stores, keys: KeyRing = OPEN) -> Report:
    report = check_store(stores.path(), keys)
    assert not report.problems and not report.gaps
    return report


def reads_all(engine: Engine, count: int) -> None:
    found = [item for item in read_all(engine) if isinstance(item, Block)]
    assert sum(block.count for block in found) == count
    assert {record.stream for block in found for record in block.records()} == {SECRET}
    assert engine.position("hub", "main") == (3, SECRET.encode() * 3)
    assert engine.consumers()[0].state == SECRET.encode() * 3
    assert {told.reason for _, told in engine.quarantine(0, 9)} == {f"{SECRET} is no number"}
    assert {told.code for _, told in engine.newest_quarantine(9)} == {"bad"}


def test_nothing_of_a_record_lies_open_in_a_store_with_a_key(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST), compression_level=0)
    fill(engine)
    reads_all(engine, 25)
    engine.close()
    assert not lies_open(stores.data())
    # Without the key its checksums are checked, with it what is inside.
    assert checked(stores).sealed == 4
    assert checked(stores, ring(FIRST)).sealed == 0
    assert look_deep(stores.data(), lambda *_: None).sealed == 2
    deep = look_deep(stores.data(), lambda *_: None, ring(FIRST))
    assert (deep.problems, deep.records, deep.sealed) == ([], 25, 0)


def test_without_its_key_a_store_is_left_as_it_is_and_with_it_all_is_there(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST))
    fill(engine)
    engine.close()
    before = {path: path.read_bytes() for path in stores.path().rglob("*.mdb")}
    named = ring(FIRST).current.hex()
    for keys in (OPEN, ring(SECOND)):
        with pytest.raises(StoreSealed, match=f"sealed with the key {named}"):
            stores.open(keys=keys)
        with pytest.raises(StoreSealed):
            compact_store(stores.path(), lambda *_: None, keys)
    assert {path: path.read_bytes() for path in stores.path().rglob("*.mdb")} == before
    assert not list(stores.path().glob("damaged-*"))
    reads_all(stores.open(keys=ring(FIRST)), 25)


def test_a_key_given_later_seals_what_comes_and_compacting_seals_all(stores: Stores) -> None:
    engine = stores.open(compression_level=0)
    fill(engine)
    engine.close()
    assert look_inside(stores.path()).header.format == 1
    engine = stores.open(keys=ring(FIRST), compression_level=0)
    fill(engine, 21)
    reads_all(engine, 50)
    engine.close()
    assert look_inside(stores.path()).header.format == 2
    assert lies_open(stores.data())
    compact_store(stores.path(), lambda *_: None, ring(FIRST))
    assert not lies_open(stores.data())
    checked(stores, ring(FIRST))
    reads_all(stores.open(keys=ring(FIRST)), 50)


def test_sealing_is_turned_off_with_the_key_and_compacting_opens_all(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST), compression_level=0)
    fill(engine)
    engine.close()
    off = ring(FIRST, seals=False)
    engine = stores.open(keys=off, compression_level=0)
    fill(engine, 21)
    reads_all(engine, 50)
    engine.close()
    compact_store(stores.path(), lambda *_: None, off)
    header = look_inside(stores.path()).header
    assert (header.format, header.seals) == (1, ())
    checked(stores)
    reads_all(stores.open(), 50)


def test_after_a_change_of_keys_both_are_needed_until_it_is_compacted(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST))
    fill(engine)
    engine.close()
    both = ring(SECOND, FIRST)
    engine = stores.open(keys=both)
    fill(engine, 21)
    reads_all(engine, 50)
    engine.close()
    with pytest.raises(StoreSealed, match=ring(FIRST).current.hex()):
        stores.open(keys=ring(SECOND))
    compact_store(stores.path(), lambda *_: None, both)
    assert look_inside(stores.path()).header.seals == (ring(SECOND).current,)
    assert checked(stores, ring(SECOND)).sealed == 0
    reads_all(stores.open(keys=ring(SECOND)), 50)


def test_an_old_key_stays_named_while_something_needs_it_that_cannot_be_read(
    stores: Stores,
) -> None:
    engine = stores.open(keys=ring(FIRST))
    fill(engine)
    engine.close()
    env = open_environment(stores.data().parent, 4 * MIB)
    with writing(env) as txn:
        key, value = next(item for item in txn.cursor() if item[0][:1] == b"\xf0")
        txn.put(key, value[:-1] + bytes((value[-1] ^ 1,)))
    env.close()
    stores.damaged.add("agent")
    compact_store(stores.path(), lambda *_: None, ring(SECOND, FIRST))
    named = (ring(FIRST).current, ring(SECOND).current)
    assert look_inside(stores.path()).header.seals == named
    items = read_all(stores.open(keys=ring(SECOND, FIRST)))
    assert [type(item) for item in items] == [Gap, Block]


def test_a_backup_stays_sealed_and_is_restored_without_the_key(
    stores: Stores, tmp_path: Path
) -> None:
    engine = stores.open(keys=ring(FIRST), compression_level=0)
    fill(engine)
    engine.close()
    header = look_inside(stores.path()).header
    backup = tmp_path / "backup"
    take_backup(stores.path(), backup, "1", 1, lambda *_: None)
    assert not lies_open(backup / "data.mdb")
    assert not verify(backup, read_manifest(backup), lambda *_: None).problems
    new = tmp_path / "new"
    new.mkdir()
    made = header.with_seals(())  # as whoever restores makes it
    restore_store(new, backup / "data.mdb", made, 4 * MIB, lambda *_: None)
    stores.damaged.add("new")  # its logs count on above a gap
    with pytest.raises(StoreSealed):
        stores.open("new")
    reads_all(stores.open("new", keys=ring(FIRST)), 25)


def test_a_card_in_another_board_needs_the_same_key(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST), board="one")
    fill(engine)
    engine.close()
    engine = stores.open(keys=ring(FIRST), board="other")
    reads_all(engine, 25)
    engine.close()
    header = look_inside(stores.path()).header
    assert (header.board, header.format, header.seals) == ("other", 2, (ring(FIRST).current,))


def test_a_stream_is_erased_from_what_is_sealed(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST))
    fill(engine)
    engine.commit([entry(3, 1, source="other", stream="b")])
    engine.close()
    _, erasing = erase_streams(
        stores.path(), lambda stream: stream == SECRET, SECRET, 3, lambda *_: None,
        seals=ring(FIRST), forget=lambda consumer, state: b"forgotten",
    )  # fmt: skip
    assert erasing.records == {SECRET: 25} and erasing.entries == 1
    checked(stores, ring(FIRST))
    engine = stores.open(keys=ring(FIRST))
    assert engine.position("hub", "main") == (3, b"forgotten")
    left = [r.stream for b in read_all(engine) if isinstance(b, Block) for r in b.records()]
    assert left.count("b") == 3 and SECRET not in left


def test_a_damaged_store_is_salvaged_without_opening_what_is_sealed(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST))
    fill(engine)
    fill(engine, 21)
    engine.close()
    data = stores.data()
    with PageFile(data) as pages:
        newest = (pages.meta.txn & 1) * pages.page_bytes
    with data.open("r+b") as file:
        file.seek(newest + 16)
        file.write(bytes(136))
    stores.damaged.add("agent")
    engine = stores.open(keys=ring(FIRST))
    assert engine.salvage_report is not None and engine.salvage_report["records"] == 50
    reads_all_but_gaps = [item for item in read_all(engine) if isinstance(item, Block)]
    assert sum(block.count for block in reads_all_but_gaps) == 50
    assert {told.stream for _, told in engine.quarantine(0, 9)} == {SECRET}
    engine.close()
    assert not check_store(stores.path(), ring(FIRST)).problems
    with pytest.raises(StoreSealed):
        stores.open()


def test_a_block_that_was_put_in_anothers_place_is_a_gap(stores: Stores) -> None:
    """Its checksum is made right, as somebody could who has the card and not the key."""
    engine = stores.open(keys=ring(FIRST))
    for n in range(3):
        engine.commit([entry(1, n + 1, stream=SECRET)])
    engine.close()
    env = open_environment(stores.data().parent, 4 * MIB)
    with writing(env) as txn:
        found = [(key, value) for key, value in txn.cursor() if key[:1] == b"\xf0"]
        (_, older), (key, newer) = found[:2]
        head = bytearray(newer[:66])
        head[62:66] = bytes(4)
        swapped = bytes(head) + older[66:]
        crc = zlib.crc32(swapped, zlib.crc32(key)).to_bytes(4, "big")
        txn.put(key, swapped[:62] + crc + swapped[66:])
    env.close()
    assert decode_block("main", 2, key, memoryview(swapped[:62] + crc + swapped[66:])).sealed
    stores.damaged.add("agent")
    engine = stores.open(keys=ring(FIRST))
    items = read_all(engine)
    assert [type(item) for item in items] == [Block, Gap, Block]
    assert items[1] == Gap("main", 2, 2, "damaged")


def test_a_sealed_log_that_is_full_is_thinned_and_trimmed_as_any_other(stores: Stores) -> None:
    engines: list[list[Any]] = []
    for name, keys in (("open", OPEN), ("sealed", ring(FIRST))):
        logs = (LogSettings("main", share=0.3, when_full="thin-oldest"),)
        engine = stores.open(name, keys=keys, logs=logs, size=MIB, compression_level=0)
        time_ns = 1_795_341_600_000_000_000
        for n in range(60):
            stores.clock.advance(30)
            made = run(200, value=200 * n, pad=20, time_ns=time_ns + n * 30 * 10**9)
            engine.commit([Entry(runs=(made,))])
            engine.trim()
        statistics = engine.statistics()
        assert statistics.logs["main"].thinned > 1000
        engines.append([item.last for item in read_all(engine)])
    assert engines[0][-1] == engines[1][-1] == 12_000
    assert all(before < after for before, after in pairwise(engines[1]))


def test_a_state_that_did_not_change_is_not_sealed_anew(stores: Stores) -> None:
    engine = stores.open(keys=ring(FIRST))
    fill(engine)
    kept = stored_state(stores)
    engine.commit([Entry(positions=(Position("hub", "main", 5, state=SECRET.encode() * 3),))])
    assert stored_state(stores) == kept and engine.position("hub", "main")[0] == 5
    assert small().keys is OPEN and values(stores.open("plain")) == []


def stored_state(stores: Stores) -> bytes:
    data = stores.data().read_bytes()
    begin = data.rindex(b"\xc1\x01" + ring(FIRST).current)
    return data[begin : begin + 20]
