"""Frames as a client sends them, masked with zeroes so that the payload stays readable."""

from __future__ import annotations

from functools import partial

from tests.wire import framing
from tests.wire.framing import BINARY, CLOSE, CONTINUATION, PING, TEXT

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "TEXT", "frame"]

frame = partial(framing.frame, key=bytes(4))
