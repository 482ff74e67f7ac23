"""The frame lane against wsproto: nobody can tell whether the lane was there.

A reference reads every byte with wsproto; beside it wsproto reads only what the lane leaves, and
what the lane lifts is put in between. Both must have seen the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from wsproto.connection import SERVER, Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from edge_agent.wire.frames import FrameLane, Part
from tests.wire.framing import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, cut, frame

#: More than any header can say, so that wsproto, which knows no limit, sees the same.
NO_LIMIT = 1 << 64
Seen = list[tuple[object, ...]]


class Reader:
    """What wsproto sees: messages, pings, pongs, and one end, the peer's close or a violation."""

    def __init__(self) -> None:
        self.seen: Seen = []
        self.is_over = False
        self.messages = 0
        self._connection = Connection(SERVER)
        self._message: str | bytes | None = None

    def feed(self, data: bytes) -> None:
        if self.is_over:
            return
        self._connection.receive_data(data)
        for each in self._connection.events():
            if isinstance(each, TextMessage | BytesMessage):
                self._piece(each)
            elif isinstance(each, Ping | Pong):
                self.seen.append((type(each).__name__, bytes(each.payload)))
            else:
                assert isinstance(each, CloseConnection)
                self.is_over = True
                closed = self._connection.state is ConnectionState.REMOTE_CLOSING
                self.seen.append(
                    ("closed", each.code, each.reason) if closed else ("violation", each.code)
                )

    def _piece(self, each: TextMessage | BytesMessage) -> None:
        data = each.data if isinstance(each, TextMessage) else bytes(each.data)
        so_far = self._message
        self._message = data if so_far is None else so_far + data  # type: ignore[operator]  # of one kind
        if each.message_finished:
            self.seen.append(("message", self._message))
            self._message = None
            self.messages += 1


def through_wsproto(data: bytes) -> Reader:
    reader = Reader()
    reader.feed(data)
    return reader


def through_lane(lane: FrameLane, pieces: Iterable[bytes]) -> Reader:
    reader = Reader()
    for piece in pieces:
        take_in(reader, lane.feed(piece), lane.marks)
        while lane.is_behind:
            take_in(reader, lane.go_on(), lane.marks)
    return reader


def take_in(reader: Reader, parts: list[Part], told: list[int]) -> None:
    marks = iter(told)
    for part in parts:
        if isinstance(part, bytes):
            reader.feed(part)
            continue
        mark = next(marks)
        if not reader.is_over:
            assert reader.messages == mark
            reader.seen += [("message", message) for message in part]
    assert next(marks, None) is None


def unfinished_text(data: bytes) -> int:
    """Where the whole text message begins that ``data`` ends within; its length without one."""
    at = 0
    while len(data) - at >= 2:
        length, header = data[at + 1] & 0x7F, 2
        if length > 125:
            header = 4 if length == 126 else 10
            length = int.from_bytes(data[at + 2 : at + header], "big")
        stop = at + header + 4 + length
        if stop > len(data):
            return at if data[at] == 0x80 | TEXT else len(data)
        at = stop
    return len(data)


