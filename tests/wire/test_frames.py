"""The frame lane: limits, closing, what is held, the counters, and both ways to unmask.

That it does not change what is said is shown against wsproto, in test_frames_wsproto.
"""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.speedups import apply_mask as fast_mask
from websockets.utils import apply_mask as slow_mask

from edge_agent.wire import RUN_BYTES_MAX, frames
from edge_agent.wire.frames import FRAMES_MAX, FrameLane, Part
from edge_agent.wire.long_text import LongText
from tests.wire.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    STEPS,
    TEXT,
    fed,
    fed_whole,
    frame,
    joined,
)

MIB = 1 << 20


class Sent(NamedTuple):
    """A frame in the model."""

    opcode: int
    payload: bytes
    final: bool

    @property
    def wire(self) -> bytes:
        return frame(self.opcode, self.payload, final=self.final)


def whole(opcode: int, max_size: int) -> st.SearchStrategy[list[Sent]]:
    payloads = st.text("aä", max_size=max_size // 2).map(str.encode)
    return payloads.map(lambda payload: [Sent(opcode, payload, True)])


def in_fragments(payloads: list[bytes], pings: list[bool]) -> list[Sent]:
    sent: list[Sent] = []
    for index, (payload, ping) in enumerate(zip(payloads, pings, strict=False)):
        is_last = index == min(len(payloads), len(pings)) - 1
        sent.append(Sent(CONTINUATION if index else BINARY, payload, is_last))
        sent += [Sent(PING, b"p", True)] if ping and not is_last else []
    return sent


def model(sent: list[Sent], limit: int, most_frames: int, closed_at: int) -> tuple[object, ...]:
    """What FrameLane promises, frame by frame: parts, too_big, passed, close_seen.

    `FrameLane.close` is called after ``closed_at`` bytes.
    """
    parts: list[Part] = []
    too_big: int | None = None
    size = count = passed = end = 0
    for each in sent:
        is_judged = end + 6 <= closed_at  # its header is in
        end += len(each.wire)
        if each.opcode == CLOSE:
            return joined([*parts, each.wire]), too_big, passed, True
        if not is_judged:
            continue
        if each.opcode in (PING, PONG):
            parts.append(each.wire)
            continue
        if each.opcode != CONTINUATION:
            size = count = 0
        size, count = size + len(each.payload), count + 1
        if too_big is None and (size > limit or count > most_frames):
            too_big = size
        if too_big is not None:
            continue
        if not each.final or count > 1:
            # What has begun to pass passes whole.
            parts.append(each.wire)
            passed += each.final
        elif end <= closed_at:
            parts.append([each.payload.decode() if each.opcode == TEXT else each.payload])
    return joined(parts), too_big, passed, False


sequences = st.lists(
    st.one_of(
        whole(TEXT, 14),
        whole(BINARY, 14),
        whole(PING, 4),
        whole(PONG, 4),
        st.builds(
            in_fragments,
            st.lists(st.binary(max_size=4), min_size=2, max_size=6),
            st.lists(st.booleans(), min_size=2, max_size=6),
        ),
    ),
    max_size=12,
).map(lambda lists: [each for some in lists for each in some])
ends = st.sampled_from([[], [Sent(CLOSE, b"\x03\xe8", True), Sent(TEXT, b"late", True)]])


@settings(max_examples=300)
@given(
    sequences,
    ends,
    st.integers(0, 16),
    st.integers(1, 6),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.none() | st.integers(0, 150),
)
def test_limits_and_closing_are_kept_frame_by_frame(
    sequence: list[Sent],
    end: list[Sent],
    limit: int,
    most_frames: int,
    sizes: list[int],
    close_after: int | None,
) -> None:
    sent = sequence + end
    stream = b"".join(each.wire for each in sent)
    closed_at = len(stream) if close_after is None else close_after
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FRAMES_MAX", most_frames)
        lane = FrameLane(limit)
        before = fed(lane, stream[:closed_at], *sizes)
        lane.close()
        parts = joined([*before, *fed(lane, stream[closed_at:], *sizes)])
    expected = model(sent, limit, most_frames, closed_at)
    assert (parts, lane.too_big, lane.passed, lane.close_seen) == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70_000])
