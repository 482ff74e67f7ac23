"""What the agent sends to the process that answers; `edge_agent.answering` says how."""

from __future__ import annotations

from msgspec import Struct

from edge_agent.history.format.segment import Segment
from edge_agent.history.question import Question

#: Before each frame, in either direction.
LENGTH_BYTES = 4


class Ask(Struct, array_like=True, frozen=True):
    """A question, the streams that it is about (name, number), and what of them is not in the file
    as of the flush ``flushes``.
    """

    number: int
    question: Question
    form: str
    unix: bool
    streams: list[tuple[str, int]]
    tail: dict[str, list[tuple[int, Segment]]]
    flushes: int
    seconds: float
