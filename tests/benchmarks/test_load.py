"""What the load sends is what RFC 6455 asks for, and is never what limits a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from benchmarks.ingest_runs import sink_run
from benchmarks.load import Task, frames, payloads, receiver
from benchmarks.pump import Flow


def unframed(data: bytes) -> list[bytes]:
    """The messages in ``data``, as a library that nobody here wrote reads them on a server."""
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(data)
    found = [frame.payload for frame in protocol.received_frames()]
    return [bytes(payload) for payload in found if isinstance(payload, (bytes, bytearray))]


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_frames_are_read_by_another_implementation(bodies: list[bytes]) -> None:
    assert unframed(frames(bodies)) == bodies


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_frames_of_all_three_kinds_of_length_are_read_by_it_too(size: int) -> None:
    assert unframed(frames([b"a" * size, b"b"])) == [b"a" * size, b"b"]


def test_text_frames_are_text_and_whole() -> None:
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(frames([b'{"t": 1}'], text=True))

    (frame,) = protocol.received_frames()

    assert frame.opcode is Opcode.TEXT and frame.message_finished and frame.payload == '{"t": 1}'


def test_every_frame_has_a_key_of_its_own() -> None:
    data = frames([bytes(10)] * 1000)
    keys = {data[at + 2 : at + 6] for at in range(0, len(data), 16)}

    assert len(keys) > 990
    # A key of zeros would be no mask; what is masked with it is zero here, so the key shows.
    assert data[6:16] == (data[2:6] * 3)[:10]


@given(st.lists(st.integers(0, 200), max_size=4), st.integers(0, 500))
def test_answers_are_taken_whole_wherever_the_stream_was_cut(sizes: list[int], cut: int) -> None:
    stream = b"".join(
        (bytes([0x81, size]) if size < 126 else bytes([0x81, 126, 0, size])) + b"x" * size
        for size in sizes
    )
    found, rest = payloads(stream[:cut])
    more, rest = payloads(rest + stream[cut:])

    assert [len(payload) for payload in found + more] == sizes and rest == b""


def test_a_close_of_the_agent_is_no_answer() -> None:
    with pytest.raises(ConnectionError, match="closed by the agent"):
        payloads(b"\x88\x02\x03\xe8")


def server_frame(message: dict[str, object]) -> bytes:
    body = json.dumps(message).encode()
    return bytes([0x81, len(body)]) + body


def test_an_ack_moves_what_is_acked_and_may_change_the_window(flow: Flow) -> None:
    take = receiver(100)
    data = server_frame(
        {"type": "ack", "next": 107, "window": {"records": 5, "bytes": 99}}
    ) + server_frame({"type": "ack", "next": 108})

    take(flow, data[:20])
    assert flow.acked == 0
    take(flow, data[20:])

    assert (flow.acked, flow.window, flow.window_bytes) == (8, 5, 99)


@pytest.mark.parametrize("kind", ["nack", "stop"])
def test_anything_but_an_ack_ends_the_run(flow: Flow, kind: str) -> None:
    with pytest.raises(ConnectionError, match=kind):
        receiver(1)(flow, server_frame({"type": kind, "at": 1}))


@pytest.mark.parametrize("connections", [1, 3, 7])
def test_connections_share_all_records_and_begin_at_different_ones(connections: int) -> None:
    task = Task(port=0, records=100, connections=connections)

    bodies = [task.bodies(index) for index in range(connections)]

    assert sum(map(len, bodies)) == 100
    assert len({tuple(body) for body in bodies}) == connections


def test_the_load_alone_is_faster_than_any_figure_it_may_show(tmp_path: Path) -> None:
    row = sink_run(tmp_path, records=100_000, connections=4)

    assert row.records == 100_000
    # In its own processor time, as this machine may be busy; on a quiet one it is 0.02 us.
    assert row.cpu_seconds / row.records < 0.4e-6