def test_every_length_is_lifted_however_it_is_cut(size: int, step: int) -> None:
    text, data = "ä" * (size // 2) + "x" * (size % 2), bytes(range(256)) * (size // 256 + 1)
    stream = frame(TEXT, text.encode()) + frame(BINARY, data[:size], key=bytes(4))
    lane = FrameLane(size)
    (messages,) = fed(lane, stream * 2, step)
    # Long text stays bytes, of a type of its own.
    assert [size > RUN_BYTES_MAX, False] * 2 == [type(one) is LongText for one in messages]
    told = [one.decode() if isinstance(one, LongText) else one for one in messages]
    assert told == [text, data[:size]] * 2
    assert (lane.too_big, lane.passed) == (None, 0)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70_000])
def test_a_message_one_byte_over_the_limit_is_judged_by_its_header(size: int) -> None:
    lane = FrameLane(size)
    over = frame(BINARY, b"x" * (size + 1))
    header = len(over) - (size + 1)
    assert lane.feed(over[:header]) == []
    assert lane.too_big == size + 1
    assert lane.feed(over[header:] + frame(PING) + frame(TEXT)) == [frame(PING)]


def test_a_read_with_one_message_is_that_message() -> None:
    lane = FrameLane(100)
    assert lane.feed(frame(TEXT, b"21.5")) == [["21.5"]]
    assert lane.feed(b"") == []


def test_marks_tell_what_the_library_has_to_give_out_before_each_list() -> None:
    fragments = frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b")
    lane = FrameLane(100)
    message = frame(TEXT, b"c")
    data = message + message + fragments + message + frame(PING) + message + fragments * 2
    assert [type(part) for part in lane.feed(data)] == [list, bytes, list, bytes, list, bytes]
    assert (lane.marks, lane.passed) == ([0, 1, 1], 3)
    lane.feed(message)
    assert lane.marks == [3]


def test_a_frame_that_passes_is_not_held() -> None:
    lane = FrameLane(MIB)
    first = frame(BINARY, b"x" * 1000, final=False)
    assert lane.feed(first[:9]) == [first[:9]]
    assert lane.feed(first[9:500]) == [first[9:500]]
    assert lane.feed(first[500:] + frame(PING)[:3]) == [first[500:]]
    assert lane.feed(frame(PING)[3:]) == [frame(PING)]


def test_empty_fragments_are_not_free() -> None:
    lane = FrameLane(MIB)
    begin, more = frame(BINARY, b"x", final=False), frame(CONTINUATION, final=False)
    full = begin + more * (FRAMES_MAX - 2) + frame(CONTINUATION)
    assert fed(lane, full, 1000) == [full]
    assert (lane.passed, lane.too_big) == (1, None)
    over = begin + more * (FRAMES_MAX - 1)
    assert fed(lane, over + frame(CONTINUATION) + frame(TEXT, b"x"), 1000) == [over]
    assert (lane.passed, lane.too_big) == (1, 1)


def peak_of_feeding(lane: FrameLane, stream: bytes, step: int) -> int:
    """Bytes that were allocated at most."""
    tracemalloc.start()
    try:
        for at in range(0, len(stream), step):
            for _ in fed_whole(lane, stream[at : at + step]):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("step", [2, 1000, 65536])
def test_what_is_held_costs_its_size_and_an_eighth(step: int) -> None:
    size = MIB // 4
    unfinished = frame(BINARY, b"x" * size)[:-1]
    assert peak_of_feeding(FrameLane(size), unfinished, step) < size * 9 / 8 + 2 * step + 3000


def test_nothing_is_held_of_what_is_dropped_nor_for_what_a_header_claims() -> None:
    huge = frame(BINARY, length=1 << 40, length_bytes=8)
    assert peak_of_feeding(FrameLane(1 << 62), huge, 1000) < 5000
    assert peak_of_feeding(FrameLane(MIB), huge + bytes(MIB), 1000) < 5000
    lane = FrameLane(MIB)
    lane.feed(frame(BINARY, b"x" * MIB)[:1000])
    lane.close()
    assert peak_of_feeding(lane, bytes(MIB // 2), 1000) < 5000


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_both_ways_to_unmask_are_the_same(data: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    assert fast_mask(data, mask) == slow_mask(data, mask) == expected


def test_without_the_c_module_everything_is_lifted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("frames_without_c", frames.__file__)
    assert spec is not None and spec.loader is not None
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert without.apply_mask is slow_mask
    stream = b"".join(frame(BINARY, KEY * size + b"x") for size in (0, 1, 30, 32, 20_000))
    assert without.FrameLane(MIB).feed(stream) == FrameLane(MIB).feed(stream)
