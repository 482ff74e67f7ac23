"""WebSocket frames: the usual ones lifted out in one loop, the others left to the library.

A sensor sends whole messages, one frame each. The library that keeps the protocol needs 20-40 µs
for one, this module 0.4, so `FrameLane` takes each read first. It lifts text and binary messages
of one frame (RFC 6455 section 5.2), masked (5.3), the text being UTF-8 (8.1). Everything else
comes out as the bytes it came in, in its place between the lifted messages: control frames (5.5),
fragmented messages (5.4) with all their frames.

- **Judging is the library's.** From the first frame on that breaks the RFC (reserved bits or
  opcode, no mask, a longer length than needed or 2^63 and more, a control frame in fragments or
  of more than 125 bytes, a continuation of nothing, a new message within a fragmented one, text
  that is not UTF-8) everything passes untouched. The library alone looks at UTF-8 in fragments
  and into close frames; where it stops there, `FrameLane.passed` counts what it never gives out.
- **Limits.** A message has at most ``limit`` bytes, all fragments together, in at most `FRAMES_MAX`
  frames. A frame that goes over is dropped, judged by its header and never held, and so is every
  data frame after it: `FrameLane.too_big`. The protocol promises that what was accepted before is
  committed and acked first; the library would close at once.
- **Closing.** After our own close (`FrameLane.close`) only the peer's close frame passes: a ping
  makes trio-websocket raise (its issue 184). After the peer's close nothing does (5.5.1).
- **Turns.** `feed` stops before the frame after `TURN_FRAMES` that were not lifted; `go_on` does
  the next of them (`FrameLane.is_behind`). A read of 64 KiB holds 11,000 empty pings.
- **Memory.** Held is at most one frame that will be lifted, ``limit`` + 14 bytes, and an eighth.
  Nothing is allocated for what a header merely claims. What passes, or is dropped, is not held.

Frames that are all alike are lifted by `frame_runs`. Where the time goes otherwise, per text of 71
bytes in reads of 64 KiB (0.38 µs in all; binary 0.33): a third in slicing out mask and payload, a
fifth in `apply_mask`, an eighth in decoding, the rest in the loop. 200 bytes: 0.5 µs; 7 KB: 1.3
(text 2); one message alone in a read: 1.0, in two reads: 3; 1 MiB in 16 reads: 85. Without the C
module 71 bytes cost 1.05 µs, and each further one 1.9 ns.
A ping or a fragment costs 1.5-1.7 µs here, and 8 and more in the library.
"""

from __future__ import annotations

from enum import Enum
from io import BytesIO
from itertools import groupby

from edge_agent.wire.frame_runs import lift_run
from edge_agent.wire.long_text import text_of

try:
    from websockets.speedups import apply_mask
except ImportError:  # Built without its C module.
    from websockets.utils import apply_mask

#: Frames of one message. A mebibyte in pieces of 256 bytes has as many; each costs the library
#: 8 µs and up to 100 bytes, empty or not, so that a message costs 35 ms and 0.4 MB beside its size.
FRAMES_MAX = 4096
#: Frames not lifted that `FrameLane.feed` looks at in one go.
TURN_FRAMES = 64

_CONTINUATION, _TEXT, _BINARY, _CONTROL, _CLOSE = 0x0, 0x1, 0x2, 0x8, 0x8
_OPCODES = frozenset((_CONTINUATION, _TEXT, _BINARY, _CLOSE, 0x9, 0xA))
_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_WHOLE_TEXT, _WHOLE_BINARY = _FINAL | _TEXT, _FINAL | _BINARY
#: The greatest length that the second byte of a header says itself.
_SHORT_MAX = 125
#: Otherwise it says how many bytes of length follow.
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_NO_MASK = bytes(4)

Part = list[str | bytes] | bytes
"""Lifted messages, or bytes for the library."""


class _Mode(Enum):
    """What happens to the next frame."""

    LIFT = "whole messages are lifted"
    FRAGMENTS = "within a fragmented message: all passes"
    TOO_BIG = "data frames are dropped, control frames pass"
    CLOSING = "all is dropped but the peer's close frame"
    CLOSED = "all is dropped"
    FAULTY = "all passes, whatever it is"


