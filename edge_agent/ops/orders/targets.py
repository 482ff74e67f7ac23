"""Where a consumer is to go, as people say it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_agent.forward import LogRange
from edge_agent.live.moments import parse_moment

_SEQ = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """What is to be sent next: a seq, or what was measured at a time, which the store finds."""

    seq: int | None = None
    time_ns: int = 0


def target_of(text: str, lines: LogRange, now_ns: int) -> MoveTarget:
    """From ``start``, ``end``, a seq or a time. Raises ProtocolError where it is none of these."""
    if text == "start":
        return MoveTarget(lines.first)
    if text == "end":
        return MoveTarget(lines.last + 1)
    if _SEQ.fullmatch(text):
        return MoveTarget(int(text))
    return MoveTarget(None, parse_moment(text, now_ns, what="to"))
