from __future__ import annotations

from msgspec.structs import replace

from edge_agent.store.commit.dedup import cut_block, cut_runs
from edge_agent.store.format.payload import read_runs, slice_payload
from edge_agent.store.format.record_maps import decode_maps
from edge_agent.store.types import Entry
from tests.store.support import foreign, run


def block_values(payload: bytes) -> list[int]:
    return [m["v"] for view in read_runs(payload) for m in decode_maps(view.records)]


def test_runs_are_cut_at_the_number_that_is_expected() -> None:
    entry = Entry(runs=(run(3, first=1), run(3, first=5, value=5), run(1)))
    kept, dropped = cut_runs(entry, 6)
    assert dropped == 4
    assert [(r.source_seq, r.count) for r in kept.runs] == [(6, 2), (0, 1)]
    assert kept.runs[0].body == run(2, value=6).body


def test_numbers_used_up_by_rejects_are_not_counted_as_records() -> None:
    entry = Entry(runs=(run(1, first=1), run(1, first=9)))
    kept, dropped = cut_runs(entry, 9)
    assert (len(kept.runs), dropped) == (1, 1)


def test_a_block_of_its_first_agent_is_cut_by_offset_even_with_holes() -> None:
    block = foreign(10, 100)
    count, payload = slice_payload(block.payload, 4, 10)
    holed = replace(block, count=count, payload=payload, raw_len=len(payload))
    kept = cut_block(holed, 107)
    assert kept is not None
    assert (kept.first, kept.last, kept.count) == (107, 109, 3)
    assert block_values(kept.payload) == [107, 108, 109]
    assert cut_block(holed, 110) is None


def test_a_block_that_was_passed_on_whole_is_cut_by_index() -> None:
    block = foreign(10, 100)
    origin = replace(block.origin, first=5000, path=("feedfacecafe", "0123456789ab"))
    kept = cut_block(replace(block, origin=origin), 104)
    assert kept is not None
    assert block_values(kept.payload) == [104, 105, 106, 107, 108, 109]


def test_a_block_that_was_filtered_on_the_way_is_rather_kept_twice_than_lost() -> None:
    block = replace(foreign(10, 100), last=119)
    passed_on = replace(block, origin=replace(block.origin, path=("a", "b")))
    assert cut_block(passed_on, 104) == passed_on
    assert cut_block(passed_on, 120) is None


def test_a_block_whose_rest_was_filtered_away_leaves_nothing() -> None:
    block = replace(foreign(3, 100), last=109)
    assert cut_block(block, 105) is None


def test_a_block_that_does_not_unpack_is_left_to_its_readers() -> None:
    broken = replace(foreign(3, 100), codec=1)
    assert cut_block(broken, 101) == broken
