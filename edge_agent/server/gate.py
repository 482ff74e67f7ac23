"""The frame gate: follows WebSocket frames by their headers and holds back what must not pass.

trio-websocket keeps the protocol; the gate stands in front of it and knows only where frames
begin and end (RFC 6455 section 5.2). It exists for two things that trio-websocket cannot do:

- A message over the limit. trio-websocket would close with 1009 at once; PROTOCOL promises that
  what was accepted before is committed and acked first. The gate drops the frame that goes over,
  and every data frame after it, and says so in `FrameGate.too_big`.
- Our own close. A ping that follows our close frame makes trio-websocket raise (upstream #184),
  so from `FrameGate.close` on only the peer's close frame passes.

A frame that began to pass, passes whole; a frame that began to be dropped, is dropped whole.
Anything malformed passes untouched: judging it is trio-websocket's job. No I/O in here.
"""

from __future__ import annotations

_CONTINUATION, _CLOSE = 0x0, 0x8
_CONTROL = 0x8
_FINAL = 0x80
_MASKED = 0x80


class FrameGate:
    """One connection's gate.

    Args:
        limit: bytes that one data message may have, all its fragments together.

    Attributes:
        too_big: size in bytes that the offending message had reached, None while there is none.
        messages: whole data messages that have passed, so that the other side of the library knows
            when it has got all that came before the big one.
        close_seen: whether the peer's close frame has passed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = b""  # an incomplete frame header, 13 bytes at most
        self._payload_left = 0
        self._passing = True
        self._message = 0
        self._closing = False
        self.too_big: int | None = None
        self.messages = 0
        self.close_seen = False

    def close(self) -> None:
        """From the next frame on, only close frames pass."""
        self._closing = True

    def feed(self, data: bytes) -> bytes:
        """What of ``data`` (and of bytes held before) may pass on now; maybe nothing."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, passed_from, end = 0, 0, len(data)
        while at < end:
            if self._payload_left == 0:
                header = self._begin_frame(data, at)
                if header == 0:
                    self._held = data[at:]
                    end = at
                    break
                if not self._passing:
                    pieces.append(data[passed_from:at])
                at += header
                if not self._passing:
                    passed_from = at
            step = min(self._payload_left, end - at)
            self._payload_left -= step
            at += step
            if not self._passing:
                passed_from = at
        if not pieces and passed_from == 0 and end == len(data):
            return data
        pieces.append(data[passed_from:end])
        return b"".join(pieces)

    def _begin_frame(self, data: bytes, at: int) -> int:
        # Reads the header at ``at``; answers its length, or 0 where it is not whole yet.
        if len(data) - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        size, length = 2, second & 0x7F
        if length >= 126:
            size = 4 if length == 126 else 10
            if len(data) - at < size:
                return 0
            length = int.from_bytes(data[at + 2 : at + size], "big")
        if second & _MASKED:
            size += 4
        if len(data) - at < size:
            return 0
        self._judge(first, length)
        self._payload_left = length
        return size

    def _judge(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        if opcode & _CONTROL:
            if opcode == _CLOSE:
                self.close_seen = True
            self._passing = opcode == _CLOSE or not self._closing
            return
        self._message = length + (self._message if opcode == _CONTINUATION else 0)
        if self._message > self._limit and self.too_big is None:
            self.too_big = self._message
        self._passing = self.too_big is None and not self._closing
        if first & _FINAL:
            self._message = 0
            self.messages += self._passing