keys = st.sampled_from([bytes(4), b"\x11\x22\x33\x44", b"\xff\x00\x80\x7f"])
lengths = st.one_of(
    st.integers(0, 20), st.sampled_from([124, 125, 126, 127]), st.sampled_from([65535, 65536])
)
binaries = st.builds(
    lambda size, seed: (seed * (size // 3 + 1))[:size], lengths, st.binary(min_size=3, max_size=3)
)
texts = st.one_of(
    st.text(max_size=12),
    st.builds(lambda size: "ä€😀x" * (size // 10) + "y" * (size % 10), lengths),
)
close_payloads = st.one_of(
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        st.sampled_from([1000, 1001, 1007, 1005, 1006, 1016, 3000, 4999, 5000, 999, 0]),
        st.one_of(st.just(b""), st.binary(max_size=4), st.just("bye ä".encode())),
    ),
    st.sampled_from([b"", b"x"]),
)
controls = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), key=keys)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A message in pieces, cut anywhere, also within a character, with pings in between."""
    is_text = draw(st.booleans())
    payload = draw(texts).encode() if is_text else draw(binaries)
    at = draw(st.lists(st.integers(0, len(payload)), max_size=4).map(sorted))
    pieces = [payload[a:b] for a, b in zip([0, *at], [*at, len(payload)], strict=True)]
    stream = b""
    for index, piece in enumerate(pieces):
        opcode = CONTINUATION if index else TEXT if is_text else BINARY
        final = index == len(pieces) - 1
        stream += frame(opcode, piece, final=final, key=draw(keys))
        stream += b"" if final else draw(st.one_of(st.just(b""), controls))
    return stream


#: One fault each.
FAULTS = {
    "reserved bit 1": frame(TEXT, b"x", reserved=0x40),
    "reserved bit 3": frame(BINARY, b"x", reserved=0x10),
    "reserved bit 2 of a ping": frame(PING, b"x", reserved=0x20),
    "reserved data opcode": frame(0x3, b"x"),
    "reserved control opcode": frame(0xB, b"x"),
    "unmasked text": frame(TEXT, b"unmasked", key=None),
    "unmasked ping": frame(PING, b"unmasked", key=None),
    "11 in two bytes": frame(TEXT, b"long length", length_bytes=2),
    "125 in two bytes": frame(BINARY, b"x" * 125, length_bytes=2),
    "200 in eight bytes": frame(BINARY, b"x" * 200, length_bytes=8),
    "65535 in eight bytes": frame(BINARY, b"x" * 65535, length_bytes=8),
    "2^63 bytes": frame(BINARY, b"x", length_bytes=8, length=1 << 63),
    "2^64 - 1 bytes": frame(TEXT, b"x", length_bytes=8, length=(1 << 64) - 1),
    "ping in fragments": frame(PING, b"x", final=False),
    "close in fragments": frame(CLOSE, final=False),
    "ping of 126 bytes": frame(PING, b"x" * 126),
    "close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "the end of nothing": frame(CONTINUATION, b"x"),
    "continuation of nothing": frame(CONTINUATION, b"x", final=False),
    "message in a message": frame(TEXT, b"x", final=False) + frame(TEXT, b"x"),
    "fragments in fragments": frame(BINARY, final=False) + frame(BINARY, final=False),
    "text is no UTF-8": frame(TEXT, b"\xff"),
    "text with a surrogate": frame(TEXT, b"\xed\xa0\x80"),
    "text ends in a character": frame(TEXT, b"y" * 200 + b"\xc3"),
    "fragment is no UTF-8": frame(TEXT, b"x\xc3", final=False) + frame(CONTINUATION, b"x"),
    "fragments end in a character": frame(TEXT, b"\xc3", final=False) + frame(CONTINUATION),
}
sound = st.one_of(
    st.builds(lambda text, key: frame(TEXT, text.encode(), key=key), texts, keys),
    st.builds(lambda data, key: frame(BINARY, data, key=key), binaries, keys),
    fragmented(),
    controls,
)
closes = st.builds(lambda payload, key: frame(CLOSE, payload, key=key), close_payloads, keys)
sequences = st.builds(
    lambda before, odd, after: b"".join([*before, *odd, *after]),
    st.lists(sound, max_size=6),
    st.lists(
        st.one_of(closes, st.sampled_from(list(FAULTS.values())), st.binary(max_size=30)),
        max_size=1,
    ),
    st.lists(sound, max_size=3),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames, and what a broken peer or line makes of them."""
    stream = bytearray(draw(sequences))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(stream)))
        change = draw(st.sampled_from(["flip", "end", "insert", "delete"]))
        if change == "flip" and at < len(stream):
            stream[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "end":
            del stream[at:]
        elif change == "insert":
            stream[at:at] = draw(st.binary(max_size=20))
        elif change == "delete":
            del stream[at : at + draw(st.integers(1, 20))]
    return bytes(stream)


cuts = st.one_of(
    st.just([1 << 20]),
    # Now and then a large piece, or a message of 64 KiB would take wsproto seconds.
    st.lists(st.integers(1, 12), min_size=1, max_size=5).map(lambda sizes: [*sizes * 20, 9000]),
    st.lists(st.sampled_from([1, 5, 70, 131, 4096, 65535, 65544, 65536]), min_size=1, max_size=5),
)


def check(stream: bytes, sizes: list[int]) -> str:
    """Both ways; how it ended."""
    lane = FrameLane(NO_LIMIT)
    beside = through_lane(lane, cut(stream, sizes))
    alone = through_wsproto(stream)
    if beside.seen != alone.seen and alone.seen[-1] == ("violation", 1007):
        # wsproto finds the fault before the message is whole. The lane will let it, then.
        alone = through_wsproto(stream[: unfinished_text(stream)])
    assert beside.seen == alone.seen
    assert lane.too_big is None
    end = alone.seen[-1][0] if alone.is_over else "open"
    if end != "violation":
        assert lane.passed == beside.messages
        assert lane.close_seen == (end == "closed")
    return str(end)


@settings(max_examples=250)
@given(streams(), cuts)
def test_nobody_can_tell_that_the_lane_is_there(stream: bytes, sizes: list[int]) -> None:
    event(f"end: {check(stream, sizes)}")


@settings(max_examples=60)
@given(st.lists(sound, max_size=10).map(b"".join), cuts)
def test_nor_where_nothing_is_wrong(stream: bytes, sizes: list[int]) -> None:
    assert check(stream, sizes) == "open"


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x00, 0x89, 0x88, 0xC1]),
                st.sampled_from([0x80, 0x81, 0x84, 0xFE, 0xFF, 0x01]),
            ).map(bytes),
            st.binary(max_size=12),
            st.just(bytes(8)),
        ),
        max_size=12,
    ).map(b"".join),
    cuts,
)
def test_nor_in_bytes_that_look_a_little_like_frames(stream: bytes, sizes: list[int]) -> None:
    check(stream, sizes)


@pytest.mark.parametrize("sizes", [[1], [5, 3], [1 << 20]])
@pytest.mark.parametrize("fault", FAULTS)
def test_wsproto_tells_every_fault_and_nothing_is_lifted_behind_it(
    fault: str, sizes: list[int]
) -> None:
    stream = frame(TEXT, b"before") + FAULTS[fault] + frame(TEXT, b"behind")
    assert check(stream, sizes) == "violation"
    lane = FrameLane(NO_LIMIT)
    beside = through_lane(lane, cut(stream, sizes))
    assert [each[0] for each in beside.seen] == ["message", "violation"]
    if lane.passed == 0:
        # The lane has seen it too (all but the last two), so even what is sound passes now.
        assert lane.feed(frame(TEXT, b"behind")) == [frame(TEXT, b"behind")]
    else:
        assert "fragment" in fault
