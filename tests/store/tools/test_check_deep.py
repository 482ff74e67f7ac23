"""A deep look: sound stores of every kind are sound, and each of the three finds its own damage."""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
import pytest

from edge_agent.store import Entry, Quarantined, encode_runs
from edge_agent.store.format.block import Packed, encode_block
from edge_agent.store.format.keys import block_key
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.settings import LogSettings
from edge_agent.store.tools.check_deep import Deep, decode_all, look_deep, read_device
from edge_agent.store.tools.replace import compact_store, erase_streams
from edge_agent.values.record import Run
from tests.manual_clock import ManualClock
from tests.store.conftest import Stores
from tests.store.support import START_NS, foreign, run


def deep(data: Path) -> Deep:
    told: list[tuple[int, int]] = []
    found = look_deep(data, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    return found


def test_stores_that_were_trimmed_erased_and_compacted_are_sound(stores: Stores) -> None:
    engine = stores.open(logs=(LogSettings("main", share=0.3),))
    for value in range(120):
        runs = (run(3, value=value, pad=9000), run(2, stream="b/1", value=value))
        blocks = (foreign(2, 2 * value + 1, stream="$rule"),)
        bad = (Quarantined("bad", "", "a/1", "pi", 0, START_NS, b"x"),)
        engine.commit([Entry(runs, quarantine=bad), Entry(blocks=blocks)])
    assert engine.first_seq("main") > 1
    engine.close()
    found = deep(stores.data())
    assert found.problems == [] and found.bytes == 4 << 20 and found.records > 100
    erase_streams(stores.path(), lambda stream: stream == "b/1", "b/1", 3, lambda done, total: None)
    assert deep(stores.data()).problems == []
    compact_store(stores.path(), lambda done, total: None)
    after = deep(stores.data())
    assert (after.problems, after.records) == ([], found.records)


def test_a_free_page_that_is_nowhere_is_told_by_lmdbs_verifier(stores: Stores) -> None:
    engine = stores.open()
    for value in range(20):
        engine.commit([Entry((run(3, value=value, pad=3000),))])
    engine.close()
    with PageFile(stores.data()) as pages:
        page, root, newest = pages.page_bytes, pages.meta.free.root, pages.meta.txn
    data = bytearray(stores.data().read_bytes())
    # Of the first list of free pages the last number is made another one.
    at = data.find(b"", root * page + page - 8)
    data[at : at + 1] = bytes([data[at] ^ 1])
    stores.data().write_bytes(data)
    stores.damaged.add("agent")
    assert newest and any("LMDB" in problem for problem in deep(stores.data()).problems)


def test_no_lmdb_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"nonsense" * 4096)
    found = deep(tmp_path / "data.mdb")
    assert any("LMDB" in problem for problem in found.problems)
    with pytest.raises(FileNotFoundError):
        look_deep(tmp_path / "missing", lambda done, total: None)


def test_records_outside_their_blocks_times_and_streams_without_a_name_are_told(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stores.open(compression_level=0)
    engine.commit([Entry((run(1),))])
    engine.close()
    late = msgpack.packb({"time": START_NS / 10**9 + 60})
    wrong = Run("a//b", "", 0, START_NS, True, 1, late, START_NS, START_NS)
    key = block_key(1, 1)
    raw = encode_runs([wrong])
    packed = Packed(1, 0, len(raw), raw, START_NS, START_NS)
    value = encode_block(key, packed, ManualClock().read())
    monkeypatch.setattr(PageFile, "value", lambda self, node: value)
    found = Deep()
    decode_all(stores.data(), found, lambda done: None)
    told = " ".join(found.problems)
    assert "outside the block's times" in told and "'a//b'" in told and "nobody sent" in told


def test_sectors_that_cannot_be_read_are_named_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data.mdb"
    file.write_bytes(bytes(3 * 1024 * 1024))
    bad = (4096 * 10, 4096 * 300)
    real = os.pread

    def pread(descriptor: int, length: int, place: int) -> bytes:
        if any(place <= one < place + length for one in bad):
            raise OSError(5, "Input/output error")
        return real(descriptor, length, place)

    monkeypatch.setattr(os, "pread", pread)
    found = Deep()
    read_device(file, found, lambda done: None)
    assert [text.split()[1] for text in found.problems] == [str(one) for one in bad]
    assert found.bytes == 3 * 1024 * 1024