class FrameLane:
    """One connection's frames, those from a client to a server.

    Args:
        limit: bytes that one data message may have, all its fragments together.

    Attributes:
        too_big: bytes that the offending message had reached (no more than ``limit`` where it had
            too many frames), None while there is none. From then on no data comes any more.
        passed: whole data messages that have passed as bytes.
        marks: for each list of the last `feed`, what ``passed`` was before it: so many the library
            must have given out before the list's turn comes.
        close_seen: whether the peer's close frame has passed.
        looked_at: frames of the last `feed` or `go_on` that were not lifted.
    """

    def __init__(self, limit: int) -> None:
        self.too_big: int | None = None
        self.passed = 0
        self.marks: list[int] = []
        self.close_seen = False
        self.looked_at = 0
        # What `feed` was given and has not looked at yet.
        self._unread = b""
        self._limit = limit
        self._mode = _Mode.LIFT
        # What is held of a frame, and how much it lacks; 0 where not even its header is whole.
        self._held: BytesIO | None = None
        self._missing = 0
        # The frame that passes, or is dropped: its first byte, how many bytes are still to come.
        self._first = self._left = 0
        self._passing = False
        # The message: bytes and frames so far.
        self._size = self._frames = 0

    def close(self) -> None:
        """Our own close begins: from the next frame on only the peer's close frame passes."""
        if self._mode in (_Mode.FAULTY, _Mode.CLOSED):
            return
        self._mode = _Mode.CLOSING
        if self._missing:
            self._drop(self._missing)
            self._held, self._missing = None, 0

    def feed(self, data: bytes) -> list[Part]:
        """What came: lifted messages and bytes, in order, neighbours of one kind joined."""
        parts: list[Part] = []
        self.marks = []
        self.looked_at = 0
        if self._held is None:
            self._scan(data, 0, parts)
        else:
            self._take_up(self._held, data, parts)
        return parts if len(parts) < 2 else _joined(parts)

    @property
    def is_behind(self) -> bool:
        """Whether there is more of what was fed: `go_on`, and nothing else, comes next."""
        return bool(self._unread)

    def go_on(self) -> list[Part]:
        """The next of what was fed, as `feed` gives it."""
        data, self._unread = self._unread, b""
        return self.feed(data)

    def _take_up(self, held: BytesIO, data: bytes, parts: list[Part]) -> None:
        """Go on where a frame lacked something."""
        missing = self._missing
        if missing > len(data):
            held.write(data)
            self._missing -= len(data)
            return
        self._held, self._missing = None, 0
        if missing == 0:
            self._scan(held.getvalue() + data, 0, parts)
            return
        # The frame by itself, so that the read behind it need not be copied.
        held.write(data[:missing])
        self._scan(held.getvalue(), 0, parts)
        self._scan(data, missing, parts)

    def _lift(self, data: bytes, at: int, messages: list[str | bytes]) -> int:
        """Lift whole messages from ``at`` on; where the first frame begins that is none."""
        end, limit = len(data), self._limit
        append, unmask, no_mask = messages.append, apply_mask, _NO_MASK
        last = end - 6  # A longer header that is cut says a wrong length, but one beyond the end.
        at = lift_run(data, at, limit, messages)
        while at <= last:
            length = data[at + 1] - _MASKED
            if 0 <= length <= _SHORT_MAX:
                start = at + 6
            elif length == _TWO_BYTES:
                start = at + 8
                length = data[at + 2] << 8 | data[at + 3]
                if length <= _SHORT_MAX:
                    break
            elif length == _EIGHT_BYTES:
                start = at + 14
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                if length < 1 << 16:
                    break
            else:
                break
            stop = start + length
            if stop > end or length > limit:
                break
            first = data[at]
            mask = data[start - 4 : start]
            payload = data[start:stop] if mask == no_mask else unmask(data[start:stop], mask)
            if first == _WHOLE_BINARY:
                append(payload)
            elif first == _WHOLE_TEXT:
                try:
                    append(text_of(payload))
                except UnicodeDecodeError:
                    break
            else:
                break
            at = stop
        return at

    def _scan(self, data: bytes, at: int, parts: list[Part]) -> None:
        """Everything from ``at`` on, frame by frame."""
        end = len(data)
        while at < end:
            if self._left:
                stop = min(at + self._left, end)
                if self._passing:
                    parts.append(data[at:stop])
                self._left -= stop - at
                at = stop
                if self._left == 0 and self._passing:
                    self._has_passed()
                continue
            if self._mode is _Mode.LIFT:
                before = parts[-1] if parts else None
                messages = before if isinstance(before, list) else []
                at = self._lift(data, at, messages)
                if messages and messages is not before:
                    parts.append(messages)
                    self.marks.append(self.passed)
                if at == end:
                    return
            if self._mode is _Mode.CLOSED:
                return
            if self._mode is _Mode.FAULTY:
                parts.append(data[at:])
                return
            if self.looked_at == TURN_FRAMES:
                self._unread = data[at:]
                return
            self.looked_at += 1
            if not self._begin(data, at):
                self._held = BytesIO()
                self._held.write(memoryview(data)[at:])
                return

    def _begin(self, data: bytes, at: int) -> bool:
        """Judge a frame that was not lifted; False to hold it until there is more of it."""
        here = len(data) - at
        if here < 2:
            return False
        first, second = data[at], data[at + 1]
        opcode, length, header = first & 0x0F, second & ~_MASKED, 6
        is_faulty = first & _RESERVED or opcode not in _OPCODES or second < _MASKED
        if is_faulty or (opcode & _CONTROL and (first < _FINAL or length > _SHORT_MAX)):
            self._mode = _Mode.FAULTY
            return True
        if length > _SHORT_MAX:
            header, least = (8, _SHORT_MAX + 1) if length == _TWO_BYTES else (14, 1 << 16)
            if here < header - 4:
                return False
            length = int.from_bytes(data[at + 2 : at + header - 4], "big")
            if not least <= length < 1 << 63:
                self._mode = _Mode.FAULTY
                return True
        if here < header:
            return False
        self._first = first
        if opcode & _CONTROL:
            self._left = header + length
            self._passing = opcode == _CLOSE or self._mode is not _Mode.CLOSING
            return True
        return self._begin_data(length, header + length, here)

    def _begin_data(self, length: int, whole: int, here: int) -> bool:
        """The same for a data frame of ``whole`` bytes, of which ``here`` are there."""
        if self._mode not in (_Mode.LIFT, _Mode.FRAGMENTS):
            self._drop(whole)
            return True
        is_first, is_last = self._mode is _Mode.LIFT, self._first >= _FINAL
        if is_first == (self._first & 0x0F == _CONTINUATION):
            self._mode = _Mode.FAULTY
            return True
        self._size = length + (0 if is_first else self._size)
        self._frames = 1 + (0 if is_first else self._frames)
        if self._size > self._limit or self._frames > FRAMES_MAX:
            self._mode, self.too_big = _Mode.TOO_BIG, self._size
            self._drop(whole)
        elif is_first and is_last:
            # A whole message that was not lifted: some of it is missing, or it is no UTF-8.
            if here < whole:
                self._missing = whole - here
                return False
            self._mode = _Mode.FAULTY
        else:
            self._mode = _Mode.LIFT if is_last else _Mode.FRAGMENTS
            self._left, self._passing = whole, True
        return True

    def _drop(self, size: int) -> None:
        self._left, self._passing = size, False

    def _has_passed(self) -> None:
        if self._first == _FINAL | _CLOSE:
            self.close_seen = True
            self._mode = _Mode.CLOSED
        elif self._first == _FINAL | _CONTINUATION:
            self.passed += 1


def _joined(parts: list[Part]) -> list[Part]:
    """Bytes that follow one another become one; two lists never do."""
    return [
        b"".join(run) if kind is bytes else next(run)  # type: ignore[arg-type]  # all are bytes
        for kind, run in groupby(parts, type)
    ]
