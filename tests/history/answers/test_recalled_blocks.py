"""Blocks made of what history keeps: each record says what the log's said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from msgspec import structs

from edge_agent.history import Recall, read_header
from edge_agent.history.answers import Recaller, View, recalled_blocks
from edge_agent.history.answers.recalled_blocks import SentRow, blocks_of, body_of
from edge_agent.history.format.rows import Way
from edge_agent.questions.recall import as_block
from edge_agent.store import Block, Entry, encode_runs
from edge_agent.values.record import ERASED, ForeignBlock, Origin, Record, Run
from tests.digest.support import DAY, MIB, Bench
from tests.history.answers.made import WAY

OTHER = Origin("other", "e1", "bulk", 70, b"b" * 16, 5, DAY, True, ("other", "between"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def sent(
    *records: dict[str, Any], arrival_ns: int = DAY, synced: bool = True, first: int = 0
) -> Run:
    """As a sender sent them."""
    times = (DAY - 10**12, DAY + 10**12)
    body = b"".join(msgpack.packb(one, datetime=True) for one in records)
    return Run("a/1", "pi", first, arrival_ns, synced, len(records), body, *times)


def recalled(bench: Bench) -> list[Block]:
    with bench.history.file._begin() as txn:
        view = View(txn, read_header(txn), {}, lambda: None)
        wanted = Recall("main", 0, 2**40, ("**", "$agents/**"), -(2**63), 2**63 - 1, MIB)
        finder = Recaller()
        assert finder.looked(view, wanted, lambda: False)
        return [as_block("main", one) for one in finder.found(view, wanted)[0]]


def read(bench: Bench) -> list[Record]:
    return [
        structs.replace(record, stored_ns=0)
        for item in bench.engine.read("main", 0, MIB)
        if isinstance(item, Block)
        for record in item.records()
    ]


def again(bench: Bench) -> list[Record]:
    return [
        structs.replace(record, stored_ns=0)
        for block in recalled(bench)
        for record in block.records(lambda stream: stream != ERASED)
    ]


def test_every_kind_of_time_and_value_comes_back(bench: Bench) -> None:
    bench.commit([
        sent({"v": 1, "time": DAY / 1e9}, {"v": 2, "time": "2026-11-22T10:00:00.25Z"}, first=5),
        sent({"v": 3}, {"v": 4, "time": -2.5}, {"v": 5, "time": 77}, first=7),
        sent({"v": 6}, synced=False),
        sent({"time": {"historic": "2001-02-03T04:05:06Z"}, "x": {"y": [1, {"z": None}]}}),
        sent({}, {"b": b"\x00\xff", "i": 2**63 - 1, "n": -(2**63), "f": 0.1, "t": "ä", "ok": True}),
    ])  # fmt: skip
    bench.flush()
    assert again(bench) == read(bench)
    assert {one.quality for one in again(bench)} == {"sensor", "arrival", "relative", "unset"}


def test_a_time_that_was_put_right_is_known_as_that() -> None:
    way = Way("main", "pi", "arrival", False, True)
    rows = [SentRow(n + 1, DAY + n, "a", way, 0, 0, body_of({"n": n}, DAY, way)) for n in range(3)]
    rows.append(rows[0]._replace(seq=4, time_ns=DAY + 3_600 * 10**9))
    blocks = [as_block("main", one) for one in blocks_of(rows)]
    records = [one for block in blocks for one in block.records()]
    assert [one.time_ns for one in records] == [DAY, DAY + 1, DAY + 2, DAY + 3_600 * 10**9]
    assert {one.time_quality for one in records} == {"corrected"} and len(blocks) == 2
    assert all(block.unset_boot is None for block in blocks)


def test_records_of_other_agents_keep_where_they_come_from(bench: Bench) -> None:
    raw = encode_runs([sent({"v": 1}, {"v": 2}), structs.replace(sent({"v": 3}), stream="$mem")])
    times = (DAY - 10**12, DAY + 10**12)
    for first in (70, 90):
        origin = structs.replace(OTHER, first=first)
        block = ForeignBlock(1, 3, 3, 0, len(raw), raw, *times, origin)
        bench.engine.commit([Entry(blocks=(block,))])
        bench.commit([sent({"v": 0})])
    bench.flush()
    assert again(bench) == read(bench)
    blocks = [block for block in recalled(bench) if block.origin is not None]
    assert [block.origin.first for block in blocks if block.origin] == [70, 90]
    assert {block.origin.path for block in blocks if block.origin} == {("other",)}


def rows_at(*seqs: int) -> list[SentRow]:
    return [SentRow(seq, DAY, "a", WAY, seq, 0, body_of({"n": seq}, DAY, WAY)) for seq in seqs]


def test_little_between_two_records_is_places_and_much_ends_the_block() -> None:
    blocks = [as_block("main", one) for one in blocks_of(rows_at(5, 6, 9, 400, 2000, 2001))]
    assert [(one.first, one.last) for one in blocks] == [(5, 9), (400, 400), (2000, 2001)]
    assert [one.seq for block in blocks for one in block.records(lambda name: name == "a")] == [
        5, 6, 9, 400, 2000, 2001,
    ]  # fmt: skip
    assert [view.stream for view in blocks[0].runs()] == ["a", ERASED, "a"]
    assert [view.count for view in blocks[0].runs()] == [2, 2, 1]


def test_a_block_ends_where_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalled_blocks, "BLOCK_BYTES", 100)
    blocks = list(blocks_of(rows_at(*range(1, 30))))
    assert len(blocks) > 3 and sum(one.count for one in blocks) == 29
    assert all(one.raw_len < 300 for one in blocks)


def test_maps_with_keys_of_several_kinds_are_written_all_the_same() -> None:
    odd = {"b": {1: 2, "x": 3}, "a": 1}
    assert msgpack.unpackb(body_of(odd, DAY, Way("main", "s", "arrival", True, False)),
                           strict_map_key=False) == odd  # fmt: skip
