"""Frames from a server to a client (RFC 6455 section 5.2): whole and unmasked."""

from __future__ import annotations

from edge_agent.wire.long_text import LongText

_TEXT, _BINARY, _CLOSE = 0x81, 0x82, 0x88
#: The greatest length that the second byte of a header says itself.
_SHORT_MAX = 125
#: Otherwise it says how many bytes of length follow.
_TWO_BYTES, _EIGHT_BYTES = 126, 127
#: A close frame has 125 bytes at most, two of them its code.
_REASON_BYTES = _SHORT_MAX - 2


def data_frame(message: str | bytes) -> bytes:
    """One whole message, from a server to a client."""
    if isinstance(message, str):
        return _frame(_TEXT, message.encode())
    if isinstance(message, LongText):
        return _frame(_TEXT, message)
    return _frame(_BINARY, message)


def close_frame(code: int, reason: str) -> bytes:
    """A server's close; a reason that is too long loses its end."""
    return _frame(_CLOSE, code.to_bytes(2, "big") + cut_reason(reason).encode())


def cut_reason(reason: str) -> str:
    """As much of a close frame's reason as there is room for (RFC 6455 section 5.5)."""
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length <= _SHORT_MAX:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return bytes((first, _TWO_BYTES)) + length.to_bytes(2, "big") + payload
    return bytes((first, _EIGHT_BYTES)) + length.to_bytes(8, "big") + payload
