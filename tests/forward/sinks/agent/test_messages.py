from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.forward.sink import Batch
from edge_agent.forward.sinks.agent.messages import (
    MESSAGE_BYTES,
    WINDOW_PARTS,
    Message,
    Packer,
    note_messages,
    segments_of,
)
from edge_agent.session import Window
from edge_agent.store import Block, Gap, Identity, check_payload, encode_runs
from edge_agent.values.clock_note import HOPS_MAX, ClockNote
from edge_agent.values.record import ForeignBlock, Origin, Run
from edge_agent.values.stream_names import compile_patterns
from edge_agent.wire import (
    FORWARD_MESSAGE_BYTES,
    NOTES_MAX,
    Segment,
    decode_forwarded,
    decode_segments,
)
from tests.forward.support import NOW_NS, make_run
from tests.forward.thinned import ten_of_two_streams

IDENTITY = Identity("00" * 16, "e0" * 8, "a1" * 6, NOW_NS)
BOOT = bytes(16)
ORIGIN = Origin("b2" * 6, "e2" * 8, "far", 500, BOOT, 5, NOW_NS - 9, True, ("b2" * 6, "c3" * 6))
ALL = compile_patterns(["**"])


def block(first: int, *runs: Run, origin: Origin | None = None) -> Block:
    raw = encode_runs(runs)
    count = sum(run.count for run in runs)
    return Block(
        "main", first, count, 0, len(raw), raw, BOOT, 7, NOW_NS, True, NOW_NS, NOW_NS, origin
    )


def batch(*items: Block | Gap, first: int = 0) -> Batch:
    return Batch("main", first or items[0].first, items[-1].last, items)


def numbers(segment: Segment) -> list[tuple[int, object]]:
    """(origin seq, n) of every record that the segment carries, read as the hub would."""
    sent = segment.block
    assert sent is not None
    check_payload(sent.codec, sent.raw_len, sent.payload, sent.count)
    there = Block(
        "main", 1, sent.count, sent.codec, sent.raw_len, sent.payload, BOOT, 1, NOW_NS, True,
        NOW_NS, NOW_NS, sent.origin,
    )  # fmt: skip
    return [(record.origin_seq, record.fields["n"]) for record in there.records()]


def test_a_block_of_wanted_streams_goes_out_as_it_is_stored() -> None:
    stored = block(11, make_run("t/1", 3), make_run("t/2", 2, 3))
    (segment,) = segments_of(batch(stored), IDENTITY, ALL)
    assert segment.block is not None and segment.block.payload is stored.payload
    assert (segment.first, segment.last, segment.block.count) == (11, 15, 5)
    assert segment.block.origin == Origin(
        IDENTITY.agent_id, IDENTITY.epoch, "main", 11, BOOT, 7, NOW_NS, True, (IDENTITY.agent_id,)
    )
    assert numbers(segment) == [(11, 0), (12, 1), (13, 2), (14, 3), (15, 4)]


def test_a_foreign_block_keeps_its_origin_and_gets_us_on_its_path() -> None:
    (segment,) = segments_of(batch(block(11, make_run("t/1", 2), origin=ORIGIN)), IDENTITY, ALL)
    assert segment.block is not None
    assert segment.block.origin == structs.replace(ORIGIN, path=(*ORIGIN.path, IDENTITY.agent_id))
    assert numbers(segment) == [(500, 0), (501, 1)]


def test_what_the_patterns_leave_out_makes_holes_but_covers_its_numbers() -> None:
    runs = (make_run("t/1", 2), make_run("x", 3, 2), make_run("t/2", 1, 5))
    wanted = compile_patterns(["t/*"])
    (segment,) = segments_of(batch(block(11, *runs)), IDENTITY, wanted)
    assert segment.block is not None
    assert (segment.first, segment.last, segment.block.count) == (11, 16, 3)
    assert numbers(segment) == [(11, 0), (12, 1), (16, 5)]


def test_a_block_without_a_wanted_stream_is_an_empty_range() -> None:
    wanted = compile_patterns(["t/*"])
    items = (
        block(11, make_run("x", 2)),
        block(13, make_run("y", 4)),
        block(17, make_run("t/1", 1)),
    )
    first, second = segments_of(batch(*items), IDENTITY, wanted)
    assert first == Segment(11, 16, "filtered")
    assert (second.first, second.reason) == (17, None)


def test_streams_of_the_agent_itself_are_sent_only_when_they_are_named() -> None:
    own = block(1, make_run("$status", 1), make_run("t/1", 1, 1))
    (segment,) = segments_of(batch(own), IDENTITY, ALL)
    assert numbers(segment) == [(2, 1)]
    (segment,) = segments_of(batch(own), IDENTITY, compile_patterns(["$status"]))
    assert numbers(segment) == [(1, 0)]


