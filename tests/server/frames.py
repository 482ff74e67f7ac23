"""Frames as a client sends them, made by hand."""

from __future__ import annotations

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """One frame, masked with zeroes so that the payload stays readable."""
    first = opcode | (0x80 if final else 0)
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes([first, mask_bit | len(payload)])
    elif len(payload) < 65536:
        head = bytes([first, mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        head = bytes([first, mask_bit | 127]) + len(payload).to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload
