"""The frame gate: every cut of the bytes gives the same frames."""

from __future__ import annotations

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from edge_agent.server.gate import FrameGate


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """One frame as a client sends it, masked with zeroes so that the payload stays readable."""
    first = opcode | (0x80 if final else 0)
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes([first, mask_bit | len(payload)])
    elif len(payload) < 65536:
        head = bytes([first, mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        head = bytes([first, mask_bit | 127]) + len(payload).to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload


TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9


def through(gate: FrameGate, data: bytes, step: int) -> bytes:
    return b"".join(gate.feed(data[at : at + step]) for at in range(0, len(data), step))


SIZES = [1, 2, 3, 7, 64, 1 << 20]


@pytest.mark.parametrize("step", SIZES)
def test_frames_within_the_limit_pass_untouched_however_they_are_cut(step: int) -> None:
    data = (
        frame(TEXT, b"a" * 10)
        + frame(PING, b"p")
        + frame(BINARY, b"b" * 200)
        + frame(BINARY, b"c" * 70_000)
        + frame(TEXT, b"d", final=False)
        + frame(PING, b"")
        + frame(CONTINUATION, b"e")
        + frame(TEXT, b"")
        + frame(CLOSE, b"\x03\xe8")
    )
    gate = FrameGate(70_000)
    assert through(gate, data, step) == data
    assert gate.too_big is None
    assert gate.messages == 5
    assert gate.close_seen


@pytest.mark.parametrize("step", SIZES)
def test_a_message_over_the_limit_is_dropped_with_all_data_after_it(step: int) -> None:
    before = frame(TEXT, b"ok")
    ping, close = frame(PING, b"p"), frame(CLOSE, b"")
    data = before + frame(TEXT, b"x" * 11) + ping + frame(TEXT, b"later") + close
    gate = FrameGate(10)
    assert through(gate, data, step) == before + ping + close
    assert gate.too_big == 11
    assert gate.messages == 1


@pytest.mark.parametrize("step", SIZES)
def test_fragments_are_counted_together(step: int) -> None:
    first = frame(TEXT, b"x" * 6, final=False)
    data = first + frame(CONTINUATION, b"y" * 6) + frame(TEXT, b"z")
    gate = FrameGate(10)
    assert through(gate, data, step) == first
    assert gate.too_big == 12


def test_a_new_message_starts_counting_anew() -> None:
    gate = FrameGate(10)
    data = frame(TEXT, b"x" * 6, final=False) + frame(CONTINUATION, b"y" * 4)
    assert gate.feed(data * 2) == data * 2
    assert gate.too_big is None


@pytest.mark.parametrize("step", SIZES)
def test_after_our_close_only_a_close_frame_passes(step: int) -> None:
    gate = FrameGate(1000)
    gate.close()
    close = frame(CLOSE, b"\x03\xe8")
    assert through(gate, frame(PING, b"p") + frame(TEXT, b"late") + close, step) == close


def test_a_frame_that_began_to_pass_passes_whole() -> None:
    gate = FrameGate(1000)
    data = frame(TEXT, b"0123456789")
    assert gate.feed(data[:9]) == data[:9]
    gate.close()
    assert gate.feed(data[9:] + frame(PING, b"p")) == data[9:]


def test_unmasked_and_malformed_frames_pass_for_the_library_to_judge() -> None:
    gate = FrameGate(1000)
    data = frame(TEXT, b"unmasked", masked=False) + frame(0xB, b"reserved opcode")
    assert gate.feed(data) == data


def test_a_length_of_eight_bytes_is_dropped_without_being_held() -> None:
    gate = FrameGate(10)
    head = bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8, "big") + bytes(4)
    assert gate.feed(head + b"x" * 100_000) == b""
    assert gate.too_big == 1 << 40
    assert gate.feed(b"y" * 100_000) == b""


@pytest.mark.parametrize("step", SIZES)
def test_frames_of_the_reference_implementation_are_understood(step: int) -> None:
    peer = FrameProtocol(client=True, extensions=[])
    data = b"".join(
        [
            peer.send_data("hello", fin=True),
            peer.ping(b"x"),
            peer.send_data(b"\x00" * 65_536, fin=False),
            peer.send_data(b"\x01", fin=True),
            peer.close(1000, "bye"),
        ]
    )
    gate = FrameGate(65_537)
    passed = through(gate, data, step)
    assert passed == data
    ours = FrameProtocol(client=False, extensions=[])
    ours.receive_bytes(passed)
    opcodes = [each.opcode for each in ours.received_frames() if each.message_finished]
    assert opcodes == [Opcode.TEXT, Opcode.PING, Opcode.BINARY, Opcode.CLOSE]