def test_another_agents_own_streams_are_judged_by_the_name_they_have_here() -> None:
    foreign = block(1, make_run("$status", 1), make_run("$clock", 2, 1), origin=ORIGIN)
    (segment,) = segments_of(batch(foreign), IDENTITY, compile_patterns(["$agents/**"]))
    assert segment.block is not None and segment.block.payload is foreign.payload
    (segment,) = segments_of(
        batch(foreign), IDENTITY, compile_patterns([f"$agents/{ORIGIN.agent}/clock"])
    )
    assert numbers(segment) == [(501, 1), (502, 2)]
    assert segments_of(batch(foreign), IDENTITY, ALL) == [Segment(1, 3, "filtered")]


@pytest.mark.parametrize("begin", [12, 13, 14, 15, 16])
def test_a_block_partly_there_already_is_cut(begin: int) -> None:
    runs = (make_run("t/1", 2), make_run("x", 2, 2), make_run("t/2", 2, 4))
    wanted = compile_patterns(["t/*"])
    (segment,) = segments_of(batch(block(11, *runs), first=begin), IDENTITY, wanted)
    assert (segment.first, segment.last) == (begin, 16)
    assert numbers(segment) == [(seq, seq - 11) for seq in (11, 12, 15, 16) if seq >= begin]


def test_cutting_counts_this_logs_seqs_and_not_the_origins_offsets() -> None:
    # As a block looks that another agent has filtered: offsets 0, 1 and 7, 8 are left.
    raw = encode_runs((make_run("t/1", 2), make_run("x", 5, 2), make_run("t/2", 2, 7)))
    whole = block(1, make_run("t/1", 2), make_run("x", 5, 2), make_run("t/2", 2, 7), origin=ORIGIN)
    assert whole.payload == raw
    (sent,) = segments_of(batch(whole), IDENTITY, compile_patterns(["t/*"]))
    assert sent.block is not None
    here = Block(
        "main", 31, sent.block.count, sent.block.codec, sent.block.raw_len, sent.block.payload,
        BOOT, 7, NOW_NS, True, NOW_NS, NOW_NS, ORIGIN,
    )  # fmt: skip
    (segment,) = segments_of(batch(here, first=33), IDENTITY, ALL)
    assert (segment.first, segment.last) == (33, 34)
    assert numbers(segment) == [(507, 7), (508, 8)]


def test_a_block_that_was_here_before_or_went_too_far_goes_no_further() -> None:
    been_here = structs.replace(ORIGIN, path=(ORIGIN.agent, IDENTITY.agent_id))
    too_far = structs.replace(ORIGIN, path=tuple(f"{i:012x}" for i in range(8)))
    items = (
        block(1, make_run("t/1", 2), origin=been_here),
        block(3, make_run("t/1", 2), origin=too_far),
    )
    assert segments_of(batch(*items), IDENTITY, ALL) == [Segment(1, 4, "loop")]


def test_gaps_are_told_with_their_reason_within_the_batch() -> None:
    items = (Gap("main", 1, 10, "trimmed"), Gap("main", 11, 12, "damaged"))
    assert segments_of(batch(*items, first=4), IDENTITY, ALL) == [
        Segment(4, 10, "trimmed"),
        Segment(11, 12, "damaged"),
    ]


def test_a_block_whose_inside_cannot_be_read_is_told_as_damaged() -> None:
    broken = replace(block(5, make_run("t/1", 3)), payload=b"\xc1", raw_len=1)
    assert segments_of(batch(broken), IDENTITY, ALL) == [Segment(5, 7, "damaged")]


def test_a_large_block_cut_anew_is_compressed() -> None:
    runs = (make_run("t/1", 3000), make_run("x", 1, 3000))
    (segment,) = segments_of(batch(block(1, *runs)), IDENTITY, compile_patterns(["t/*"]))
    assert segment.block is not None and segment.block.codec == 1
    assert len(numbers(segment)) == 3000


def a_segment(first: int, count: int, size: int) -> Segment:
    payload = bytes(size)
    origin = structs.replace(ORIGIN, path=tuple("f" * 64 for _ in range(8)), log="l" * 200)
    return Segment.of(
        ForeignBlock(
            first, first + count - 1, count, 0, size, payload, -(2**63), 2**63 - 1,
            structs.replace(origin, agent="a" * 64, epoch="e" * 64),
        )
    )  # fmt: skip


def packed(packer: Packer, segments: Sequence[Segment]) -> list[Message]:
    return list(packer.add(segments))


def test_blocks_that_fit_go_in_one_message() -> None:
    (message,) = packed(Packer(), [a_segment(1, 5, 100), a_segment(6, 5, 100)])
    assert (message.first, message.last, message.records) == (1, 10, 10)
    assert len(decode_segments(message.data)) == 2


def test_empty_ranges_are_held_back_and_merged_until_something_goes() -> None:
    packer = Packer()
    assert packed(packer, [Segment(1, 5, "filtered")]) == []
    assert packed(packer, [Segment(6, 9, "filtered")]) == []
    assert packer.holds_back
    (message,) = packed(packer, [a_segment(10, 2, 50), Segment(12, 19, "filtered")])
    assert (message.first, message.last, message.records) == (1, 19, 2)
    assert [(s.first, s.last) for s in decode_segments(message.data)] == [
        (1, 9),
        (10, 11),
        (12, 19),
    ]
    assert packer.flush() is None


