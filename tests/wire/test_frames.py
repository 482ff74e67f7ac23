"""The frame lane: limits, closing, what is held, and both ways to unmask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.speedups import apply_mask as fast_mask
from websockets.utils import apply_mask as slow_mask
from wsproto.events import CloseConnection, Message
from wsproto.connection import CLIENT, Connection

from edge_agent.wire import frames
from edge_agent.wire.frames import FRAMES_MAX, FrameLane, Part, close_frame, data_frame

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
KEY = b"\x11\x22\x33\x44"
STEPS = [1, 2, 3, 7, 64, 1 << 20]


def frame(opcode: int, payload: bytes, *, final: bool = True, key: bytes | None = KEY) -> bytes:
    """One frame as a client sends it."""
    mask_bit = 0x80 if key is not None else 0
    if len(payload) < 126:
        length = bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        length = bytes([mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([mask_bit | 127]) + len(payload).to_bytes(8, "big")
    masked = b"" if key is None else key + fast_mask(payload, key)
    return bytes([opcode | (0x80 if final else 0)]) + length + (masked or payload)


def fed(lane: FrameLane, data: bytes, step: int) -> list[Part]:
    """All parts, cut every ``step`` bytes, neighbours of one kind joined."""
    return list(
        joined(part for at in range(0, len(data), step) for part in lane.feed(data[at : at + step]))
    )


def joined(parts: Iterator[Part]) -> Iterator[Part]:
    last: Part | None = None
    for part in parts:
        if isinstance(last, list) and isinstance(part, list):
            last = last + part
        elif isinstance(last, bytes) and isinstance(part, bytes):
            last = last + part
        else:
            if last is not None:
                yield last
            last = part
    if last is not None:
        yield last


@pytest.mark.parametrize("step", STEPS)
def test_whole_messages_are_lifted_and_the_rest_passes_in_its_place(step: int) -> None:
    fragments = frame(TEXT, b"c", final=False) + frame(PING, b"p") + frame(CONTINUATION, b"d")
    data = (
        frame(TEXT, "ä".encode())
        + frame(BINARY, b"b" * 125)
        + fragments
        + frame(BINARY, b"e" * 126, key=bytes(4))
        + frame(TEXT, b"")
        + frame(BINARY, b"f" * 65536)
        + frame(CLOSE, b"\x03\xe8")
        + frame(TEXT, b"after the close")
    )
    lane = FrameLane(70_000)
    assert fed(lane, data, step) == [
        ["ä", b"b" * 125],
        fragments,
        [b"e" * 126, "", b"f" * 65536],
        frame(CLOSE, b"\x03\xe8"),
    ]
    assert (lane.passed, lane.too_big, lane.close_seen) == (1, None, True)


@pytest.mark.parametrize("step", STEPS)
def test_a_message_over_the_limit_is_dropped_with_all_data_after_it(step: int) -> None:
    control = [frame(PING, b"p"), frame(CLOSE, b"")]
    data = frame(TEXT, b"x" * 10) + frame(TEXT, b"y" * 11) + control[0] + frame(TEXT, b"z")
    lane = FrameLane(10)
    assert fed(lane, data + control[1], step) == [["x" * 10], b"".join(control)]
    assert (lane.too_big, lane.passed, lane.close_seen) == (11, 0, True)


@pytest.mark.parametrize("step", STEPS)
def test_fragments_are_counted_together(step: int) -> None:
    first = frame(TEXT, b"x" * 6, final=False)
    fits, over = frame(CONTINUATION, b"y" * 4), frame(CONTINUATION, b"z" * 5)
    lane = FrameLane(10)
    parts = fed(lane, first + fits + first + over + frame(TEXT, b"later"), step)
    assert parts == [first + fits + first]
    assert (lane.too_big, lane.passed) == (11, 1)


@pytest.mark.parametrize("step", STEPS)
def test_after_our_close_only_the_close_frame_passes(step: int) -> None:
    lane = FrameLane(1000)
    lane.close()
    close = frame(CLOSE, b"\x03\xe8")
    data = frame(PING, b"p") + frame(TEXT, b"late") + frame(BINARY, b"l" * 2000) + close
    assert fed(lane, data + frame(PING, b"q"), step) == [close]
    assert (lane.too_big, lane.close_seen) == (None, True)
