"""Frames that are all alike come out as they would one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire import frames
from edge_agent.wire.frame_runs import RUN_MIN, lift_run
from edge_agent.wire.frames import FrameLane, Part
from tests.wire.framing import BINARY, PING, TEXT, fed_whole, frame

LIMIT = 100_000
KEYS = st.binary(min_size=4, max_size=4)


def run_of(opcode: int, size: int, count: int) -> bytes:
    """Frames alike but for mask and payload."""
    return b"".join(
        frame(opcode, bytes([65 + number % 26]) * size, key=bytes([number % 256, 1, 2, 3]))
        for number in range(count)
    )


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 71, 125])
def test_a_run_is_lifted_whole(opcode: int, size: int) -> None:
    messages: list[str | bytes] = []
    data = run_of(opcode, size, 20)
    assert lift_run(data, 0, LIMIT, messages) == len(data)
    assert len(messages) == 20
    expected = b"B" * size
    assert messages[1] == (expected.decode() if opcode == TEXT else expected)


def test_a_run_ends_where_a_frame_is_another_or_not_whole() -> None:
    for tail in (frame(BINARY, b"x" * 70), frame(TEXT, b"x" * 71), frame(PING), b"\x82"):
        messages: list[str | bytes] = []
        data = b"??" + run_of(BINARY, 71, RUN_MIN) + tail
        assert lift_run(data, 2, LIMIT, messages) == 2 + RUN_MIN * 77
        assert len(messages) == RUN_MIN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x82",
        run_of(BINARY, 71, RUN_MIN - 1),
        run_of(PING, 5, 20),
        run_of(BINARY, 126, 20),
        b"".join(frame(BINARY, b"x", key=None) for _ in range(20)),
        b"".join(frame(TEXT, b"x", final=False) for _ in range(20)),
        run_of(TEXT, 3, 10) + frame(TEXT, b"\xff\xff\xff") + run_of(TEXT, 3, 10),
    ],
)
def test_what_is_no_run_is_left_alone(data: bytes) -> None:
    messages: list[str | bytes] = ["before"]
    assert lift_run(data, 0, LIMIT, messages) == 0
    assert messages == ["before"]


def test_a_run_of_messages_over_the_limit_is_none() -> None:
    messages: list[str | bytes] = []
    assert lift_run(run_of(BINARY, 71, 20), 0, 70, messages) == 0
    assert lift_run(run_of(BINARY, 71, 20), 0, 71, messages) == 20 * 77


def fed(stream: bytes, step: int) -> tuple[list[Part], int | None]:
    lane = FrameLane(1000)
    parts = [
        part
        for at in range(0, len(stream), step)
        for part in fed_whole(lane, stream[at : at + step])
    ]
    return parts, lane.too_big


RUNS = st.builds(run_of, st.sampled_from([TEXT, BINARY]), st.integers(0, 130), st.integers(1, 40))
OTHERS = st.one_of(
    st.just(frame(PING, b"p")),
    st.just(frame(TEXT, b"\xff")),
    st.just(frame(BINARY, b"x" * 1001)),
    st.just(frame(TEXT, b"a", final=False)),
    st.binary(max_size=12),
)


@given(
    pieces=st.lists(st.one_of(RUNS, RUNS, RUNS, OTHERS), max_size=6),
    flipped=st.integers(0, 20_000),
    step=st.sampled_from([50, 700, 1 << 20]),
)
def test_with_and_without_runs_the_lane_says_the_same(
    pieces: list[bytes], flipped: int, step: int
) -> None:
    stream = bytearray(b"".join(pieces))
    if flipped < len(stream):
        stream[flipped] ^= 0x81
    data = bytes(stream)
    found = fed(data, step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "lift_run", lambda data, at, limit, messages: at)
        assert found == fed(data, step)