def test_a_message_ends_where_it_has_come_to_its_part_of_the_window() -> None:
    packer = Packer()
    packer.fit(Window(10 * WINDOW_PARTS, 10**9))
    segments = [a_segment(first, 4, 50) for first in range(1, 41, 4)]
    messages = packed(packer, segments)
    assert [message.records for message in messages] == [12, 12, 12, 4]
    packer.fit(Window(10**9, 10_000 * WINDOW_PARTS))
    sizes = [
        len(message.data)
        for message in packed(packer, [a_segment(n, 1, 4000) for n in (1, 2, 3, 4)])
    ]
    assert all(8000 < size < 14_000 for size in sizes) and len(sizes) == 2


def test_a_message_ends_where_more_would_save_nothing() -> None:
    segments = [a_segment(first, 1, 60_000) for first in range(1, 11)]
    sizes = [len(message.data) for message in packed(Packer(), segments)]
    assert len(sizes) == 2 and all(size < MESSAGE_BYTES + 65_000 for size in sizes)


def test_ranges_without_a_record_make_no_message_however_small_the_window() -> None:
    packer = Packer()
    packer.fit(Window(8, 800))
    assert packed(packer, [Segment(1, 500, "filtered")]) == []
    assert [message.last for message in packed(packer, [a_segment(501, 1, 10)])] == [501]


def test_flush_tells_what_is_held_back() -> None:
    packer = Packer()
    assert packed(packer, [Segment(1, 5, "filtered")]) == []
    message = packer.flush()
    assert message is not None and (message.first, message.last, message.records) == (1, 5, 0)
    assert decode_segments(message.data) == [Segment(1, 5, "filtered")]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 400_000)), min_size=1, max_size=12),
    st.sampled_from([FORWARD_MESSAGE_BYTES, 600_000]),
)
def test_messages_keep_to_the_limit_and_leave_nothing_out(
    parts: list[tuple[bool, int]], limit: int
) -> None:
    segments, at = [], 1
    for is_block, size in parts:
        count = size % 7 + 1
        segments.append(
            a_segment(at, count, size) if is_block else Segment(at, at + count - 1, "trimmed")
        )
        at += count
    packer = Packer(limit)
    messages = packed(packer, segments)
    if (rest := packer.flush()) is not None:
        messages.append(rest)
    expected = 1
    for message in messages:
        assert len(message.data) <= limit
        assert message.first == expected
        expected = message.last + 1
        assert decode_segments(message.data)
    assert expected == at
    assert sum(message.records for message in messages) == sum(
        segment.block.count for segment in segments if segment.block
    )


def test_the_largest_block_of_all_fits_a_message() -> None:
    (message,) = packed(Packer(), [a_segment(2**62, 1, 1024 * 1024 - 4096)])
    assert len(message.data) <= FORWARD_MESSAGE_BYTES


def test_notes_go_out_under_our_name_one_hop_on_and_no_further_than_blocks() -> None:
    ours = ClockNote("", BOOT, 5, 6, 1)
    far = [ClockNote("b2" * 6, BOOT, 7, 8, hops) for hops in (1, HOPS_MAX - 1, HOPS_MAX)]
    told = list(note_messages(enumerate([ours, *far], 11), 40, IDENTITY))
    assert [(number, m.first, m.last, m.records) for number, m in told] == [(13, 41, 40, 0)]
    notes = decode_forwarded(told[0][1].data).notes
    assert [(note.agent, note.hops) for note in notes] == [
        (IDENTITY.agent_id, 1), ("b2" * 6, 2), ("b2" * 6, HOPS_MAX),
    ]  # fmt: skip


def test_many_notes_are_several_messages() -> None:
    notes = [ClockNote("b2" * 6, n.to_bytes(16, "big"), 7, 8) for n in range(NOTES_MAX + 1)]
    told = list(note_messages(enumerate(notes, 1), 0, IDENTITY))
    assert [number for number, _ in told] == [NOTES_MAX, NOTES_MAX + 1]


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_a_thinned_block_goes_out_whole_with_what_it_stands_for(origin: Origin | None) -> None:
    stored = ten_of_two_streams(11, origin=origin)
    (segment,) = segments_of(batch(stored), IDENTITY, ALL)
    sent = segment.block
    assert sent is not None
    assert (sent.first, sent.last, sent.count, sent.thinned) == (11, 20, 2, 10)
    assert sent.payload is stored.payload
    (cut,) = segments_of(batch(stored), IDENTITY, compile_patterns(["t/2"]))
    assert cut.block is not None
    assert (cut.first, cut.last, cut.block.count, cut.block.thinned) == (11, 20, 1, 10)


def test_a_hub_that_has_a_part_of_it_is_told_that_the_rest_was_thinned() -> None:
    stored, after = ten_of_two_streams(11), block(21, make_run("t/1", 2))
    told, rest = segments_of(batch(stored, after, first=15), IDENTITY, ALL)
    assert told == Segment(15, 20, "thinned")
    assert rest.first == 21 and rest.block is not None
