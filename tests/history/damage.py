"""Flips bytes of what history keeps: what is read then is told as damage or can be read."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import msgspec

from edge_agent.errors import StoreDamaged


def told_or_sound(raw: bytes, read: Callable[[bytes], object], *, times: int = 40) -> None:
    """``read`` what one to three flips make of ``raw``: only StoreDamaged is raised, or what
    msgspec says of the bytes where ``read`` leaves that to its caller.
    """
    choose = random.Random(len(raw))
    for _ in range(times):
        flipped = bytearray(raw)
        for _ in range(choose.randint(1, 3)):
            flipped[choose.randrange(len(raw))] ^= choose.randint(1, 255)
        with suppress(StoreDamaged, msgspec.DecodeError, UnicodeDecodeError):
            read(bytes(flipped))
