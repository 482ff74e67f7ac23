"""Frames as a client sends them, right or wrong, and what a lane makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from websockets.utils import apply_mask

from edge_agent.wire.frames import FrameLane, Part

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = b"\x11\x22\x33\x44"
#: Bytes fed at a time; the last is more than any test sends.
STEPS = [1, 2, 3, 7, 64, 1 << 21]


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    key: bytes | None = KEY,
    reserved: int = 0,
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """One frame. ``key`` None: unmasked; ``length_bytes`` 0, 2 or 8, else as few as needed;
    ``length`` is what the header says of itself.
    """
    if length is None:
        length = len(payload)
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    masked = b"" if key is None else key
    head = bytes([opcode | reserved | (0x80 if final else 0), short | (0x80 if masked else 0)])
    head += length.to_bytes(length_bytes, "big") if length_bytes else b""
    return head + masked + (apply_mask(payload, masked) if masked else payload)


def cut(data: bytes, sizes: Sequence[int]) -> Iterable[bytes]:
    """``data`` in pieces of these sizes, over and over."""
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at += size
        turn += 1


def fed_whole(lane: FrameLane, data: bytes) -> Iterator[Part]:
    """All parts of one read, however many goes they take."""
    yield from lane.feed(data)
    while lane.is_behind:
        yield from lane.go_on()


def fed(lane: FrameLane, data: bytes, *sizes: int) -> list[Part]:
    """What comes out of all pieces together."""
    return joined(part for piece in cut(data, sizes) for part in fed_whole(lane, piece))


def joined(parts: Iterable[Part]) -> list[Part]:
    """The same parts, neighbours of one kind as one."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if type(last) is type(part):
            whole[-1] = last + part  # type: ignore[operator]  # both are lists, or bytes
        else:
            whole.append(part)
    return whole
