from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.forward.batches.plan import (
    BOOTS_MAX,
    RANGES_MAX,
    SINGLES_MAX,
    Extent,
    Plan,
    decode_plan,
    encode_plan,
    moves_of,
    plan_ranges,
    without_records,
)
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.store.types import STATE_BYTES_MAX


@st.composite
def extents(draw: st.DrawFn) -> list[Extent]:
    at = draw(st.integers(1, 1000))
    found = []
    for _ in range(draw(st.integers(0, 12))):
        count = draw(st.integers(1, 300))
        size = draw(st.sampled_from([0, count, count * 7, count * 100]))
        found.append(Extent(at, at + count - 1, size))
        at += count
    return found


@settings(max_examples=150)
@given(extents(), st.integers(1, 200), st.integers(1, 5000))
def test_ranges_cover_what_was_given_in_order_without_a_hole(
    given_extents: list[Extent], records_max: int, bytes_max: int
) -> None:
    ranges = plan_ranges(
        given_extents, records_max=records_max, bytes_max=bytes_max, ranges_max=10_000
    )
    if not given_extents:
        assert ranges == []
        return
    assert ranges[0][0] == given_extents[0].first
    assert ranges[-1][1] == given_extents[-1].last
    for (_, last), (first, _) in pairwise(ranges):
        assert first == last + 1
    for first, last in ranges:
        held = [
            (min(last, e.last) - max(first, e.first) + 1, e)
            for e in given_extents
            if e.size and e.first <= last and e.last >= first
        ]
        records = sum(n for n, _ in held)
        size = sum(n * max(1, e.size // (e.last - e.first + 1)) for n, e in held)
        assert records <= records_max
        assert size <= bytes_max or records == 1


def test_not_more_is_planned_than_is_kept() -> None:
    ranges = plan_ranges([Extent(1, 1000, 1000)], records_max=10, bytes_max=10_000)
    assert len(ranges) == RANGES_MAX
    assert ranges[0] == (1, 10)


def test_a_plan_survives_a_restart() -> None:
    plan = Plan(77, [(5, 9), (10, 12)], 3)
    assert decode_plan(encode_plan(plan), 77, floor=4) == plan


def test_ranges_that_were_acknowledged_since_are_gone() -> None:
    state = encode_plan(Plan(77, [(5, 9), (10, 12)], 0))
    assert decode_plan(state, 77, floor=9).ranges == [(10, 12)]
    assert decode_plan(state, 77, floor=12).ranges == []


def test_a_plan_of_another_shape_never_uses_the_same_key_for_other_bytes() -> None:
    state = encode_plan(Plan(77, [(5, 9), (10, 12)], 9))
    plan = decode_plan(state, 78, floor=4)
    assert plan.ranges == [(5, 8)] and plan.singles == 0


def test_what_is_not_a_plan_counts_as_none() -> None:
    for state in (None, b"", b"\x92\xa1a\xa1b", b"\xc1", b"\x93\x01\x91\x92\x05\x03\x00"):
        assert decode_plan(state, 77, floor=4) == Plan(77)


def test_a_plan_that_does_not_begin_behind_the_floor_is_dropped() -> None:
    assert decode_plan(encode_plan(Plan(77, [(7, 9)])), 77, floor=4).ranges == []
    assert decode_plan(encode_plan(Plan(77, [(5, 9), (11, 12)])), 77, floor=4).ranges == []


def test_one_more_refusal_is_enough_after_a_restart() -> None:
    state = encode_plan(Plan(77, [], SINGLES_MAX))
    assert decode_plan(state, 77, floor=4).singles == SINGLES_MAX - 1


def test_halving_keeps_every_record_and_ends_at_one() -> None:
    plan = Plan(1, [(1, 7), (8, 9)])
    plan.halve()
    assert plan.ranges == [(1, 4), (5, 7), (8, 9)]
    plan.halve()
    plan.halve()
    assert plan.ranges[0] == (1, 1)
    plan.drop_first()
    assert plan.ranges[0] == (2, 2)


def test_a_plan_keeps_what_was_known_of_clocks_when_it_was_made() -> None:
    offsets = {("", b"b" * 16): 2**62, ("feedfacecafe", b"o" * 16): -7}
    plan = Plan(5, [(1, 4), (5, 8)], 0, offsets)
    again = decode_plan(encode_plan(plan), 5, 0)
    assert again == plan
    again.halve()
    assert again.offsets == offsets


def test_a_plan_of_a_version_that_knew_no_clocks_knows_none() -> None:
    old = msgspec.msgpack.encode([5, [[1, 4]], 0])
    assert decode_plan(old, 5, 0) == Plan(5, [(1, 4)])


def test_the_largest_plan_fits_into_a_consumers_state() -> None:
    offsets = {(f"{n:064d}", n.to_bytes(16, "big")): -(2**63) for n in range(BOOTS_MAX)}
    plan = Plan(2**32 - 1, [(2**62 + n, 2**62 + n) for n in range(64)], 16, offsets)
    assert len(encode_plan(plan)) < STATE_BYTES_MAX // 4


def test_after_an_erasure_no_key_is_used_for_fewer_records() -> None:
    state = without_records(encode_plan(Plan(77, [(5, 9), (10, 12)], 9)))
    assert decode_plan(state, 77, floor=4) == Plan(77, [(5, 8)])
    for other in (b"", b"\x92\xa1a\xa1b", b"\xc1"):
        assert without_records(other) == other


def test_a_thinned_block_is_not_cut_between_two_ranges() -> None:
    thinned = Extent(101, 5000, 700, 20)
    found = plan_ranges(
        [Extent(1, 100, 1000), thinned, Extent(5001, 5100, 1000)], records_max=110, bytes_max=9999
    )
    assert found == [(1, 100), (101, 5090), (5091, 5100)]
    assert plan_ranges([thinned], records_max=5, bytes_max=9999) == [(101, 5000)]
    many = [thinned, Extent(5001, 9000, 700, 20), Extent(9001, 9100, 1000)]
    assert plan_ranges(many, records_max=20, bytes_max=9999, ranges_max=1) == [(101, 5000)]


def test_halving_keeps_thinned_blocks_whole_as_long_as_there_is_anything_else_to_cut() -> None:
    def halves(first: int, last: int, *thinned: tuple[int, int]) -> tuple[Plan, list[int]]:
        plan = Plan(1, [(first, last)])
        plan.halve(thinned)
        return plan, [end for _, end in plan.ranges]

    assert halves(1, 100)[1] == [50, 100]
    assert halves(1, 100, (1, 20))[1] == [50, 100]
    assert halves(1, 100, (40, 90))[1] == [39, 100]
    assert halves(1, 100, (1, 90))[1] == [90, 100]
    plan, ends = halves(1, 100, (1, 100))
    assert ends == [50, 100]
    assert plan.begun == 1
    assert decode_plan(encode_plan(plan), 1, 0) == plan


def test_how_often_the_floor_was_moved_outlives_every_plan() -> None:
    plan = decode_plan(moved(moved(None)), 7, 0)
    assert (plan.ranges, plan.moves) == ([], 2)
    plan.ranges = [(1, 9)]
    for shape, floor in ((7, 0), (8, 0), (7, 5), (7, 99)):
        assert decode_plan(encode_plan(plan), shape, floor).moves == 2
    assert moves_of(moved(without_records(encode_plan(plan)))) == 3
    assert moves_of(None) == moves_of(b"?") == 0


def test_ranges_that_grow_have_four_times_as_much_as_the_one_before_up_to_a_bound() -> None:
    ranges = plan_ranges(
        [Extent(1, 1000, 1000), Extent(1001, 2000, 1000)],
        records_max=10,
        bytes_max=100,
        grows_to=(500, 10_000),
    )
    sizes = [last - first + 1 for first, last in ranges]
    assert sizes == [10, 40, 160, 500, 500, 500, 290]
